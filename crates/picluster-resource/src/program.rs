//! Joins the questions of many resources into one shell program and takes its output apart again.

mod answer;
mod script;
mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::frame::Frame;
use crate::kinds::kube;
use crate::path::NodePath;
use crate::query::{AnswerError, Answers, Query};
use script::{sections, singles};
use split::split;

/// Marks of units whose inputs changed and that have not yet taken them up. In /run: a reboot
/// starts every unit anew and clears the marks with the same stroke.
pub const PENDING_DIR: &str = "/run/picluster/pending";

/// Text of changed files larger than this is not fetched for diffs.
const TEXT_LIMIT: u32 = 65_536;

/// Shell functions in scope of every operation, together with [`crate::frame::FRAME_SH`].
///
/// - `put PATH MODE OWNER GROUP`: standard input becomes the file: temporary in the same directory
///   (dot-prefixed, without the real suffix, so that nothing which watches `*.conf` or `*.yaml`
///   takes it up), synced, renamed, directory synced. Never a torn file.
/// - `own PATH MODE OWNER GROUP`: chown and chmod; nothing on a file system that has no owners.
/// - `same PATH SHA256`: fails, saying so, when the file is no longer the one that was read.
/// - `point PATH TARGET`: a symbolic link made or replaced in one stroke.
/// - `pend UNIT restart|reload`: sets the pending mark; `restart` is never weakened to `reload`.
pub const PRELUDE_SH: &str = include_str!("prelude.sh");

/// A probe program and the questions it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeProgram {
    /// Shell text; defines functions and prints frames when run. Needs the frame function.
    pub script: String,
    queries: Vec<Query>,
}

/// The raw text an answer is read from: what the node's tools printed for one question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Raw {
    /// Exit status of the tool.
    pub status: u32,
    /// Its standard output, cut down to this question.
    pub text: String,
}

// Frame ids of the joined sections; questions with a frame of their own count from BASE.
const PATHS: u32 = 1;
const LINKS: u32 = 2;
const DIGESTS: u32 = 3;
const PACKAGES: u32 = 4;
const POLICY: u32 = 5;
const UNITS: u32 = 6;
const PENDING: u32 = 7;
const SYSCTLS: u32 = 8;
const GROUPS: u32 = 9;
/// Last frame of every program: without it the answers are not complete.
const END: u32 = 10;
const SIZES: u32 = 11;
const TEXTS: u32 = 12;
const BASE: u32 = 100;

impl ProbeProgram {
    /// Joins questions; duplicates are asked once.
    #[must_use]
    pub fn new(queries: impl IntoIterator<Item = Query>) -> Self {
        let queries: BTreeSet<Query> = queries.into_iter().collect();
        let queries: Vec<Query> = queries.into_iter().collect();
        let mut sh = String::new();
        sections(&mut sh, &queries);
        singles(&mut sh, &queries);
        let _ = writeln!(sh, "fo= fi={END} fs=0; emit");
        Self {
            script: sh,
            queries,
        }
    }

    /// The questions.
    #[must_use]
    pub fn queries(&self) -> &[Query] {
        &self.queries
    }

    /// Whether `frame` is the last one of this program.
    #[must_use]
    pub fn is_end(frame: &Frame) -> bool {
        frame.id == END
    }

    /// Reads the answers to `wanted`, which are some or all of the questions, out of the frames.
    ///
    /// # Errors
    /// [`AnswerError`] for the first of them that cannot be understood.
    pub fn parse(&self, wanted: &[Query], frames: &[Frame]) -> Result<Answers, AnswerError> {
        let raws = split(&self.queries, frames);
        let wanted: BTreeSet<&Query> = wanted.iter().collect();
        let mut answers = BTreeMap::new();
        for (query, raw) in raws {
            if !wanted.contains(&query) {
                continue;
            }
            let answer = query.parse(&raw).map_err(|why| AnswerError {
                query: query.to_string(),
                why,
            })?;
            answers.insert(query, answer);
        }
        Ok(Answers(answers))
    }
}

fn select<'a, T>(queries: &'a [Query], pick: impl Fn(&'a Query) -> Option<T>) -> Vec<T> {
    queries.iter().filter_map(pick).collect()
}

fn paths_of(queries: &[Query]) -> Vec<&str> {
    select(queries, |q| match q {
        Query::Path(path) => Some(path.as_str()),
        _ => None,
    })
}

fn links_of(queries: &[Query]) -> Vec<&str> {
    select(queries, |q| match q {
        Query::Link(path) => Some(path.as_str()),
        _ => None,
    })
}

fn units_of(queries: &[Query]) -> Vec<&str> {
    select(queries, |q| match q {
        Query::Unit(name) => Some(name.as_str()),
        _ => None,
    })
}

fn sysctls_of(queries: &[Query]) -> Vec<&str> {
    select(queries, |q| match q {
        Query::Sysctl(key) => Some(key.as_str()),
        _ => None,
    })
}

fn texts_of(queries: &[Query]) -> Vec<&str> {
    select(queries, |q| match q {
        Query::Text(path) => Some(path.as_str()),
        _ => None,
    })
}

/// The names of the nodes that are asked for with these credentials.
fn cluster_nodes_of<'a>(
    queries: &'a [Query],
    with: &NodePath,
    program: &[NodePath],
) -> Vec<&'a str> {
    select(queries, |q| match q {
        Query::ClusterNode {
            kubeconfig,
            kubectl,
            name,
        } if kubeconfig == with && kubectl == program => Some(name.as_str()),
        _ => None,
    })
}

/// The frame in which the nodes come that are asked for with these credentials: that of the question for all nodes, or else that
/// of the first of them.
fn cluster_frame(queries: &[Query], with: &NodePath, program: &[NodePath]) -> Option<u32> {
    let all = kube::question(with, program, None);
    let numbered = || (BASE..).zip(queries);
    let asked = numbered().find(|(_, q)| matches!(q, Query::Fragment(text) if *text == all));
    let first = || {
        numbered().find(|(_, q)| {
            matches!(q, Query::ClusterNode { kubeconfig, kubectl, .. } if kubeconfig == with && kubectl == program)
        })
    };
    asked.or_else(first).map(|(n, _)| n)
}

/// The file of a kernel setting.
fn sysctl_file(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}

/// SHA-256 as 64 lower-case hex digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}
