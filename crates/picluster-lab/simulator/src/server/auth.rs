//! Who a request comes from (pkg/authenticator, pkg/server/auth/auth.go).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Server, passwords};
use crate::api::{Caller, Key};
use crate::http::Request;
use crate::{clock, log, pki};

fn caller(user: &str, groups: &[&str]) -> Caller {
    Caller {
        user: user.into(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
    }
}

/// Certificate, basic credentials or bootstrap token; `None` when nothing was shown or nothing fits.
pub(super) fn authenticate(server: &Server, request: &Request) -> Option<Caller> {
    if let Some((name, organisations)) = request.certificate.as_deref().and_then(pki::identity) {
        return Some(Caller {
            user: name,
            groups: organisations,
        });
    }
    let header = request.header("authorization")?;
    if let Some(encoded) = header.strip_prefix("Basic ") {
        let bytes = STANDARD.decode(encoded.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        let known = passwords::read(&server.paths.server.join("cred/passwd"), user)?;
        if known != password {
            log::error(format!(
                "Failed to authenticate request from {}: invalid username/password combination",
                request.from
            ));
            return None;
        }
        return Some(match user {
            "server" => caller("server", &["k3s:server", "k3s:agent"]),
            _ => caller(user, &["k3s:agent"]),
        });
    }
    let token = header.strip_prefix("Bearer ")?.trim();
    let (id, secret) = token.split_once('.')?;
    if id.len() != 6 {
        return None;
    }
    let key = Key::secret("kube-system", &format!("bootstrap-token-{id}"));
    let object = server.heart.get(&key).ok().flatten()?;
    let part = |name: &str| -> Option<String> {
        String::from_utf8(STANDARD.decode(object["data"][name].as_str()?).ok()?).ok()
    };
    let alive = part("expiration")
        .and_then(|e| clock::parse(&e))
        .is_none_or(|end| end > clock::now());
    (part("token-secret")? == secret && alive).then(|| {
        caller(
            &format!("system:bootstrap:{id}"),
            &[
                "system:bootstrappers",
                "system:bootstrappers:k3s:default-node-token",
            ],
        )
    })
}

/// Whether somebody is a node, an agent that joins, or both.
pub(super) fn may_join(caller: &Caller) -> bool {
    [
        "k3s:agent",
        "system:nodes",
        "system:bootstrappers:k3s:default-node-token",
    ]
    .iter()
    .any(|g| caller.is_in(g))
}
