//! Accounts, groups, keys, names and zones with the real tools, on an overlay over this machine's
//! `/etc` in a mount namespace of its own: nothing of the machine changes. Where that is not
//! allowed, the test says so and passes; the lab covers the same ground.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use picluster_model::secret::SecretValues;
use picluster_model::yaml::parse;
use picluster_model::{Secret, SecretRef, SourceFile};
use picluster_resource::frame::{FRAME_SH, FrameReader};
use picluster_resource::program::PRELUDE_SH;
use picluster_resource::{
    Change, Ctx, Diagnosis, Diff, Facts, Observation, Payload, ProbeProgram, Resource,
};

/// A machine whose `/etc`, `/home` and host name are its own.
struct Machine {
    dir: tempfile::TempDir,
    secrets: SecretValues,
    facts: Facts,
}

const HASH: &str = "$6$picluster$0123456789abcdefghijklmnopqrstuvwxyz./ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC4A1OAeTYSRCxnYcAeaxi3Z2tqyYFIJH09TkZ8WhwVj me";

impl Machine {
    /// `None` where no overlay can be mounted.
    fn new() -> Option<Self> {
        // An overlay cannot lie on an overlay, which /tmp may be; /dev/shm is a tmpfs.
        let dir = tempfile::tempdir_in("/dev/shm").ok()?;
        for name in ["upper", "work", "home"] {
            fs::create_dir(dir.path().join(name)).ok()?;
        }
        let mut secrets = SecretValues::default();
        secrets
            .0
            .insert(SecretRef::Env("HASH".into()), Secret::new(HASH.into()));
        let machine = Self {
            dir,
            secrets,
            facts: Facts::default(),
        };
        let (ok, ..) = machine.sh("test -e /etc/passwd && command -v useradd", b"");
        ok.then_some(machine)
    }

    fn sh(&self, script: &str, stdin: &[u8]) -> (bool, Vec<u8>, String) {
        let dir = self.dir.path().display();
        let setup = format!(
            "mount -t overlay overlay -o lowerdir=/etc,upperdir={dir}/upper,workdir={dir}/work /etc && \
             mount --bind {dir}/home /home && mount -t tmpfs tmpfs /var/log && mount -t tmpfs tmpfs /var/mail && exec sh {dir}/script"
        );
        fs::write(self.dir.path().join("script"), script).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--uts", "sh", "-c", &setup])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            return (false, Vec::new(), "no unshare".into());
        };
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), output.stdout, stderr)
    }

    fn run(&self, script: &str) {
        let (ok, _, stderr) = self.sh(script, b"");
        assert!(ok, "{stderr}");
    }

    fn ctx(&self) -> Ctx<'_> {
        Ctx {
            facts: &self.facts,
            secrets: &self.secrets,
        }
    }

    fn resource(&self, kind: &str, body: &str) -> Resource {
        let hash = SecretRef::Env("HASH".into()).placeholder();
        let file = Arc::new(SourceFile {
            name: "test".into(),
            text: body.to_owned(),
        });
        let yaml = parse::parse(&file)
            .unwrap()
            .map_strings(&mut |t| t.replace("HASH", &hash));
        Resource::from_yaml(kind, &yaml).unwrap()
    }

    fn look(&self, resource: &Resource) -> Result<Observation, Diagnosis> {
        let program = ProbeProgram::new(resource.queries(self.ctx()).unwrap());
        let script = format!("{FRAME_SH}{PRELUDE_SH}{}", program.script);
        let (_, stdout, stderr) = self.sh(&script, b"");
        let mut reader = FrameReader::default();
        reader.push(&stdout);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next_frame().unwrap() {
            frames.push(frame);
        }
        assert!(frames.last().is_some_and(ProbeProgram::is_end), "{stderr}");
        resource.observe(
            &program.parse(program.queries(), &frames).unwrap(),
            self.ctx(),
        )
    }

    fn change(&self, resource: &Resource) -> Option<(Observation, Change)> {
        let seen = self.look(resource).unwrap();
        match resource.diff(&seen, self.ctx()) {
            Diff::NoOp => None,
            Diff::Change(change) => Some((seen, change)),
        }
    }

    /// Applies; the kernel's host name alone does not outlive the namespace.
    fn settle(&self, kind: &str, body: &str) -> Change {
        let resource = self.resource(kind, body);
        let (seen, change) = self
            .change(&resource)
            .unwrap_or_else(|| panic!("nothing to do for {body}"));
        let operation = resource.operation(&seen, &change, self.ctx()).unwrap();
        let payload = match &operation.payload {
            Payload::None => Vec::new(),
            Payload::Bytes(bytes) => bytes.reveal().clone(),
        };
        let script = format!(
            "{FRAME_SH}{PRELUDE_SH}(\nset -eu\n{}\n)\n",
            operation.script
        );
        let (ok, _, stderr) = self.sh(&script, &payload);
        assert!(ok, "{stderr}\n{}", operation.script);
        if let Some((_, left)) = self.change(&resource) {
            assert!(
                left.fields.iter().all(|f| f.field == "kernel"),
                "{body}: {left:?}\n{}",
                operation.script
            );
        }
        change
    }

    fn refused(&self, kind: &str, body: &str) -> String {
        let resource = self.resource(kind, body);
        let (seen, change) = self.change(&resource).unwrap();
        resource
            .operation(&seen, &change, self.ctx())
            .unwrap_err()
            .what
    }

    fn file(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join(path)).unwrap()
    }
}

#[test]
fn accounts_keys_and_names() {
    let Some(m) = Machine::new() else {
        println!("skipped: no overlay in a mount namespace here");
        return;
    };
    m.settle("group", "{ name: zoo, gid: 4321 }");
    m.settle("group", "{ name: hidden, system: true }");
    assert!(
        m.look(&m.resource("group", "{ name: zoo, gid: 1 }"))
            .is_err()
    );

    // From nothing to all fields, then each by itself.
    assert!(
        m.look(&m.resource("user", "{ name: ada, groups: [nogroupyet] }"))
            .unwrap()
            .not_yet()
            .is_some()
    );
    let body = "{ name: ada, uid: 4444, groups: [zoo], shell: /bin/sh, comment: \"Ada, it's her\", password: HASH }";
    m.settle("user", body);
    assert!(m.file("upper/shadow").contains(&format!("ada:{HASH}:")));
    for damage in [
        "usermod --shell /bin/false ada",
        "usermod --comment x ada",
        "usermod --groups '' ada",
        "usermod --lock ada",
        "passwd --delete ada >/dev/null",
        "rm -r /home/ada",
    ] {
        m.run(damage);
        m.settle("user", body);
    }
    assert!(Path::new(&m.dir.path().join("home/ada")).is_dir());
    m.settle("user", "{ name: ada, home: /home/elsewhere }");
    assert!(m.dir.path().join("home/elsewhere").is_dir());
    m.settle(
        "user",
        "{ name: ada, groups: [hidden], groups_exclusive: true }",
    );
    m.settle("user", "{ name: ada, groups_exclusive: true }");
    m.settle("user", "{ name: ada, group: zoo }");

    // Keys, from nothing and damaged.
    let keys = format!("{{ user: ada, keys: [\"{KEY}\"], exclusive: true }}");
    m.settle("authorized_keys", &keys);
    for damage in [
        "chmod 0777 /home/elsewhere/.ssh",
        "chown root /home/elsewhere/.ssh/authorized_keys",
        "echo foreign >> /home/elsewhere/.ssh/authorized_keys",
        "rm /home/elsewhere/.ssh/authorized_keys",
        "rm -r /home/elsewhere/.ssh",
    ] {
        m.run(damage);
        m.settle("authorized_keys", &keys);
    }
    m.run("rm -r /home/elsewhere/.ssh; ln -s /etc /home/elsewhere/.ssh");
    assert!(m.look(&m.resource("authorized_keys", &keys)).is_err());

    // The only way to root is kept, until there is another one.
    m.run("groupadd -f sudo; for u in $(getent group sudo admin wheel | cut -d: -f4 | tr , ' '); do gpasswd -d $u sudo; done; \
           rm -rf /etc/sudoers.d; mkdir /etc/sudoers.d; echo 'root ALL=(ALL:ALL) ALL' > /etc/sudoers; usermod -aG sudo ada");
    let own_key = Path::new("/root/.ssh/authorized_keys")
        .metadata()
        .is_ok_and(|f| f.len() > 0);
    if !own_key {
        assert!(
            m.refused("user", "{ name: ada, locked: true }")
                .contains("only account")
        );
        assert!(
            m.refused("user", "{ name: ada, state: absent }")
                .contains("only account")
        );
    }
    m.run("echo 'ada ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/ada");
    m.settle("user", "{ name: ada, locked: true }");
    m.settle("user", "{ name: ben, system: true }");
    m.run("echo 'ben ALL=(ALL:ALL) ALL' > /etc/sudoers.d/ben");
    m.settle("user", "{ name: ada, state: absent, remove_home: true }");
    m.settle("group", "{ name: zoo, state: absent }");

    m.settle("hostname", "{ name: rpi01 }");
    assert_eq!(m.file("upper/hostname"), "rpi01\n");
    if Path::new("/usr/share/zoneinfo/Europe/Oslo").exists() {
        m.settle("timezone", "{ name: Europe/Oslo }");
    }
}
