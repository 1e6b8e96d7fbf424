//! What holds for any input.

use std::sync::Arc;

use picluster_model::secret::{SecretText, SecretValues};
use picluster_model::yaml::parse;
use picluster_model::{
    Color, Diagnostic, Everything, RenderContext, RoleLibrary, Secret, SecretRef, SourceFile, Yaml,
    YamlKind, load, render, render_role,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::kinds::{Few, Folder};

fn source(text: &str) -> Arc<SourceFile> {
    Arc::new(SourceFile {
        name: String::from("t.yaml"),
        text: text.to_owned(),
    })
}

/// Text that looks like a document now and then.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop_oneof![
        Just("cluster: c\n".to_owned()),
        Just("nodes:\n".to_owned()),
        Just("  pi-[1:3]: { address: \"10.0.0.{n}\" }\n".to_owned()),
        Just("vars: { a: \"{{ vars.b }}\" }\n".to_owned()),
        Just("- |\n  x\n".to_owned()),
        Just("&a [*a, *b]".to_owned()),
        Just("!tag ".to_owned()),
        Just("? [x]\n: y\n".to_owned()),
        Just("\t".to_owned()),
        Just("\r\n".to_owned()),
        Just("---\n".to_owned()),
        Just("ü€🦀".to_owned()),
        "[-\\[\\]{}:,'\"#&*!|>%@` \n a-z0-9.]{0,12}",
    ];
    proptest::collection::vec(scrap, 0..12).prop_map(|parts| parts.concat())
}

/// Every place must stand in the text, between characters, where line and column say.
fn check_place(span: &picluster_model::Span, text: &str) {
    let (start, end) = (span.start as usize, span.end as usize);
    assert!(start <= end && end <= text.len());
    assert!(text.is_char_boundary(start) && text.is_char_boundary(end));
    let before = &text[..start];
    assert_eq!(span.line as usize, before.matches('\n').count() + 1);
    let line = before.rsplit('\n').next().unwrap_or("");
    assert_eq!(span.column as usize, line.chars().count() + 1);
}

fn check_findings(findings: &[Diagnostic], text: &str) {
    for finding in findings {
        for span in finding
            .span
            .iter()
            .chain(finding.related.iter().map(|(s, _)| s))
        {
            if span.file.text == text {
                check_place(span, text);
            }
        }
    }
    assert!(render(findings, Color::Plain).starts_with("error: "));
}

fn check_tree(value: &Yaml, text: &str) {
    check_place(&value.span, text);
    match &value.kind {
        YamlKind::Seq(items) => items.iter().for_each(|item| check_tree(item, text)),
        YamlKind::Map(entries) => {
            for (_, span, item) in entries {
                check_place(span, text);
                check_tree(item, text);
            }
        }
        _ => {}
    }
}

/// Writes a value as a document, in block style, so that each scalar stands alone.
fn write(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, item) in map {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                out.push_str(&Value::String(key.clone()).to_string());
                out.push_str(": ");
                write(item, indent + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                out.push_str("- ");
                write(item, indent + 2, out);
            }
        }
        other => out.push_str(&other.to_string()),
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1.0e6..1.0e6f64).prop_map(|f| json!(f)),
        "[ -~üé€]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z ü]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_input_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        match parse::from_bytes("t.yaml", bytes) {
            Ok(file) => match parse::parse(&file) {
                Ok(tree) => check_tree(&tree, &file.text),
                Err(findings) => check_findings(&findings, &file.text),
            },
            Err(finding) => prop_assert!(finding.message.contains("UTF-8")),
        }
    }

    #[test]
    fn places_point_at_the_text(text in scraps()) {
        match parse::parse(&source(&text)) {
            Ok(tree) => check_tree(&tree, &text),
            Err(findings) => {
                prop_assert!(!findings.is_empty());
                check_findings(&findings, &text);
            }
        }
    }

    #[test]
    fn loading_any_text_ends_with_findings_or_a_project(text in scraps()) {
        let folder = Folder::new(&[("inventory.yaml", &text)]);
        let path = folder.path().join("inventory.yaml");
        if let Err(findings) = load(&path, &RoleLibrary::default(), &Few, &Everything) {
            prop_assert!(!findings.is_empty());
            check_findings(&findings, &text);
        }
    }

    #[test]
    fn a_document_means_the_value_it_was_written_from(value in values()) {
        let mut text = String::from("root: ");
        write(&value, 2, &mut text);
        text.push('\n');
        let tree = parse::parse(&source(&text)).expect("a good document");
        prop_assert_eq!(tree.get("root").unwrap().to_json(), value.clone());
        check_tree(&tree, &text);
        // Typed reading sees the same.
        let decoded: Value = tree.get("root").unwrap().decode().unwrap();
        prop_assert_eq!(decoded, value);
    }

    #[test]
    fn a_scalar_stands_where_its_place_says(value in values()) {
        let mut text = String::from("root: ");
        write(&value, 2, &mut text);
        let tree = parse::parse(&source(&text)).expect("a good document");
        fn walk(value: &Yaml) {
            match &value.kind {
                YamlKind::Seq(items) => items.iter().for_each(walk),
                YamlKind::Map(entries) => {
                    for (key, span, item) in entries {
                        assert_eq!(span.text(), if key == "root" && span.line == 1 { "root".to_owned() } else { Value::from(key.as_str()).to_string() });
                        walk(item);
                    }
                }
                _ => assert_eq!(value.span.text(), value.to_json().to_string()),
            }
        }
        walk(&tree);
    }

    #[test]
    fn ranges_give_as_many_names_as_numbers(first in 0u32..300, count in 1u32..40, pad in any::<bool>()) {
        let last = first + count - 1;
        let width = last.to_string().len() + 1;
        let key = if pad {
            format!("n[{first:0width$}:{last:0width$}]x")
        } else {
            format!("n[{first}:{last}]x")
        };
        let text = format!("cluster: c\nnodes:\n  {key}: {{ address: \"h{{n}}.lan\" }}\n");
        let project = Folder::new(&[("inventory.yaml", &text)]).good();
        prop_assert_eq!(project.inventory.nodes.len(), count as usize);
        for (n, node) in (first..=last).zip(project.inventory.nodes.values()) {
            let digits = node.name.as_str().trim_start_matches('n').trim_end_matches('x');
            prop_assert_eq!(digits.parse::<u32>().unwrap(), n);
            prop_assert_eq!(digits.len(), if pad { width } else { n.to_string().len() });
            prop_assert_eq!(&node.address, &format!("h{n}.lan"));
        }
    }

    /// Whatever a secret's name is and wherever it is printed, the text that comes out holds
    /// exactly that reference, and revealing puts the value there.
    #[test]
    fn placeholders_are_never_lost(
        name in "[ -~ü]{1,20}",
        value in "[ -~\n\"\\\\ü]{0,20}",
        before in "[a-z \n]{0,8}",
        after in "[a-z ]{0,8}",
    ) {
        let reference = SecretRef::Env(name.clone());
        let inventory = format!(
            "cluster: c\nroles: [r]\nvars: {{ s: {{ env: {} }}, before: {}, after: {} }}\nnodes:\n  pi: {{ address: 10.0.0.1 }}\n",
            Value::from(name), Value::from(before.clone()), Value::from(after.clone()),
        );
        let role = r#"resources:
  - file: { path: /a, content: "{{ vars.before }}{{ vars.s }}{{ vars.after }}" }
  - file: { path: /b, content: "{{ [vars.before ~ vars.s ~ vars.after] | tojson }}" }
  - file: { path: /c, content: "{{ vars.s }}" }
"#;
        // A name that holds a template would be one.
        prop_assume!(!inventory.contains("{{") && !inventory.contains("{%") && !inventory.contains("{#"));
        let project = Folder::new(&[("inventory.yaml", &inventory), ("roles/r/role.yaml", role)]).good();
        let node = &project.inventory.nodes["pi"];
        let context = RenderContext::new(&project, node, &json!({})).unwrap();
        let entries = render_role(&project.roles["r"], &node.roles[0], &context).unwrap();
        let mut values = SecretValues::default();
        values.0.insert(reference.clone(), Secret::new(value.clone()));
        let plain = format!("{before}{value}{after}");
        let wanted = [plain.clone(), json!([plain]).to_string(), value];
        for (entry, wanted) in entries.iter().zip(wanted) {
            let text: SecretText = entry.body.get("content").unwrap().decode().unwrap();
            prop_assert_eq!(text.references(), vec![reference.clone()]);
            let revealed = text.reveal(&values).unwrap();
            prop_assert_eq!(revealed.reveal(), &wanted);
        }
    }
}
