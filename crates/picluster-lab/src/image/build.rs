//! The outer half of a build: locks, the process inside the user namespace, the rename into place.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use super::{ImageState, Tree, recipe};
use crate::error::{LabError, Trouble};
use crate::linux::build::BuildOrder;
use crate::linux::userns::{Mapping, UserNs, command_inside};
use crate::options::LabOptions;
use crate::progress::Progress;
use crate::proxy::{Cache, Loopback};

const STAMP: &str = "stamp.json";

fn failed(image: Tree, what: impl Into<String>) -> LabError {
    LabError::Image {
        image: image.to_string(),
        what: what.into(),
        log: String::new(),
    }
}

fn directory(image: Tree, options: &LabOptions) -> Result<(PathBuf, String), LabError> {
    let mapping = Mapping::mine().map_err(|t| failed(image, t.0))?;
    let recipe = recipe::digest(image, &mapping.fingerprint());
    let short = recipe.get(..16).unwrap_or(&recipe).to_owned();
    Ok((
        options.images_dir().join(format!("{image}-{short}")),
        recipe,
    ))
}

fn read_stamp(dir: &Path) -> Option<ImageState> {
    let mut state: ImageState = serde_json::from_slice(&fs::read(dir.join(STAMP)).ok()?).ok()?;
    state.directory = dir.to_owned();
    Some(state)
}

pub(super) fn state(image: Tree, options: &LabOptions) -> Option<ImageState> {
    read_stamp(&directory(image, options).ok()?.0)
}

pub(crate) fn ensure(
    image: Tree,
    options: &LabOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<ImageState, LabError> {
    let (dir, recipe) = directory(image, options)?;
    if let Some(state) = read_stamp(&dir) {
        return Ok(state);
    }
    let images = options.images_dir();
    fs::create_dir_all(&images).map_err(LabError::io(format!("create {}", images.display())))?;
    let _lock = lock(image, &images)?;
    if let Some(state) = read_stamp(&dir) {
        return Ok(state);
    }
    let mut missing = crate::linux::preflight::for_images();
    if matches!(image, Tree::Vm(_)) {
        missing.extend(crate::vm::preflight::for_images());
    }
    if !missing.is_empty() {
        return Err(LabError::Missing(missing));
    }
    let started = Instant::now();
    progress(Progress::ImageBuilding {
        image: image.to_string(),
    });
    let mapping = Mapping::mine().map_err(|t| failed(image, t.0))?;
    // With the lock held, what an interrupted build left is nobody's.
    sweep_half_built(image, &images, &mapping, options);
    let building = images.join(format!(".building-{image}-{}", std::process::id()));
    fs::create_dir(&building).map_err(LabError::io(format!("create {}", building.display())))?;
    let (uid, gid) = mapping.root_ids();
    std::os::unix::fs::chown(&building, Some(uid), Some(gid))
        .map_err(LabError::io(format!("hand over {}", building.display())))?;
    let result = build(image, options, &mapping, &building, &recipe, progress);
    if result.is_err() {
        let _ = remove_tree(&building, &mapping, options);
    }
    result?;
    fs::rename(&building, &dir).map_err(LabError::io(format!(
        "rename {} into place",
        building.display()
    )))?;
    // Only now: should this build fail, a program with the older recipe still has its image.
    sweep_others(image, &images, &dir, &mapping, options);
    progress(Progress::ImageBuilt {
        image: image.to_string(),
        seconds: started.elapsed().as_secs_f64(),
    });
    read_stamp(&dir).ok_or_else(|| failed(image, "the builder left no stamp"))
}

fn build(
    image: Tree,
    options: &LabOptions,
    mapping: &Mapping,
    building: &Path,
    recipe: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), LabError> {
    let of = |t: Trouble| failed(image, t.0);
    let proxy = Loopback::start(Cache::open(&options.apt_dir()).map_err(of)?).map_err(of)?;
    let order = BuildOrder {
        image,
        recipe: recipe.to_owned(),
        proxy: format!("http://127.0.0.1:{}", proxy.port),
    };
    let order = serde_json::to_string(&order).map_err(|e| failed(image, e.to_string()))?;
    let ns = UserNs::new(&options.program, mapping).map_err(of)?;
    let mut child = command_inside(
        &ns,
        mapping,
        &options.program,
        &[(building.to_owned(), "out")],
        &["build".into(), order],
    )
    // Held open until the end: the builder goes when this process does.
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .map_err(LabError::io("start the image builder"))?;
    let mut tail: VecDeque<String> = VecDeque::new();
    let out = child
        .stdout
        .take()
        .map(|o| -> Box<dyn Read> { Box::new(o) })
        .unwrap_or_else(|| Box::new(std::io::empty()));
    let mut out = BufReader::new(out);
    let mut raw = Vec::new();
    while out.read_until(b'\n', &mut raw).is_ok_and(|n| n > 0) {
        let line = String::from_utf8_lossy(&raw).trim_end().to_owned();
        raw.clear();
        if tail.len() == 15 {
            tail.pop_front();
        }
        tail.push_back(line.clone());
        progress(Progress::ImageLine {
            image: image.to_string(),
            line,
        });
    }
    let status = child
        .wait()
        .map_err(LabError::io("wait for the image builder"))?;
    if status.success() {
        return Ok(());
    }
    let log = tail.into_iter().collect::<Vec<_>>().join("\n");
    Err(LabError::Image {
        image: image.to_string(),
        what: format!("the builder ended with {status}"),
        log,
    })
}

pub(super) fn verify(image: Tree, options: &LabOptions) -> Result<(), LabError> {
    let of = |t: Trouble| failed(image, t.0);
    let state = state(image, options).ok_or_else(|| failed(image, "there is none yet"))?;
    let mapping = Mapping::mine().map_err(of)?;
    let ns = UserNs::new(&options.program, &mapping).map_err(of)?;
    // Some of its files are closed to everybody but their owner, whom only the namespace knows.
    let binds = [(state.directory.clone(), "out")];
    let mut command = command_inside(
        &ns,
        &mapping,
        &options.program,
        &binds,
        &["checksum".into()],
    );
    let out = crate::linux::tool::output(&mut command).map_err(of)?;
    if String::from_utf8_lossy(&out).trim() == state.tree_sha256 {
        return Ok(());
    }
    Err(failed(
        image,
        format!("{} is not what was built", state.directory.display()),
    ))
}

pub(super) fn remove(image: Tree, options: &LabOptions) -> Result<(), LabError> {
    let images = options.images_dir();
    if !images.is_dir() {
        return Ok(());
    }
    let _lock = lock(image, &images)?;
    let mapping = Mapping::mine().map_err(|t| failed(image, t.0))?;
    sweep_half_built(image, &images, &mapping, options);
    sweep_others(image, &images, Path::new(""), &mapping, options);
    match versions(image, &images).first() {
        Some(left) => Err(failed(
            image,
            format!(
                "{} is in use by a lab; end it with `picluster lab down`",
                left.display()
            ),
        )),
        None => Ok(()),
    }
}

fn lock(image: Tree, images: &Path) -> Result<File, LabError> {
    let path = images.join(format!("{image}.lock"));
    let file = File::create(&path).map_err(LabError::io(format!("open {}", path.display())))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|e| LabError::Io {
        what: format!("lock {}", path.display()),
        source: e.into(),
    })?;
    Ok(file)
}

/// A hold on an image in use: no sweep removes it meanwhile.
pub(crate) fn hold(dir: &Path) -> Result<File, Trouble> {
    let file =
        File::open(dir.join(STAMP)).map_err(|e| Trouble(format!("open {}: {e}", dir.display())))?;
    flock(&file, FlockOperation::LockShared)
        .map_err(|e| Trouble(format!("hold {}: {e}", dir.display())))?;
    Ok(file)
}

fn versions(image: Tree, images: &Path) -> Vec<PathBuf> {
    let prefix = format!("{image}-");
    fs::read_dir(images)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
        .map(|e| e.path())
        .collect()
}

fn sweep_half_built(image: Tree, images: &Path, mapping: &Mapping, options: &LabOptions) {
    let half = format!(".building-{image}-");
    for entry in fs::read_dir(images).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&half) {
            let _ = remove_tree(&entry.path(), mapping, options);
        }
    }
}

/// Removes all builds of an image but one; those in use stay.
fn sweep_others(image: Tree, images: &Path, keep: &Path, mapping: &Mapping, options: &LabOptions) {
    for dir in versions(image, images).into_iter().filter(|d| d != keep) {
        let free = match File::open(dir.join(STAMP)) {
            Ok(f) => flock(&f, FlockOperation::NonBlockingLockExclusive).is_ok(),
            Err(_) => true,
        };
        if free {
            // Without its stamp it is no image any more, should the rest be interrupted.
            let _ = fs::remove_file(dir.join(STAMP));
            let _ = remove_tree(&dir, mapping, options);
        }
    }
}

/// Removes a directory whose files may belong to ids of the mapping.
pub(crate) fn remove_tree(
    dir: &Path,
    mapping: &Mapping,
    options: &LabOptions,
) -> Result<(), Trouble> {
    if *mapping == Mapping::Shifted {
        return fs::remove_dir_all(dir)
            .map_err(|e| Trouble(format!("remove {}: {e}", dir.display())));
    }
    if !dir.exists() {
        return Ok(());
    }
    let ns = UserNs::new(&options.program, mapping)?;
    crate::linux::tool::run(&mut command_inside(
        &ns,
        mapping,
        &options.program,
        &[(dir.to_owned(), "out")],
        &["empty".into()],
    ))?;
    fs::remove_dir_all(dir).map_err(|e| Trouble(format!("remove {}: {e}", dir.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_older_build_stays_until_there_is_a_newer_one_and_as_long_as_it_is_in_use() {
        let base = tempfile::tempdir().unwrap();
        let images = base.path();
        let options = LabOptions {
            state_root: images.to_owned(),
            cache_root: images.to_owned(),
            program: "/nowhere".into(),
            ready_timeout: std::time::Duration::ZERO,
        };
        let image = Tree::Kubernetes;
        let make = |name: &str| {
            let dir = images.join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(STAMP), "{}").unwrap();
            dir
        };
        let [old, used, new] = ["old", "used", "new"].map(|v| make(&format!("{image}-{v}")));
        let half = make(&format!(".building-{image}-1"));
        let other = make("vm-bookworm-old");
        let held = hold(&used).unwrap();

        sweep_half_built(image, images, &Mapping::Shifted, &options);
        assert!(!half.exists() && old.exists() && used.exists() && new.exists());
        sweep_others(image, images, &new, &Mapping::Shifted, &options);
        assert!(!old.exists() && used.exists() && new.exists() && other.exists());
        drop(held);
        sweep_others(image, images, &new, &Mapping::Shifted, &options);
        assert!(!used.exists() && new.exists() && other.exists());
    }
}
