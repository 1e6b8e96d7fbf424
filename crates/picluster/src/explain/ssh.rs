//! How a node is reached: what the inventory says, then the OpenSSH client configuration, then what
//! picluster takes by itself.

use picluster_model::Node;
use picluster_ssh::{Environment, FallbackValue, Limits, fallbacks};
use serde_json::{Value, json};

use crate::connect;
use crate::explain::{Explained, Given, Place, Source};

/// The settings, in the order in which the reference has them.
const KEYS: [&str; 9] = [
    "user",
    "port",
    "identity",
    "agent",
    "jump",
    "sudo",
    "config",
    "connect_timeout",
    "host_key",
];

/// Every setting that has a value, and what is wrong with the client configuration.
pub fn values(node: &Node) -> (Vec<Explained>, Option<String>) {
    let target = connect::target(node);
    let read = fallbacks(
        &node.name,
        &target,
        Environment::of_this_process(),
        &Limits::default(),
    );
    let (fallbacks, finding) = match read {
        Ok(fallbacks) => (fallbacks, None),
        Err(finding) => (Vec::new(), Some(finding)),
    };
    let behind = |key: &str| -> Vec<Given> {
        let of_key = fallbacks.iter().filter(|fallback| fallback.key == key);
        let given = of_key.map(|fallback| Given {
            source: match &fallback.place {
                Some(_) => Source::SshConfig,
                None => Source::Default,
            },
            place: fallback
                .place
                .as_ref()
                .map(|(file, line)| Place::line_of(file, *line)),
            value: json_of(&fallback.value),
        });
        given.collect()
    };
    let of_inventory = |key: &str, name: &str| -> Vec<Given> {
        let var = node.given.get(key);
        let origins = var.map(|var| var.origin.as_slice()).unwrap_or_default();
        origins.iter().map(|o| Given::of(name, o)).collect()
    };
    let mut values = Vec::new();
    // `HostName` comes before the address that asked for it.
    let mut host = behind("host");
    if !host.is_empty() {
        host.extend(of_inventory("address", "ssh.host"));
        values.extend(Explained::new(String::from("ssh.host"), host));
    }
    for key in KEYS {
        let name = format!("ssh.{key}");
        let mut sources = of_inventory(&name, &name);
        sources.extend(behind(key));
        match key {
            "sudo" => sources.push(Given::default(Value::Null)),
            "config" => sources.push(Given::default(json!("~/.ssh/config"))),
            _ => {}
        }
        values.extend(Explained::new(name, sources));
    }
    (values, finding)
}

fn json_of(value: &FallbackValue) -> Value {
    match value {
        FallbackValue::None => Value::Null,
        FallbackValue::Text(text) => json!(text),
        FallbackValue::Number(number) => json!(number),
        FallbackValue::List(items) => json!(items),
    }
}
