//! `kernel_module`: a module that is loaded, now and at every boot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::facts::Facts;
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::Presence;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::token::Token;

/// A kernel module. Loaded at once and, through a file of its own in `/etc/modules-load.d`, at every
/// boot. When it leaves the documents, the file goes; a loaded module stays until the next boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelModule {
    /// Its name: `br_netfilter`.
    pub name: String,
    /// `present`, or `absent`: not loaded at boot by this file.
    #[serde(default)]
    pub state: Presence,
}

/// Where a module stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Module {
    /// Loaded, or built into the kernel.
    Loaded,
    /// modprobe can load it.
    Available,
    /// This kernel has no such module.
    Missing,
    /// The modules of the running kernel are gone.
    NoModules,
}

/// What was seen of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleSeen {
    /// Where it stands.
    pub module: Module,
    /// The text of its file in `/etc/modules-load.d`.
    pub file: Option<String>,
}

impl KernelModule {
    /// The name as the kernel and modprobe(8) see it: `-` and `_` are the same.
    fn plain(&self) -> String {
        self.name.replace('-', "_")
    }

    fn path(&self) -> Result<NodePath, Diagnosis> {
        NodePath::new(format!("/etc/modules-load.d/{}.conf", self.name))
            .map_err(|e| Diagnosis::new(e.to_string()))
    }

    /// `/sys/module/NAME` exists for what is loaded, and for built-ins that have parameters; the
    /// others stand in `modules.builtin`. Only what is neither costs a fork of modprobe.
    fn probe(&self) -> String {
        let name = self.plain();
        // In file names either sign may stand.
        let file = name.replace('_', "[_-]");
        format!(
            "# kernel module {name}\nR=\n\
             if [ -d $R/sys/module/{name} ]; then echo loaded; exit; fi\n\
             r=; read -r r < $R/proc/sys/kernel/osrelease\n\
             if [ ! -d $R/lib/modules/$r ]; then echo no-modules $r\n\
             elif grep -qs '/{file}\\.ko' $R/lib/modules/$r/modules.builtin; then echo loaded\n\
             elif modprobe -n -q {name}; then echo available\n\
             else echo missing $r; fi"
        )
    }

    /// Ubuntu moved modules such as vxlan out of its Raspberry Pi kernels from 21.10 to 23.10:
    /// linux-modules-extra-raspi, gone again with 24.04.
    fn extra_package(facts: &Facts) -> Option<&'static str> {
        let extra = facts.os.id == "ubuntu"
            && matches!(
                facts.os.version.as_str(),
                "21.10" | "22.04" | "22.10" | "23.04" | "23.10"
            )
            && facts.board.model.starts_with("Raspberry Pi");
        extra.then_some("linux-modules-extra-raspi")
    }
}

impl Kind for KernelModule {
    const NAME: &'static str = "kernel_module";
    type Observation = ModuleSeen;

    fn key(&self) -> String {
        self.plain()
    }

    fn check(&self) -> Vec<String> {
        let good = !self.name.is_empty()
            && self
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if good {
            Vec::new()
        } else {
            vec![format!(
                "{:?} is not the name of a kernel module",
                self.name
            )]
        }
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![
            Query::Text(self.path()?),
            Query::Fragment(self.probe()),
        ])
    }

    fn observe(&self, answers: &Answers, ctx: Ctx<'_>) -> Result<Seen<ModuleSeen>, Diagnosis> {
        let (_, printed) = answers.fragment(&self.probe())?;
        let (word, release) = printed
            .trim()
            .split_once(' ')
            .unwrap_or((printed.trim(), ""));
        let module = match word {
            "loaded" => Module::Loaded,
            "available" => Module::Available,
            "missing" => Module::Missing,
            "no-modules" => Module::NoModules,
            _ => {
                return Err(Diagnosis::new(format!(
                    "the node did not say whether it has module {}",
                    self.name
                )));
            }
        };
        let file = answers.text(&self.path()?)?.map(str::to_owned);
        if self.state == Presence::Present {
            match module {
                Module::NoModules => {
                    return Err(Diagnosis::new(format!(
                        "the modules of the running kernel {release} are gone: it was upgraded since the last boot"
                    ))
                    .cure("reboot the node"));
                }
                Module::Missing => {
                    if let Some(package) = Self::extra_package(ctx.facts) {
                        return Ok(Seen::NotYet(Token::Package(package.into())));
                    }
                    return Err(Diagnosis::new(format!(
                        "the kernel {release} has no module {}",
                        self.name
                    ))
                    .cure("check the name, or install the kernel package that has it"));
                }
                Module::Loaded | Module::Available => {}
            }
        }
        Ok(Seen::Now(ModuleSeen { module, file }))
    }

    fn diff(&self, seen: &ModuleSeen, _ctx: Ctx<'_>) -> Diff {
        let at_boot = match &seen.file {
            None => Shown::Absent,
            Some(text) if text.lines().eq([self.name.as_str()]) => Shown::text("loaded"),
            Some(_) => Shown::text("another text"),
        };
        match self.state {
            Presence::Present => {
                let mut change = Change::new(Action::Update);
                if seen.file.is_none() && seen.module != Module::Loaded {
                    change.action = Action::Create;
                }
                if seen.module != Module::Loaded {
                    change = change.field("now", Shown::text("not loaded"), Shown::text("loaded"));
                }
                if at_boot != Shown::text("loaded") {
                    change = change.field("at boot", at_boot, Shown::text("loaded"));
                }
                change.into_diff()
            }
            Presence::Absent if at_boot == Shown::Absent => Diff::NoOp,
            Presence::Absent => {
                Diff::Change(Change::new(Action::Delete).field("at boot", at_boot, Shown::Absent))
            }
        }
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        match self.state {
            Presence::Present => Change::new(Action::Create)
                .field("now", Shown::Absent, Shown::text("loaded"))
                .field("at boot", Shown::Absent, Shown::text("loaded")),
            Presence::Absent => {
                Change::new(Action::Delete).field("at boot", Shown::Later, Shown::Absent)
            }
        }
    }

    fn operation(
        &self,
        _seen: &ModuleSeen,
        change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let path = self.path()?;
        if change.action == Action::Delete {
            return Ok(Operation::script(format!("rm -f -- {path}")));
        }
        let has = |field: &str| change.fields.iter().any(|f| f.field == field);
        let mut script = String::new();
        // First now: what cannot be loaded must not fail at every boot.
        if has("now") {
            script.push_str(&format!("modprobe -- {}\n", self.name));
        }
        if has("at boot") {
            script.push_str(&format!(
                "mkdir -p /etc/modules-load.d\necho {} | put {path} 0644 root root\n",
                self.name
            ));
        }
        Ok(Operation::script(script))
    }

    fn provides(&self) -> Vec<Token> {
        match self.state {
            Presence::Present => vec![Token::Module(self.plain())],
            Presence::Absent => Vec::new(),
        }
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::Package("linux-modules-extra-raspi".into())]
    }

    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present).then(|| Self {
            state: Presence::Absent,
            ..self.clone()
        })
    }
}
