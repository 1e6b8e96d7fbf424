//! The kubeconfig in the course of a plan and an apply.

use std::collections::BTreeMap;

use picluster_engine::run::Access;
use picluster_engine::{Engine, ExitCode};
use picluster_model::NodeName;
use picluster_model::inventory::Project;
use picluster_plan::Plan;

use super::intent::{Foreseen, Intent, Read};
use crate::cli::Part;
use crate::term::Style;
use crate::{show, verbs};

/// What is wanted, what was read, and what was shown of it.
#[derive(Debug)]
pub struct Merge {
    intent: Option<Intent>,
    /// `None`: no server was asked yet.
    read: Option<Read>,
    foreseen: Foreseen,
}

impl Merge {
    /// What will be done. A part of a plan leaves the kubeconfig alone.
    #[must_use]
    pub fn foresee(project: &Project, read: Option<Read>, part: &Part) -> Self {
        let whole = part.only.is_empty() && part.except.is_empty();
        let intent = Intent::merged(project).filter(|_| whole);
        let foreseen = match (&intent, &read) {
            (Some(intent), Some(read)) => intent.foresee(read),
            (Some(intent), None) => intent.foresee(&Read::new()),
            (None, _) => Foreseen::Nothing,
        };
        Self {
            intent,
            read,
            foreseen,
        }
    }

    /// For people; nothing when nothing will be done.
    #[must_use]
    pub fn shown(&self, style: Style) -> String {
        let context = self.intent.as_ref().map_or("", |i| &i.target.context);
        show::kubeconfig::foreseen(&self.foreseen, context, style)
    }

    /// Whether something is to be written whatever the plan's steps are.
    #[must_use]
    pub fn is_due(&self) -> bool {
        matches!(self.foreseen, Foreseen::Known(_))
    }

    /// Writes it, after the plan was carried out; says so. `Some`: it should have been written and
    /// was not.
    pub async fn finish(
        self,
        engine: &Engine,
        plan: &Plan,
        access: &BTreeMap<NodeName, Access>,
        style: Style,
    ) -> Option<ExitCode> {
        let intent = self.intent?;
        let touched = plan.steps.iter().any(|s| intent.asks(&s.addr.node));
        let read = match self.read {
            Some(read) if !touched => read,
            _ => intent.read(engine, access).await,
        };
        let said = match intent.credentials(&read) {
            // No server has any: the recap has said why, when there should be some.
            Ok(None) => return None,
            Ok(Some(credentials)) => match intent.target.merge(&credentials) {
                Ok(written) => {
                    let context = &intent.target.context;
                    verbs::say(&show::kubeconfig::written(&written, context, style));
                    return None;
                }
                Err(obstacle) => show::kubeconfig::refused(&obstacle, style),
            },
            Err((node, why)) => show::kubeconfig::foreseen(
                &Foreseen::Unreadable {
                    node,
                    place: intent.place(),
                    why,
                },
                &intent.target.context,
                style,
            ),
        };
        verbs::say(&said);
        Some(ExitCode::Usage)
    }
}
