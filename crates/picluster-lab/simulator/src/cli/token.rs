//! `k3s token` (pkg/cli/token/token.go).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::fault::{Fault, Outcome};
use crate::net::Client;
use crate::{clock, files, kubeconfig, log, pki, text, token};

struct Asked {
    words: Vec<String>,
    flags: Vec<(String, String)>,
}

impl Asked {
    fn flag(&self, name: &str) -> Option<&str> {
        self.flags
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

fn asked(words: &[String]) -> Outcome<Asked> {
    const KNOWN: &[&str] = &[
        "data-dir",
        "d",
        "kubeconfig",
        "description",
        "groups",
        "ttl",
        "usages",
        "output",
        "o",
        "token",
        "t",
        "server",
        "s",
        "new-token",
    ];
    let mut out = Asked {
        words: vec![],
        flags: vec![],
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let Some(name) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            out.words.push(word.clone());
            continue;
        };
        let (name, value) = match name.split_once('=') {
            Some((n, v)) => (n, v.to_owned()),
            None => (
                name,
                rest.next()
                    .cloned()
                    .ok_or_else(|| Fault(format!("flag needs an argument: -{name}")))?,
            ),
        };
        if !KNOWN.contains(&name) {
            return Err(Fault(format!("flag provided but not defined: -{name}")));
        }
        let name = match name {
            "o" => "output",
            "d" => "data-dir",
            "t" => "token",
            "s" => "server",
            other => other,
        };
        out.flags.push((name.to_owned(), value));
    }
    Ok(out)
}

/// `create`, `delete`, `generate`, `list`, `rotate`.
pub(super) fn run(words: &[String]) -> ExitCode {
    let Some((verb, rest)) = words.split_first() else {
        println!(
            "NAME:\n   k3s token - Manage tokens\n\nUSAGE:\n   k3s token command [command options]\n\nCOMMANDS:\n   create    Create bootstrap tokens on the server\n   delete    Delete bootstrap tokens on the server\n   generate  Generate and print a bootstrap token, but do not create it on the server\n   list      List bootstrap tokens on the server\n   rotate    Rotate original server token with a new server token"
        );
        return ExitCode::SUCCESS;
    };
    let ended = asked(rest).and_then(|asked| match verb.as_str() {
        "create" => create(&asked),
        "delete" => delete(&asked),
        "generate" => {
            println!("{}", generated());
            Ok(())
        }
        "list" => list(&asked),
        "rotate" => rotate(&asked),
        other => Err(Fault(format!("No help topic for '{other}'"))),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => log::fatal(fault),
    }
}

fn generated() -> String {
    let letters = |n: usize| -> String {
        const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        text::random::<32>()
            .iter()
            .take(n)
            .map(|b| char::from(ALPHABET[usize::from(*b) % 36]))
            .collect()
    };
    format!("{}.{}", letters(6), letters(16))
}

fn client(asked: &Asked) -> Outcome<Client> {
    let environment = std::env::var("KUBECONFIG").ok().filter(|k| !k.is_empty());
    let path = asked.flag("kubeconfig").map(str::to_owned).or(environment);
    let path = path.map_or_else(|| PathBuf::from("/etc/rancher/k3s/k3s.yaml"), PathBuf::from);
    Ok(kubeconfig::load(&path, None)?.0)
}

fn checked(answer: crate::net::Answer) -> Outcome<Value> {
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    if answer.status < 300 {
        return Ok(value);
    }
    Err(Fault(
        value["message"]
            .as_str()
            .unwrap_or("the server could not answer")
            .to_owned(),
    ))
}

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

/// Seconds of Go's `24h`, `1h30m`, `90s`; `0` is for ever.
fn seconds(text: &str) -> Outcome<i64> {
    let fail = || Fault(format!("invalid value {text:?} for flag -ttl: parse error"));
    if text == "0" {
        return Ok(0);
    }
    let (mut total, mut number) = (0_i64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let n: i64 = number.parse().map_err(|_| fail())?;
        number.clear();
        total += n * match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(fail()),
        };
    }
    if number.is_empty() {
        Ok(total)
    } else {
        Err(fail())
    }
}

fn create(asked: &Asked) -> Outcome {
    let client = client(asked)?;
    let given = asked.words.first().cloned().unwrap_or_else(generated);
    if !token::is_bootstrap(&given) {
        return Err(Fault(format!(
            "the bootstrap token {given:?} was not of the form \"\\\\A([a-z0-9]{{6}})\\\\.([a-z0-9]{{16}})\\\\z\""
        )));
    }
    let (id, secret) = given.split_once('.').unwrap_or_default();
    let b = |s: &str| Value::String(STANDARD.encode(s));
    let mut data = json!({
        "token-id": b(id),
        "token-secret": b(secret),
        "usage-bootstrap-authentication": b("true"),
        "usage-bootstrap-signing": b("true"),
        "auth-extra-groups": b("system:bootstrappers:k3s:default-node-token"),
    });
    if let Some(description) = asked.flag("description") {
        data["description"] = b(description);
    }
    let ttl = seconds(asked.flag("ttl").unwrap_or("24h"))?;
    if ttl > 0 {
        data["expiration"] = b(&clock::rfc3339(clock::now() + time::Duration::seconds(ttl)));
    }
    let object = json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"}, "data": data});
    let answer = client.send(
        "POST",
        SECRETS,
        &[("Content-Type", "application/json")],
        object.to_string().as_bytes(),
    )?;
    if answer.status == 409 {
        return Err(Fault(format!("a token with id {id:?} already exists")));
    }
    checked(answer)?;
    println!(
        "K10{}::{given}",
        pki::ca_hash(client.ca.as_deref().unwrap_or_default())
    );
    Ok(())
}

fn delete(asked: &Asked) -> Outcome {
    let client = client(asked)?;
    if asked.words.is_empty() {
        return Err(Fault::new(
            "missing argument; 'token delete' is missing token",
        ));
    }
    for word in &asked.words {
        let id = word
            .rsplit("::")
            .next()
            .unwrap_or(word)
            .split('.')
            .next()
            .unwrap_or(word);
        let answer = client.send(
            "DELETE",
            &format!("{SECRETS}/bootstrap-token-{id}"),
            &[],
            &[],
        )?;
        checked(answer)
            .map_err(|f| f.within(format!("failed to delete bootstrap token {id:?}")))?;
        println!("bootstrap token {id:?} deleted");
    }
    Ok(())
}

fn list(asked: &Asked) -> Outcome {
    let client = client(asked)?;
    let found = checked(client.send(
        "GET",
        &format!("{SECRETS}?fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken"),
        &[],
        &[],
    )?)?;
    let tokens: Vec<Value> = found["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|secret| {
            let part = |name: &str| {
                let bytes = STANDARD.decode(secret["data"][name].as_str().unwrap_or_default()).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let mut token = json!({"token": format!("{}.{}", part("token-id"), part("token-secret")),
                "usages": ["authentication", "signing"], "groups": [part("auth-extra-groups")]});
            if !part("description").is_empty() {
                token["description"] = part("description").into();
            }
            if !part("expiration").is_empty() {
                token["expires"] = part("expiration").into();
            }
            token
        })
        .collect();
    if asked.flag("output") == Some("json") {
        println!("{}", Value::Array(tokens));
        return Ok(());
    }
    let mut rows = vec![
        [
            "TOKEN",
            "TTL",
            "EXPIRES",
            "USAGES",
            "DESCRIPTION",
            "EXTRA GROUPS",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for token in &tokens {
        let at = token["expires"].as_str().and_then(clock::parse);
        rows.push(vec![
            token["token"]
                .as_str()
                .unwrap_or_default()
                .split('.')
                .next()
                .unwrap_or_default()
                .to_owned(),
            at.map_or("<forever>".into(), |t| {
                text::age((t - clock::now()).whole_seconds())
            }),
            token["expires"].as_str().unwrap_or("<never>").to_owned(),
            "authentication,signing".into(),
            token["description"].as_str().unwrap_or("<none>").to_owned(),
            token["groups"][0].as_str().unwrap_or("<none>").to_owned(),
        ]);
    }
    print!("{}", text::table(&rows));
    Ok(())
}

fn rotate(asked: &Asked) -> Outcome {
    println!(
        "\u{1b}[33mWARNING\u{1b}[0m: Recommended to keep a record of the old token. If restoring from a snapshot, you must use the token associated with that snapshot."
    );
    let data_dir = asked.flag("data-dir").unwrap_or("/var/lib/rancher/k3s");
    let old = match asked.flag("token") {
        Some(token) => token.to_owned(),
        None => files::read(&Path::new(data_dir).join("server/token"))?
            .trim_end()
            .to_owned(),
    };
    let url = asked.flag("server").unwrap_or("https://127.0.0.1:6443");
    let mut client = crate::agent::validated(url, &old)?;
    client.authorization = Some(token::Token::parse(&old)?.authorization("server"));
    let new = asked.flag("new-token").unwrap_or_default();
    let answer = client.send(
        "PUT",
        "/v1-k3s/token",
        &[("Content-Type", "application/json")],
        json!({"newToken": new}).to_string().as_bytes(),
    )?;
    checked(answer)?;
    println!("Token rotated, restart k3s nodes with new token");
    Ok(())
}
