//! The agent's door to its servers: a port on the loopback address (pkg/agent/loadbalancer).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::Joined;
use crate::fault::{Fault, Outcome, errno};
use crate::net::{self, Client};
use crate::{files, log};

/// Passes connections on to the first server that takes them.
pub(super) struct Balancer {
    servers: Arc<Mutex<Vec<String>>>,
    file: PathBuf,
    url: String,
}

impl Balancer {
    /// Listens. Servers are the one that was named, and those that were remembered.
    pub(super) fn start(agent: &Path, server: &str, port: u16) -> Outcome<Self> {
        let etc = agent.join("etc");
        files::folder(&etc, 0o755)?;
        let file = etc.join("k3s-agent-load-balancer.json");
        let url = format!("https://{server}");
        let mut servers = vec![server.to_owned()];
        let old: Value = files::read(&file)
            .ok()
            .and_then(|t| serde_json::from_str(&t).ok())
            .unwrap_or_default();
        if old["ServerURL"] == url.as_str() {
            for known in old["ServerAddresses"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                if !servers.iter().any(|s| s == known) {
                    servers.push(known.to_owned());
                }
            }
        }
        let listener = TcpListener::bind(("127.0.0.1", port))
            .map_err(|e| Fault(format!("listen tcp 127.0.0.1:{port}: bind: {}", errno(&e))))?;
        log::info(format!(
            "Running load balancer k3s-agent-load-balancer 127.0.0.1:{port} -> [{}] [default: {server}]",
            servers.join(" ")
        ));
        let balancer = Self {
            servers: Arc::new(Mutex::new(servers)),
            file,
            url,
        };
        balancer.remember()?;
        let servers = balancer.servers.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let servers = servers.clone();
                let _ = std::thread::Builder::new()
                    .stack_size(128 * 1024)
                    .spawn(move || pass_on(stream, &servers));
            }
        });
        Ok(balancer)
    }

    fn remember(&self) -> Outcome {
        let mut servers = self
            .servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // The order says who answers at the moment; the file does not change for that.
        servers.sort();
        let text =
            serde_json::to_string(&json!({"ServerURL": self.url, "ServerAddresses": servers}))
                .unwrap_or_default();
        files::write_changed(&self.file, text.as_bytes(), 0o600)
    }

    /// Adds the servers that the cluster names, now and whenever it names others.
    pub(super) fn keep_learning(self: &Arc<Self>, joined: &Joined) {
        self.learn(&joined.api);
        let (balancer, api) = (self.clone(), joined.api.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(5));
                balancer.learn(&api);
            }
        });
    }

    fn learn(&self, api: &Client) {
        let named: Vec<String> = api
            .send("GET", "/v1-k3s/apiservers", &[], &[])
            .ok()
            .and_then(|a| serde_json::from_slice(&a.body).ok())
            .unwrap_or_default();
        {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            for server in named {
                if !servers.contains(&server) {
                    servers.push(server);
                }
            }
        }
        if let Err(fault) = self.remember() {
            log::error(fault);
        }
    }
}

fn pass_on(client: TcpStream, servers: &Mutex<Vec<String>>) {
    let list = servers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    for server in list {
        let Some((host, port)) = server.rsplit_once(':') else {
            continue;
        };
        let Ok(port) = port.parse() else { continue };
        if let Ok(upstream) = net::dial_within(host, port, Duration::from_secs(2)) {
            both_ways(client, upstream);
            return;
        }
        // Whoever does not answer is asked last from now on.
        let mut all = servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = all.iter().position(|s| *s == server) {
            let failed = all.remove(at);
            all.push(failed);
        }
    }
    // Nobody is there: the client sees an end of file, as with the real one.
}

fn both_ways(client: TcpStream, server: TcpStream) {
    let (Ok(mut client_in), Ok(mut server_in)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let patience = Some(Duration::from_secs(300));
    for stream in [&client, &server] {
        let _ = stream.set_read_timeout(patience);
        let _ = stream.set_nodelay(true);
    }
    let (mut client_out, mut server_out) = (client, server);
    let back = std::thread::Builder::new()
        .stack_size(128 * 1024)
        .spawn(move || {
            pump(&mut server_in, &mut client_out);
            let _ = client_out.shutdown(Shutdown::Both);
        });
    pump(&mut client_in, &mut server_out);
    let _ = server_out.shutdown(Shutdown::Write);
    if let Ok(back) = back {
        let _ = back.join();
    }
}

fn pump(from: &mut TcpStream, to: &mut TcpStream) {
    let mut buffer = [0; 8192];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
}
