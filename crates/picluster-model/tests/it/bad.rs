//! Every bad sample: what is said about it, to the letter.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use picluster_model::{Color, Diagnostic, Everything, RoleLibrary, load, render};

use crate::kinds::Few;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/bad")
}

fn findings(path: &Path) -> Vec<Diagnostic> {
    load(path, &RoleLibrary::default(), &Few, &Everything)
        .err()
        .unwrap_or_default()
}

fn show(findings: &[Diagnostic]) -> String {
    let folder = samples();
    render(findings, Color::Plain)
        .replace(&format!("{}/", folder.display()), "")
        .replace(&folder.display().to_string(), "tests/bad")
}

#[test]
fn every_bad_sample_is_refused_and_says_why() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut names: Vec<PathBuf> = std::fs::read_dir(samples())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    names.sort();
    assert!(names.len() > 40);
    settings.bind(|| {
        for path in names {
            let found = findings(&path);
            assert!(!found.is_empty(), "{} was accepted", path.display());
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            insta::assert_snapshot!(name, show(&found));
        }
    });
}

#[test]
fn what_is_no_file_is_refused() {
    let missing = samples().join("there-is-none.yaml");
    assert_eq!(
        show(&findings(&missing)),
        "error: there-is-none.yaml does not exist\n"
    );
    assert!(
        show(&findings(&samples())).starts_with("error: tests/bad is a directory, not a file\n")
    );
}

/// Every finding has a place (unless it is about a whole file), and no place is said twice the
/// same way.
#[test]
fn findings_have_places_and_are_not_repeated() {
    for entry in std::fs::read_dir(samples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let found = findings(&path);
        let mut seen = BTreeSet::new();
        for finding in &found {
            let place = finding.span.as_ref().map(ToString::to_string);
            assert!(
                place.is_some() || found.len() == 1,
                "{}: {}",
                path.display(),
                finding.message
            );
            assert!(
                seen.insert((place, finding.message.clone())),
                "{}: {} is said twice",
                path.display(),
                finding.message
            );
        }
    }
}

#[test]
fn colours_change_no_word() {
    let found = findings(&samples().join("everything-at-once.yaml"));
    let styled = render(&found, Color::Styled);
    assert!(styled.contains('\u{1b}'));
    let mut plain = String::new();
    let mut rest = styled.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_eq!(plain, render(&found, Color::Plain));
}
