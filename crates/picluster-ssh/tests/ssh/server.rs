//! A real `sshd` on a free port of the loopback, with its own host key, configuration and log.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use picluster_ssh::PublicKey;
use tempfile::TempDir;

/// A private key file made by `ssh-keygen`, with its public half.
#[derive(Clone)]
pub struct KeyPair {
    pub path: PathBuf,
    pub public: PublicKey,
}

impl KeyPair {
    /// Runs `ssh-keygen` with the given options in `dir`.
    pub fn make(dir: &Path, name: &str, options: &[&str]) -> Self {
        let path = dir.join(name);
        let done = Command::new("ssh-keygen")
            .args(["-q", "-C", name, "-f"])
            .arg(&path)
            .args(options)
            .output()
            .expect("ssh-keygen runs");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        let text = fs::read_to_string(path.with_extension("pub")).expect("public key");
        let public = PublicKey::from_openssh(&text).expect("public key");
        Self { path, public }
    }

    pub fn ed25519(dir: &Path, name: &str) -> Self {
        Self::make(dir, name, &["-t", "ed25519", "-N", ""])
    }

    /// A key with the passphrase `rehearsal`.
    pub fn locked(dir: &Path) -> Self {
        let words = ["-t", "ed25519", "-N", "rehearsal", "-a", "1"];
        Self::make(dir, "locked", &words)
    }

    pub fn fingerprint(&self) -> String {
        self.public.fingerprint(Default::default()).to_string()
    }
}

/// How a server shall be.
#[derive(Default)]
pub struct Options<'a> {
    /// Host keys as options of `ssh-keygen`; one ed25519 key when empty.
    pub host_keys: Vec<Vec<&'a str>>,
    /// Lines of sshd_config, before ours: the first value wins.
    pub config: &'a str,
    /// A port that must be used again, for a host that came back.
    pub port: Option<u16>,
}

pub struct Sshd {
    child: Child,
    pub dir: TempDir,
    pub port: u16,
    pub host_keys: Vec<KeyPair>,
}

/// The user tests log in as: whoever runs them.
pub fn user() -> String {
    let id = Command::new("id").arg("-un").output().expect("id");
    String::from_utf8(id.stdout)
        .expect("utf-8")
        .trim()
        .to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

impl Sshd {
    /// A server that lets `authorized` in.
    pub fn start(authorized: &[&KeyPair]) -> Self {
        Self::with(authorized, &Options::default())
    }

    pub fn with(authorized: &[&KeyPair], options: &Options<'_>) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let standard = [vec!["-t", "ed25519"]];
        let wanted = if options.host_keys.is_empty() {
            &standard[..]
        } else {
            &options.host_keys[..]
        };
        let host_keys: Vec<KeyPair> = wanted
            .iter()
            .enumerate()
            .map(|(n, options)| {
                let options = [&options[..], &["-N", ""]].concat();
                KeyPair::make(dir.path(), &format!("host_key_{n}"), &options)
            })
            .collect();
        let lines: Vec<String> = authorized
            .iter()
            .map(|key| key.public.to_openssh().expect("text"))
            .collect();
        fs::write(dir.path().join("authorized_keys"), lines.join("\n") + "\n").expect("write");
        if user() == "root" {
            // Privilege separation wants it, and packages make it only when the service starts.
            let _ = fs::create_dir_all("/run/sshd");
        }
        // A port found free may be taken by the time sshd asks for it: try again.
        for _ in 0..5 {
            let port = options.port.unwrap_or_else(free_port);
            let mut config = format!(
                "{}\nPort {port}\nListenAddress 127.0.0.1\nPidFile none\nUsePAM no\nStrictModes no\n\
                 PermitRootLogin prohibit-password\nPasswordAuthentication no\nLogLevel VERBOSE\n\
                 MaxStartups 100\nPrintMotd no\nAuthorizedKeysFile {}\nSetEnv HOME={}\n",
                options.config,
                dir.path().join("authorized_keys").display(),
                // bash reads ~/.bashrc under sshd, and nobody knows what stands in that of whoever
                // runs the tests.
                dir.path().display()
            );
            for key in &host_keys {
                config += &format!("HostKey {}\n", key.path.display());
            }
            let config_path = dir.path().join("sshd_config");
            fs::write(&config_path, config).expect("write");
            let log = fs::File::create(dir.path().join("log")).expect("log");
            let mut child = Command::new("/usr/sbin/sshd")
                .args(["-D", "-e", "-f"])
                .arg(&config_path)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("sshd runs");
            let until = Instant::now() + Duration::from_secs(10);
            while Instant::now() < until {
                let text = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
                if text.contains("Server listening on") {
                    return Self {
                        child,
                        dir,
                        port,
                        host_keys,
                    };
                }
                if child.try_wait().expect("wait").is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!(
            "sshd does not start: {}",
            fs::read_to_string(dir.path().join("log")).unwrap_or_default()
        );
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Processes serving connections, all generations, by pid.
    pub fn children(&self) -> Vec<i32> {
        descendants(self.child.id() as i32)
    }

    /// Kills everything that serves connections at once, as a power cut would.
    pub fn cut(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        for pid in self.children() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }

    /// Stops listening; connections live on.
    pub fn stop_listening(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let served = self.children();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in served {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// All processes below `root`.
pub fn descendants(root: i32) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name in parentheses may hold blanks; the parent is the second field after it.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1))
            .and_then(|parent| parent.parse::<i32>().ok());
        if let Some(parent) = parent {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let of = found[next];
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == of)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found.remove(0);
    found
}
