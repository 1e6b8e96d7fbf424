//! Large files: sent once, resumed after a broken connection, checked on both ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use picluster_resource::kinds::artifact::Artifact;
use picluster_resource::kinds::file::Presence;
use picluster_resource::program::sha256_hex;
use picluster_resource::{NodePath, Resource};
use tokio::io::AsyncRead;

use super::kit::{Rig, node, whoami};
use crate::event::EventKind;
use crate::exit_code::ExitCode;
use crate::report::Outcome;
use crate::testing::Fault;
use crate::upload::Artifacts;

/// Files of a test, by the digest they are asked for.
struct Shelf(BTreeMap<String, Vec<u8>>);

#[async_trait]
impl Artifacts for Shelf {
    async fn open(&self, sha256: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, String> {
        match self.0.get(sha256) {
            Some(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            None => Err(format!("{sha256} is not here")),
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn rig(content: &[u8]) -> (Rig, Resource) {
    let mut rig = Rig::new();
    let sha256 = sha256_hex(content);
    rig.artifacts = Arc::new(Shelf([(sha256.clone(), content.to_vec())].into()));
    let (owner, group) = whoami();
    let artifact = Resource::Artifact(Artifact {
        path: NodePath::new(rig.path("big").display().to_string()).unwrap(),
        source: None,
        sha256: Some(sha256),
        size: Some(content.len() as u64),
        mode: "0755".into(),
        owner,
        group,
        state: Presence::Present,
    });
    (rig, artifact)
}

fn parts(rig: &Rig) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(rig.dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| {
            p.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(".picluster")
        })
        .collect()
}

/// Where sending began and ended, as the events say.
fn sent(events: &[EventKind]) -> Option<(u64, u64)> {
    let mut progress = events.iter().filter_map(|e| match e {
        EventKind::StepUploading { sent, .. } => Some(*sent),
        _ => None,
    });
    let first = progress.next()?;
    Some((first, progress.next_back().unwrap_or(first)))
}

fn only(events: &[EventKind]) -> Outcome {
    let mut all = events.iter().filter_map(|e| match e {
        EventKind::StepFinished { outcome, .. } => Some(outcome.clone()),
        _ => None,
    });
    let one = all.next().unwrap();
    assert_eq!(all.next(), None);
    one
}

const SIZE: usize = 9 << 20;

#[tokio::test]
async fn a_file_is_streamed_and_a_second_apply_sends_nothing() {
    let content = bytes(SIZE);
    let (rig, artifact) = rig(&content);
    let plan = rig.plan(&[("pi", vec![artifact.clone()])]).await;
    assert_eq!(plan.steps[0].change.bytes, SIZE as u64);
    let text = serde_json::to_string(&plan).unwrap();
    assert!(text.len() < 20_000, "a plan holds no bytes of artifacts");
    let (report, events) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{events:?}");
    assert_eq!(std::fs::read(rig.path("big")).unwrap(), content);
    assert_eq!(sent(&events), Some((0, SIZE as u64)));
    assert_eq!(parts(&rig), Vec::<std::path::PathBuf>::new());
    let count = rig.engine.counters().total();
    assert_eq!((count.connections, count.execs), (1, 2));
    assert!(count.bytes_out >= SIZE as u64);
    assert!(rig.plan(&[("pi", vec![artifact])]).await.is_empty());
}

#[tokio::test]
async fn a_broken_upload_is_resumed_by_the_next_apply() {
    let content = bytes(SIZE);
    let (rig, artifact) = rig(&content);
    let plan = rig.plan(&[("pi", vec![artifact.clone()])]).await;
    rig.connector
        .faults(&node("pi"), [Fault::CutAfterInput(5 << 20)]);
    let (_, events) = rig.apply(&plan).await;
    assert!(matches!(only(&events), Outcome::Lost { .. }), "{events:?}");
    assert!(!rig.path("big").exists(), "never a torn file");
    let left = parts(&rig);
    assert_eq!(left.len(), 1);

    let plan = rig.plan(&[("pi", vec![artifact.clone()])]).await;
    let before = rig.engine.counters().total().bytes_out;
    let (report, events) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{events:?}");
    let (from, to) = sent(&events).unwrap();
    assert!(from > 4 << 20 && to == SIZE as u64, "{from} {to}");
    let out = rig.engine.counters().total().bytes_out - before;
    assert!(out < 5 << 20, "{out} bytes went out");
    assert_eq!(std::fs::read(rig.path("big")).unwrap(), content);
    assert_eq!(parts(&rig), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn what_an_interrupted_upload_left_is_not_trusted() {
    let content = bytes(SIZE);
    let (rig, artifact) = rig(&content);
    let plan = rig.plan(&[("pi", vec![artifact.clone()])]).await;
    rig.connector
        .faults(&node("pi"), [Fault::CutAfterInput(5 << 20)]);
    rig.apply(&plan).await;
    // As after a loss of power: the length is there, the bytes are not.
    let part = parts(&rig).remove(0);
    let len = std::fs::metadata(&part).unwrap().len();
    std::fs::write(&part, vec![0; usize::try_from(len).unwrap()]).unwrap();
    let plan = rig.plan(&[("pi", vec![artifact])]).await;
    let (report, events) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{events:?}");
    assert_eq!(sent(&events), Some((0, SIZE as u64)));
    assert_eq!(std::fs::read(rig.path("big")).unwrap(), content);
}

#[tokio::test]
async fn a_file_that_is_not_what_was_planned_reaches_no_place() {
    let (mut rig, artifact) = rig(&bytes(SIZE));
    let Resource::Artifact(Artifact {
        sha256: Some(sha256),
        ..
    }) = &artifact
    else {
        panic!()
    };
    let mut other = bytes(SIZE);
    other[77] ^= 1;
    rig.artifacts = Arc::new(Shelf([(sha256.clone(), other)].into()));
    let plan = rig.plan(&[("pi", vec![artifact])]).await;
    let (_, events) = rig.apply(&plan).await;
    let Outcome::Failed(failure) = only(&events) else {
        panic!("{events:?}")
    };
    assert!(
        failure.what.contains("not the one the plan was made from"),
        "{failure:?}"
    );
    assert!(!rig.path("big").exists());
    assert_eq!(parts(&rig), Vec::<std::path::PathBuf>::new());
}
