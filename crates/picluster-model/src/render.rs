//! From a role and a node to the bodies of resources: the only place templates run.
//!
//! What a template may name:
//!
//! | name | what it is |
//! |---|---|
//! | `params.NAME` | the parameters of the role; one without a value is `none` |
//! | `vars.NAME` | the variables of the node |
//! | `node` | `name`, `address`, `groups`, `labels`, `taints`, `kubernetes` (`server`, `agent` or none), `expected`, `user` (or none) |
//! | `nodes` | every node of the inventory: `name`, `address`, `groups`, `labels`, `taints`, `kubernetes`, `expected` |
//! | `groups.NAME` | the names of the nodes of a group |
//! | `cluster.name` | the name of the cluster |
//! | `kubernetes` | the `kubernetes` section (`distribution`, `version`, `minor`, `endpoint`, …), or none |
//! | `facts` | what was learnt from the node and no apply changes |
//! | `item`, `index` | in entries with `each`: the value, and its number from 0 |
//!
//! Text that is exactly one `{{ expression }}` becomes the value itself: a list stays a list.

mod asks;
mod context;
mod renderer;
mod resolve;
mod unknown;

pub use context::{ClusterContext, RenderContext};
pub(crate) use renderer::Renderer;
pub(crate) use resolve::order;

use crate::diagnostic::Diagnostic;
use crate::inventory::RoleUse;
use crate::role::{Entry, Role};
use crate::span::Span;
use crate::yaml::Yaml;

/// One resource of a role on a node, ready to become a typed resource.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedEntry {
    /// The kind, for instance `file`.
    pub kind: String,
    /// The body: all templates rendered, all secrets as placeholders. Places are those of
    /// `role.yaml`, also of values that came from elsewhere.
    pub body: Yaml,
    /// The name other entries need it by.
    pub id: Option<String>,
    /// Ids, or `kind[name]`, of what must be done before.
    pub needs: Vec<String>,
    /// Whether everything behind it waits for everything before it.
    pub barrier: bool,
    /// Whether the node takes its change back unless it is confirmed.
    pub guarded: bool,
    /// Why it is there.
    pub doc: Option<String>,
    /// The place of the entry in `role.yaml`.
    pub span: Span,
}

/// Renders the entries of `role` for one node: `when` and `each` evaluated, templates rendered.
///
/// # Errors
/// Every template or expression that fails, at its place, naming the node.
pub fn render_role(
    role: &Role,
    role_use: &RoleUse,
    context: &RenderContext,
) -> Result<Vec<RenderedEntry>, Vec<Diagnostic>> {
    let mut rendered = Vec::new();
    let mut out = Vec::new();
    each_entry(
        role,
        role_use,
        context,
        &|_| true,
        &mut |made| match made.result {
            Ok(one) => rendered.push(one),
            // The same mistake for every item is one mistake.
            Err(found) if made.index.is_some() => {
                let first = found.into_iter().next();
                out.extend(first.filter(|first| !out.contains(first)));
            }
            Err(found) => out.extend(found),
        },
    );
    if out.is_empty() {
        Ok(rendered)
    } else {
        Err(out)
    }
}

/// What became of an entry of a role.
pub(crate) struct Made<'a> {
    /// The entry; `None` when the parameters themselves are wrong.
    pub entry: Option<&'a Entry>,
    /// Which repetition it is, where there is an `each`.
    pub index: Option<usize>,
    /// The resource, or everything that is wrong.
    pub result: Result<RenderedEntry, Vec<Diagnostic>>,
}

/// Renders the entries of a role that are `wanted` (by number, from 0) one after the other. Without
/// facts, what needs them is left out.
pub(crate) fn each_entry<'a>(
    role: &'a Role,
    role_use: &RoleUse,
    context: &RenderContext,
    wanted: &dyn Fn(usize) -> bool,
    take: &mut dyn FnMut(Made<'a>),
) {
    let mut out = Vec::new();
    let params = resolve::params(role, role_use, context, &mut out);
    if !out.is_empty() {
        take(Made {
            entry: None,
            index: None,
            result: Err(out),
        });
        return;
    }
    let base = context.with_params(&params);
    let renderer = Renderer {
        engine: &role.engine,
        node: context.node(),
        files: Some(role),
        watch: base.watch.as_ref(),
        curious: base.asked.is_some(),
    };
    for (number, entry) in role.entries.iter().enumerate() {
        if !wanted(number) {
            continue;
        }
        let mut give = |index, result: Attempt| {
            if let Some(result) = result.transpose() {
                take(Made {
                    entry: Some(entry),
                    index,
                    result,
                });
            }
        };
        if let Err(found) = one(entry, &base, &renderer, &mut give) {
            give(None, Err(found));
        }
    }
}

/// A resource; `None` when the entry is left out, or not known yet.
type Attempt = Result<Option<RenderedEntry>, Vec<Diagnostic>>;

/// Renders one entry, as often as it is repeated.
///
/// # Errors
/// What is wrong with the entry as a whole.
fn one(
    entry: &Entry,
    base: &context::Names,
    renderer: &Renderer<'_>,
    give: &mut dyn FnMut(Option<usize>, Attempt),
) -> Result<(), Vec<Diagnostic>> {
    let when = entry.when.as_ref();
    let Some(each) = &entry.each else {
        give(None, renderer.made(entry, when, &base.value()));
        return Ok(());
    };
    // A condition about the node as a whole also guards the list, which may not exist then.
    let about_item = when
        .and_then(Yaml::as_str)
        .is_some_and(|text| mentions(text, "item") || mentions(text, "index"));
    if !about_item && !renderer.holds(when, &base.value())?.unwrap_or(false) {
        return Ok(());
    }
    let Some(items) = renderer.known(renderer.list(each, &base.value())) else {
        return Ok(());
    };
    for (index, item) in items?.into_iter().enumerate() {
        let names = base.with_item(item, index).value();
        let when = when.filter(|_| about_item);
        give(Some(index), renderer.made(entry, when, &names));
    }
    Ok(())
}

/// Whether `name` stands in a text as a word.
pub(crate) fn mentions(text: &str, name: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|word| word == name)
}
