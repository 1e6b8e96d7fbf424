//! `kernel_module`: a module that is loaded, now and at every boot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
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
    /// This kernel has no such module; one that is installed and not yet booted has it.
    NextBoot,
    /// No installed kernel has such a module.
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

/// A name modprobe(8) takes.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The question about a module, named with underscores.
pub(crate) fn probe(name: &str) -> String {
    // In file names either sign may stand.
    let file = name.replace('_', "[_-]");
    format!(
        "# kernel module {name}\nR=\n\
         if [ -d $R/sys/module/{name} ]; then echo loaded; exit; fi\n\
         r=; read -r r < $R/proc/sys/kernel/osrelease\n\
         if [ -d $R/lib/modules/$r ]; then\n\
         if grep -qs '/{file}\\.ko' $R/lib/modules/$r/modules.builtin; then echo loaded; exit\n\
         elif modprobe -n -q {name}; then echo available; exit; fi; fi\n\
         for d in $R/lib/modules/*-\"${{r##*-}}\"; do\n\
         [ \"$d\" != $R/lib/modules/$r ] && grep -qs '/{file}\\.ko' $d/modules.dep $d/modules.builtin || continue\n\
         echo \"next ${{d##*/}}\"; exit; done\n\
         if [ -d $R/lib/modules/$r ]; then echo missing $r; else echo no-modules $r; fi"
    )
}

/// What [`probe`] printed: where the module stands, and the release it spoke of.
pub(crate) fn read(printed: &str) -> Option<(Module, &str)> {
    let (word, release) = printed
        .trim()
        .split_once(' ')
        .unwrap_or((printed.trim(), ""));
    let module = match word {
        "loaded" => Module::Loaded,
        "available" => Module::Available,
        "next" => Module::NextBoot,
        "missing" => Module::Missing,
        "no-modules" => Module::NoModules,
        _ => return None,
    };
    Some((module, release))
}

/// Said the same way in plan and apply.
fn reboot() -> Effect {
    Effect::Reboot("the module belongs to a kernel that is installed and not yet booted".into())
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
    /// others stand in `modules.builtin`. Only what is neither costs a fork of modprobe, and only what
    /// that does not know is looked for in the other kernels of the same flavour (`raspi`, `v8`,
    /// `2712`: what stands behind the last `-` of the release).
    fn probe(&self) -> String {
        probe(&self.plain())
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
        if is_name(&self.name) {
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
        let Some((module, release)) = read(printed) else {
            return Err(Diagnosis::new(format!(
                "the node did not say whether it has module {}",
                self.name
            )));
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
                Module::Loaded | Module::Available | Module::NextBoot => {}
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
                if seen.module == Module::NextBoot {
                    if at_boot != Shown::text("loaded") {
                        change = change.effect(reboot());
                    }
                } else if seen.module != Module::Loaded {
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

    fn expected(&self, ctx: Ctx<'_>) -> Change {
        match self.state {
            Presence::Present => {
                let change = Change::new(Action::Create)
                    .field("now", Shown::Absent, Shown::text("loaded"))
                    .field("at boot", Shown::Absent, Shown::text("loaded"));
                // The package may bring the modules of a newer kernel than the one that runs.
                match Self::extra_package(ctx.facts) {
                    Some(_) => change.effect(reboot()),
                    None => change,
                }
            }
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

    fn reboot_pending(&self, seen: &ModuleSeen, _ctx: Ctx<'_>) -> Option<String> {
        (self.state == Presence::Present && seen.module == Module::NextBoot).then(|| {
            format!(
                "module {} belongs to a kernel that is installed and not yet booted",
                self.name
            )
        })
    }

    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present).then(|| Self {
            state: Presence::Absent,
            ..self.clone()
        })
    }
}
