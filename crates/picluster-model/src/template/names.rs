//! What templates may name, and what is meant by a name that does not exist.

use serde_json::Value;

use crate::role::Shape;
use crate::suggest;

/// What a text may name.
pub struct Names<'a> {
    /// The parameters of the role, where there is one.
    pub params: Option<Vec<&'a str>>,
    /// What may follow `facts.`.
    pub facts: &'a Value,
    /// The variables that exist, where that is known.
    pub vars: Option<Vec<&'a str>>,
    /// Whether the text is repeated: `item` and `index` exist.
    pub each: bool,
    /// What `item` looks like, where that is declared.
    pub item: Option<&'a Shape>,
    /// Whether the text may stand inside of another, whose names it sees.
    pub partial: bool,
    /// Whose variables `vars` are, for messages.
    pub node: Option<&'a str>,
}

/// What can be asked of a node.
const NODE: [&str; 9] = [
    "name",
    "address",
    "groups",
    "labels",
    "taints",
    "kubernetes",
    "expected",
    "user",
    "login",
];
/// What can be asked of the cluster.
const CLUSTER: [&str; 1] = ["name"];
/// What can be asked of the `kubernetes` section.
const KUBERNETES: [&str; 21] = [
    "distribution",
    "version",
    "minor",
    "endpoint",
    "datastore",
    "repository",
    "disable",
    "tls_san",
    "cluster_cidr",
    "service_cidr",
    "service_networks",
    "token",
    "agent_token",
    "artifact",
    "checksum",
    "images",
    "config",
    "agent_config",
    "registries",
    "kubeconfig",
    "manifests",
];
/// What can be asked of the folder of packages.
const PACKAGES: [&str; 2] = ["files", "only"];
/// The names templates begin with.
const ROOTS: [&str; 10] = [
    "params",
    "vars",
    "node",
    "nodes",
    "cluster",
    "kubernetes",
    "packages",
    "facts",
    "groups",
    "item",
];

/// Filters there are, for suggestions. A test asks the engine for each.
pub const FILTERS: [&str; 45] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
];
/// Tests there are, for suggestions. A test asks the engine for each.
pub const TESTS: [&str; 20] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "even",
    "false",
    "float",
    "in",
    "integer",
    "iterable",
    "lower",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
];

/// Why a name does not exist, and what to do; `None` when it does.
pub(super) fn unknown(name: &str, names: &Names<'_>) -> Option<(String, Option<String>)> {
    let mut parts = name.split('.');
    let root = parts.next().unwrap_or("");
    let first = parts.next();
    let fixed = |known: &[&str]| -> Option<(String, Option<String>)> {
        let first = first?;
        (!known.contains(&first)).then(|| {
            (
                format!("`{root}` has no `{first}`"),
                suggest::help("it has", first, known.iter().copied()),
            )
        })
    };
    match root {
        "params" => {
            let Some(params) = &names.params else {
                return Some((
                    String::from("there are no `params` here"),
                    Some(String::from("only a role has parameters; use `vars`")),
                ));
            };
            let first = first?;
            (!params.contains(&first)).then(|| {
                (
                    format!("unknown parameter `{first}`"),
                    suggest::help("parameters of this role", first, params.iter().copied())
                        .or_else(|| Some(String::from("declare it under `parameters`"))),
                )
            })
        }
        "vars" => {
            let vars = names.vars.as_ref()?;
            let first = first?;
            (!vars.contains(&first)).then(|| {
                let whose = names
                    .node
                    .map_or_else(String::new, |node| format!(" on node {node}"));
                (
                    format!("unknown variable `{first}`{whose}"),
                    suggest::help("variables there", first, vars.iter().copied()).or_else(|| {
                        Some(String::from(
                            "set it under `vars` of the inventory, a group or the node",
                        ))
                    }),
                )
            })
        }
        "facts" => fact(name, names.facts),
        "node" => fixed(&NODE),
        "cluster" => fixed(&CLUSTER),
        "kubernetes" => fixed(&KUBERNETES),
        "packages" => fixed(&PACKAGES),
        "nodes" | "groups" => None,
        "item" if names.item.is_some() => names.item.and_then(|shape| field(name, shape)),
        "item" | "index" if names.each || names.partial => None,
        "item" | "index" => Some((
            format!("there is no `{root}` here"),
            Some(String::from("it exists in entries with `each`")),
        )),
        _ if names.partial => None,
        _ => Some((
            format!("unknown name `{root}`"),
            match &names.params {
                Some(params) if params.contains(&root) => {
                    Some(format!("did you mean `params.{root}`?"))
                }
                _ => match &names.vars {
                    Some(vars) if vars.contains(&root) => {
                        Some(format!("did you mean `vars.{root}`?"))
                    }
                    _ => suggest::help("names here", root, ROOTS),
                },
            },
        )),
    }
}

/// Follows a name through the fields of an item, as far as they are declared.
fn field(name: &str, shape: &Shape) -> Option<(String, Option<String>)> {
    let mut parts = name.split('.');
    let mut known = parts.next().unwrap_or_default().to_owned();
    let mut at = shape;
    for part in parts {
        if at.fields.is_empty() {
            return None;
        }
        let Some(next) = at.fields.get(part) else {
            let fields = at.fields.keys().map(String::as_str);
            return Some((
                format!("`{known}` has no field `{part}`"),
                suggest::help("it has", part, fields),
            ));
        };
        at = &next.shape;
        known = format!("{known}.{part}");
    }
    None
}

/// Follows a name through the schema of facts.
fn fact(name: &str, schema: &Value) -> Option<(String, Option<String>)> {
    let mut at = resolve(schema, schema);
    let mut known = String::from("facts");
    for part in name.split('.').skip(1) {
        let properties = at.get("properties").and_then(Value::as_object);
        let Some(properties) = properties else {
            let typed = at.get("type").and_then(Value::as_str);
            return match typed {
                Some("string" | "integer" | "number" | "boolean" | "array") => {
                    Some((format!("`{known}` has no `{part}`"), None))
                }
                _ => None,
            };
        };
        match properties.get(part) {
            Some(next) => at = resolve(next, schema),
            None => {
                // An open mapping may hold anything.
                if at
                    .get("additionalProperties")
                    .is_some_and(|more| *more != Value::Bool(false))
                {
                    return None;
                }
                let help = suggest::nearest(part, properties.keys().map(String::as_str))
                    .map_or_else(
                        || {
                            let all: Vec<&str> = properties.keys().map(String::as_str).collect();
                            format!(
                                "facts are what no apply changes; `{known}` has: {}",
                                all.join(", ")
                            )
                        },
                        |near| format!("did you mean `{known}.{near}`?"),
                    );
                return Some((format!("unknown fact `{known}.{part}`"), Some(help)));
            }
        }
        known = format!("{known}.{part}");
    }
    None
}

fn resolve<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    let direct = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| reference.strip_prefix('#'))
        .and_then(|pointer| root.pointer(pointer));
    if let Some(target) = direct {
        return resolve(target, root);
    }
    // An optional object: the branch that has properties.
    for keyword in ["anyOf", "allOf", "oneOf"] {
        for branch in schema
            .get(keyword)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let branch = resolve(branch, root);
            if branch.get("properties").is_some() {
                return branch;
            }
        }
    }
    schema
}
