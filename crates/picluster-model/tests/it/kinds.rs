//! A small vocabulary that stands in for the real one, and helpers around it.

use std::path::Path;

use picluster_model::schema::{Templated, check};
use picluster_model::{
    Color, Diagnostic, Everything, Kinds, Project, RoleLibrary, Yaml, load, render,
};
use serde_json::{Value, json};

/// A few kinds with every shape of schema the walker meets.
pub struct Few;

impl Kinds for Few {
    fn names(&self) -> Vec<&'static str> {
        vec!["file", "package", "command"]
    }

    fn schema(&self, kind: &str) -> Option<Value> {
        Some(match kind {
            "file" => json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["path", "content"],
                "properties": {
                    "path": { "type": "string", "pattern": "^/" },
                    "content": { "$ref": "#/$defs/Text" },
                    "mode": { "type": ["string", "null"], "pattern": "^0[0-7]{3}$" },
                    "owner": { "type": "string" },
                },
                "$defs": { "Text": { "type": "string", "description": "What stands in it" } },
            }),
            "package" => json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["names"],
                "properties": {
                    "names": { "type": "array", "items": { "type": "string" } },
                    "hold": { "type": "boolean" },
                },
            }),
            "command" => json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["run"],
                "properties": {
                    "run": { "type": "string" },
                    "command": { "type": "array", "items": { "type": "string" } },
                    "environment": {
                        "type": "object",
                        "additionalProperties": { "type": "string" },
                    },
                    "data": {},
                    "retries": { "type": "integer", "minimum": 0 },
                },
            }),
            _ => return None,
        })
    }

    /// What the schema says, and two rules no schema can say.
    fn check(&self, kind: &str, body: &Yaml) -> Vec<Diagnostic> {
        let mut found = self
            .schema(kind)
            .map_or_else(Vec::new, |schema| check(body, &schema, Templated::Rendered));
        let text = |key| body.get(key).and_then(Yaml::as_str);
        if kind == "file" && text("path").is_some_and(|path| path.contains("/../")) {
            let place = body.get("path").map_or(&body.span, |path| &path.span);
            found.push(Diagnostic::new("`path` leads back and forth", place));
        }
        if kind == "file" && text("owner") == Some("root") && text("mode") == Some("0777") {
            found.push(Diagnostic::new(
                "root's file is open to everybody",
                &body.span,
            ));
        }
        found
    }

    fn facts_schema(&self) -> Value {
        json!({
            "type": "object",
            "properties": {
                "arch": { "type": "string" },
                "memory_mib": { "type": "integer" },
                "os": { "anyOf": [{ "$ref": "#/$defs/Os" }, { "type": "null" }] },
            },
            "$defs": {
                "Os": {
                    "type": "object",
                    "properties": { "id": { "type": "string" }, "codename": { "type": "string" } },
                },
            },
        })
    }
}

/// A folder with an inventory and roles, gone when dropped.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// Writes files by their relative path.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn load(&self) -> Result<Project, Vec<Diagnostic>> {
        load(
            &self.path().join("inventory.yaml"),
            &RoleLibrary::default(),
            &Few,
            &Everything,
        )
    }

    /// Loads what must be good.
    pub fn good(&self) -> Project {
        self.load()
            .unwrap_or_else(|findings| panic!("{}", self.show(&findings)))
    }

    /// Loads what must be bad, and shows why.
    pub fn bad(&self) -> String {
        match self.load() {
            Ok(_) => panic!("this was accepted"),
            Err(findings) => self.show(&findings),
        }
    }

    /// Findings without the name of the temporary folder.
    pub fn show(&self, findings: &[Diagnostic]) -> String {
        render(findings, Color::Plain).replace(&format!("{}/", self.path().display()), "")
    }
}
