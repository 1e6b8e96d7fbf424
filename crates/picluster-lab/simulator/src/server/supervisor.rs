//! The paths that agents use, in front of the API (pkg/server/handlers).

use std::sync::Arc;

use serde_json::json;

use super::{Server, auth};
use crate::api::status::Refusal;
use crate::api::{self, Caller, Key};
use crate::heart::Heart;
use crate::http::{Reply, Request};
use crate::pki::{Subject, Usage};
use crate::{etcd, files, log, pki, text};

fn refuse(request: &Request, refusal: Refusal) -> Reply {
    log::error(format!(
        "Sending HTTP {} response to {}: {}",
        refusal.code, request.from, refusal.message
    ));
    Reply::json(refusal.code, &refusal.status())
}

fn file(path: &std::path::Path) -> Reply {
    match files::read(path) {
        Ok(text) => Reply::text(200, text),
        Err(fault) => Reply::text(500, fault.0),
    }
}

/// Answers anything that comes to the server's port.
pub(super) fn answer(server: &Arc<Server>, request: &Request) -> Reply {
    match request.path.as_str() {
        "/cacerts" => return file(&server.paths.tls("server-ca.crt")),
        "/ping" => return Reply::text(200, "pong"),
        _ => {}
    }
    let caller = auth::authenticate(server, request);
    if request.path == "/db/info" {
        return match members(server, caller.as_ref(), request) {
            Ok(reply) => reply,
            Err(refusal) => refuse(request, refusal),
        };
    }
    if request.path == "/db/snapshot" {
        return match snapshot(server, caller.as_ref(), request) {
            Ok(reply) => reply,
            Err(refusal) => refuse(request, refusal),
        };
    }
    let Some(rest) = request.path.strip_prefix("/v1-k3s/") else {
        return match (&server.heart, caller) {
            (Heart::Kubernetes(cluster), caller) => cluster.pass_on(caller.as_ref(), request),
            (Heart::BuiltIn(store), Some(caller)) => api::answer(store, &caller, request),
            (Heart::BuiltIn(_), None) => {
                let refusal = Refusal::unauthorized("Unauthorized");
                Reply::json(401, &refusal.status())
            }
        };
    };
    let Some(caller) = caller else {
        return refuse(request, Refusal::unauthorized("not authorized"));
    };
    match supervise(server, &caller, rest, request) {
        Ok(reply) => reply,
        Err(refusal) => refuse(request, refusal),
    }
}

/// What only servers may ask, and only a server with embedded etcd answers.
fn for_servers<'a>(
    server: &'a Arc<Server>,
    caller: Option<&Caller>,
) -> Result<&'a Arc<etcd::Member>, Refusal> {
    let Some(member) = &server.member else {
        return Err(Refusal::no_such_path());
    };
    match caller {
        None => Err(Refusal::unauthorized("not authorized")),
        Some(caller) if !caller.is_in("k3s:server") => Err(Refusal::forbidden("forbidden")),
        Some(_) => Ok(member),
    }
}

/// The members of embedded etcd, for a server that joins (`infoHandler` in pkg/etcd/etcd.go).
fn members(
    server: &Arc<Server>,
    caller: Option<&Caller>,
    request: &Request,
) -> Result<Reply, Refusal> {
    let member = for_servers(server, caller)?;
    if request.method != "GET" {
        return Err(Refusal::method_not_allowed());
    }
    let listed = member
        .gateway
        .members()
        .map_err(|f| Refusal::internal(f.within("failed to get etcd MemberList")))?;
    let shown: Vec<_> = listed
        .iter()
        .map(|m| {
            let mut one = json!({"ID": m.id, "peerURLs": m.peers});
            if !m.name.is_empty() {
                one["name"] = m.name.clone().into();
                one["clientURLs"] = json!(m.clients);
            }
            if m.learner {
                one["isLearner"] = true.into();
            }
            one
        })
        .collect();
    Ok(Reply::json(200, &json!({"members": shown})))
}

/// `k3s etcd-snapshot save` and `ls` (`snapshotHandler` in pkg/etcd/snapshot_handler.go).
fn snapshot(
    server: &Arc<Server>,
    caller: Option<&Caller>,
    request: &Request,
) -> Result<Reply, Refusal> {
    let member = for_servers(server, caller)?;
    let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let told = |f: crate::fault::Fault| Refusal::internal(f);
    let folder = server.paths.server.join("db/snapshots");
    match asked["operation"].as_str() {
        Some("save") => {
            files::folder(&folder, 0o700).map_err(told)?;
            let prefix = asked["name"][0].as_str().unwrap_or("on-demand");
            let node = asked["node"].as_str().unwrap_or_default();
            let name = format!("{prefix}-{node}-{}", crate::clock::unix());
            log::info(format!(
                "Saving etcd snapshot to {}",
                folder.join(&name).display()
            ));
            let bytes = member.gateway.snapshot().map_err(told)?;
            files::write(&folder.join(&name), &bytes, 0o600).map_err(told)?;
            Ok(Reply::json(200, &json!({"created": [name]})))
        }
        Some("list") => {
            let mut all: Vec<_> = std::fs::read_dir(&folder)
                .into_iter()
                .flatten()
                .filter_map(Result::ok)
                .map(|e| {
                    let size = e.metadata().map_or(0, |m| m.len());
                    json!({"name": e.file_name().to_string_lossy(), "location": format!("file://{}", e.path().display()), "size": size})
                })
                .collect();
            all.sort_by_key(|one| one["name"].to_string());
            Ok(Reply::json(200, &json!(all)))
        }
        _ => Err(Refusal::bad_request("invalid operation")),
    }
}

fn supervise(
    server: &Arc<Server>,
    caller: &Caller,
    what: &str,
    request: &Request,
) -> Result<Reply, Refusal> {
    let fault = |f: crate::fault::Fault| Refusal::internal(f);
    match what {
        "token" | "server-bootstrap" | "encrypt/status" | "encrypt/config" | "cert/cacerts" => {
            if !caller.is_in("k3s:server") {
                return Err(Refusal::forbidden("forbidden"));
            }
            if what == "token" && request.method == "PUT" {
                if server.outside.is_some() {
                    return Err(Refusal::bad_request(
                        "the simulator does not change the token of a datastore outside of the cluster",
                    ));
                }
                let body: serde_json::Value =
                    serde_json::from_slice(&request.body).unwrap_or_default();
                let new = server
                    .paths
                    .rotate(
                        body["newToken"].as_str().unwrap_or_default(),
                        server.agent_token_set,
                    )
                    .map_err(fault)?;
                let digest = text::sha256(format!("k3s-simulator bootstrap {new}").as_bytes());
                server.store.set_bootstrap(&digest).map_err(fault)?;
                return Ok(Reply::text(200, ""));
            }
            if what == "server-bootstrap" && server.member.is_some() {
                let all = etcd::bootstrap_answer(&server.paths.server).map_err(fault)?;
                return Ok(Reply::json(200, &all));
            }
            if what == "server-bootstrap" {
                log::warn(format!(
                    "Received HTTP bootstrap request from {}, but embedded etcd is not enabled.",
                    request.from
                ));
                return Err(Refusal::bad_request("etcd disabled"));
            }
            return Err(Refusal::method_not_allowed());
        }
        _ => {}
    }
    if !auth::may_join(caller) {
        return Err(Refusal::forbidden("forbidden"));
    }
    let clients = server.authority("client");
    let issue = |authority: &pki::Authority, subject: &Subject| -> Result<Reply, Refusal> {
        Ok(Reply::text(
            200,
            pki::issue(authority, subject).map_err(fault)?,
        ))
    };
    let client = |name: &str, organisations: Vec<String>| Subject {
        name: name.into(),
        organisations,
        hosts: vec![],
        usage: Usage::Client,
    };
    match what {
        "config" => Ok(Reply::json(200, &server.config)),
        "readyz" if server.is_ready() => Ok(Reply::text(200, "ok")),
        "readyz" => Err(Refusal::unavailable("runtime core not ready")),
        "apiservers" => Ok(Reply::json(200, &json!(server.endpoints()))),
        "client-ca.crt" => Ok(file(&server.paths.tls("client-ca.crt"))),
        "server-ca.crt" => Ok(file(&server.paths.tls("server-ca.crt"))),
        "client-kube-proxy.crt" => issue(&clients, &client("system:kube-proxy", vec![])),
        "client-k3s-controller.crt" => issue(&clients, &client("system:k3s-controller", vec![])),
        "serving-kubelet.crt" => {
            let node = identified(server, caller, request)?;
            let mut hosts = vec![node.clone(), "localhost".into(), "127.0.0.1".into()];
            hosts.extend(
                request
                    .header("k3s-Node-IP")
                    .unwrap_or_default()
                    .split(',')
                    .filter(|h| !h.is_empty())
                    .map(str::to_owned),
            );
            let subject = Subject {
                name: node,
                organisations: vec![],
                hosts,
                usage: Usage::Both,
            };
            issue(&server.authority("server"), &subject)
        }
        "client-kubelet.crt" => {
            let node = identified(server, caller, request)?;
            issue(
                &clients,
                &client(&format!("system:node:{node}"), vec!["system:nodes".into()]),
            )
        }
        _ => Err(Refusal::no_such_path()),
    }
}

/// The node that asks, if it is that node (pkg/nodepassword/validate.go).
fn identified(server: &Arc<Server>, caller: &Caller, request: &Request) -> Result<String, Refusal> {
    let name = request
        .header("k3s-Node-Name")
        .filter(|n| !n.is_empty())
        .ok_or_else(|| Refusal::bad_request("node name not set"))?;
    let password = request
        .header("k3s-Node-Password")
        .filter(|p| !p.is_empty())
        .ok_or_else(|| Refusal::bad_request("node password not set"))?;
    let name = name.to_lowercase();
    if let Some(own) = caller.node() {
        if own != name {
            return Err(Refusal::bad_request(
                "header node name does not match auth node name",
            ));
        }
        if server.heart.get(&Key::node(&name))?.is_none() {
            return Err(Refusal::unauthorized(format!(
                "unable to verify node identity: nodes \"{name}\" not found"
            )));
        }
    }
    if !server.is_ready() {
        return Err(Refusal::unavailable("runtime core not ready"));
    }
    server.ensure_node_password(&name, password)?;
    Ok(name)
}
