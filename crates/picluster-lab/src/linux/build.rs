//! The inner half of an image build: root of a user namespace, with this machine's network.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use rustix::mount::{MountFlags, UnmountFlags, unmount};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Attempt, Trouble};
use crate::image::Tree;
use crate::image::recipe::{self, ImageFile, Layer, Package};
use crate::linux::tool::{self, tool};
use crate::linux::{list_upper, mounts};
use crate::{kubernetes, vm};

/// What to build.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BuildOrder {
    pub image: Tree,
    pub recipe: String,
    /// Address of the caching proxy.
    pub proxy: String,
}

const OUT: &str = "/run/lab/out";

/// `ORDER`; says its progress on stdout, failures too.
pub(crate) fn main(args: &[OsString]) -> Result<(), Trouble> {
    super::supervisor::end_with_stdin();
    let text = args
        .first()
        .map(|a| a.to_string_lossy().into_owned())
        .unwrap_or_default();
    let order: BuildOrder =
        serde_json::from_str(&text).attempt(|| "read the build order".into())?;
    let out = Path::new(OUT);
    let root = out.join("root");
    if order.image == Tree::Kubernetes {
        build_kubernetes(&order, out, &root)?;
        return finish(&order, out, &root);
    }
    if order.image == Tree::Etcd {
        build_etcd(&order, out, &root)?;
        return finish(&order, out, &root);
    }
    let is_vm = matches!(order.image, Tree::Vm(_));
    if is_vm {
        vm::kernel::emulate()?;
    }
    bootstrap(&order, out, &root)?;
    say("preparing the tree");
    prepare(&root, is_vm)?;
    for layer in recipe::layers(order.image) {
        say(&format!("preparing the layer {}", layer.name));
        make_layer(layer, &root, out)?;
    }
    if is_vm {
        say("taking the kernel out");
        vm::kernel::finish(&root, out)?;
    }
    fs::remove_dir_all(root.join("lab")).attempt(|| "remove the downloaded packages".into())?;
    finish(&order, out, &root)
}

/// Everything that is not the image goes; the stamp says that it is complete.
fn finish(order: &BuildOrder, out: &Path, root: &Path) -> Result<(), Trouble> {
    fs::remove_dir_all(out.join("tmp")).attempt(|| "remove the temporary directory".into())?;
    say("taking the checksum");
    let stamp = serde_json::json!({ "recipe": order.recipe, "tree_sha256": checksum(root) });
    fs::write(out.join("stamp.json"), stamp.to_string()).attempt(|| "write the stamp".into())?;
    // Readable for whoever starts labs, whatever the umask.
    fs::set_permissions(out, fs::Permissions::from_mode(0o755))
        .attempt(|| "open the image directory".into())
}

/// Says the checksum of a finished image.
pub(crate) fn print_checksum() {
    say(&checksum(&Path::new(OUT).join("root")));
}

/// Removes everything in the directory; files of mapped ids can be removed here only.
pub(crate) fn empty() -> Result<(), Trouble> {
    for entry in fs::read_dir(OUT)
        .attempt(|| "read the directory".into())?
        .flatten()
    {
        let path = entry.path();
        let gone = if entry.file_type().is_ok_and(|t| t.is_dir()) {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        gone.attempt(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn temporary(out: &Path) -> Result<std::path::PathBuf, Trouble> {
    let tmp = out.join("tmp");
    fs::create_dir(&tmp).attempt(|| "create a temporary directory".into())?;
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777))
        .attempt(|| "open the temporary directory".into())?;
    Ok(tmp)
}

/// Builds in a throw-away tree that has the compiler, and keeps the programs.
fn build_kubernetes(order: &BuildOrder, out: &Path, root: &Path) -> Result<(), Trouble> {
    let tmp = temporary(out)?;
    let programs = root.join(kubernetes::DIRECTORY);
    fs::create_dir_all(&programs).attempt(|| format!("create {}", programs.display()))?;
    let script = tmp.join("build.sh");
    fs::write(&script, kubernetes::SCRIPT).attempt(|| "write the build script".into())?;
    let copy = kubernetes::PROGRAMS
        .iter()
        .map(|(from, name)| {
            let (from, to) = (shell_word(from), programs.join(name));
            format!(
                "cp \"$1\"{from} {} && ",
                shell_word(&to.display().to_string())
            )
        })
        .collect::<String>();
    let hook = format!(
        "cp {} \"$1/build.sh\" && chroot \"$1\" sh /build.sh && {copy}true",
        shell_word(&script.display().to_string())
    );
    let mut command = tool("mmdebstrap");
    command
        .args(["--mode=root", "--variant=minbase", "--format=null"])
        .arg("--dpkgopt=force-unsafe-io")
        .arg(format!("--aptopt=Acquire::http::Proxy \"{}\"", order.proxy))
        .arg(format!("--include={}", kubernetes::PACKAGES.join(",")))
        .arg(format!("--customize-hook={hook}"))
        .arg(order.image.suite())
        .arg("-");
    mmdebstrap(command, &tmp)?;
    for (_, name) in kubernetes::PROGRAMS {
        let program = programs.join(name);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
            .attempt(|| format!("make {} a program", program.display()))?;
    }
    Ok(())
}

/// Unpacks the package, which is not installed, and keeps its program.
fn build_etcd(order: &BuildOrder, out: &Path, root: &Path) -> Result<(), Trouble> {
    let tmp = temporary(out)?;
    let (package, program) = kubernetes::ETCD;
    let unpacked = tmp.join("unpacked");
    let mut command = tool("mmdebstrap");
    command
        .args(["--mode=root", "--variant=extract", "--format=directory"])
        .arg(format!("--aptopt=Acquire::http::Proxy \"{}\"", order.proxy))
        .arg(format!("--include={package}"))
        .arg(order.image.suite())
        .arg(&unpacked);
    mmdebstrap(command, &tmp)?;
    let programs = root.join(kubernetes::DIRECTORY);
    fs::create_dir_all(&programs).attempt(|| format!("create {}", programs.display()))?;
    let (from, to) = (unpacked.join(program), programs.join("etcd"));
    fs::copy(&from, &to).attempt(|| format!("copy {}", from.display()))?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755))
        .attempt(|| format!("make {} a program", to.display()))
}

/// A word of a hook, which mmdebstrap hands to a shell. Its words are ours: paths and program names.
fn shell_word(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn bootstrap(order: &BuildOrder, out: &Path, root: &Path) -> Result<(), Trouble> {
    let tmp = temporary(out)?;
    // While the package lists are there, the layers' packages are put aside.
    let names: Vec<&str> = recipe::layers(order.image)
        .iter()
        .flat_map(|l| l.archive.iter().copied())
        .chain(matches!(order.image, Tree::Vm(_)).then_some(vm::recipe::BUSYBOX))
        .collect();
    let download = format!(
        "mkdir -p \"$1/lab\" && chroot \"$1\" sh -c 'cd /lab && apt-get -q -o APT::Sandbox::User=root download {}'",
        names.join(" ")
    );
    let mut command = tool("mmdebstrap");
    if matches!(order.image, Tree::Vm(_)) {
        vm::kernel::bootstrap_arguments(&mut command);
    }
    command
        .args([
            "--mode=root",
            "--variant=minbase",
            "--format=directory",
            "--dpkgopt=force-unsafe-io",
        ])
        .arg(format!("--aptopt=Acquire::http::Proxy \"{}\"", order.proxy))
        .arg(format!("--include={}", recipe::PACKAGES.join(",")))
        .arg(format!("--customize-hook={download}"))
        .arg(order.image.suite())
        .arg(root);
    mmdebstrap(command, &tmp)
}

/// Runs it and repeats what it says.
fn mmdebstrap(mut command: std::process::Command, tmp: &Path) -> Result<(), Trouble> {
    let mut child = command
        .env("TMPDIR", tmp)
        .env("HOME", "/")
        .env_remove("http_proxy")
        .current_dir("/")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .attempt(|| "run mmdebstrap".into())?;
    if let Some(err) = child.stderr.take() {
        for line in BufReader::new(err).lines().map_while(Result::ok) {
            // Progress bars of dpkg and apt redraw one line.
            let last = line
                .rsplit('\r')
                .find(|l| !l.trim().is_empty())
                .unwrap_or_default();
            // mmdebstrap tries to mount /sys, which needs a network namespace of our own, and goes on without.
            let known =
                last.contains("/sys: permission denied") || last.contains("dmesg(1) may have more");
            if !last.is_empty() && !known {
                say(last.trim_end());
            }
        }
    }
    let status = child.wait().attempt(|| "wait for mmdebstrap".into())?;
    if status.success() {
        Ok(())
    } else {
        Err(Trouble(format!("mmdebstrap ended with {status}")))
    }
}

/// `is_vm`: nothing of it stands in for the kernel, and our units are added.
fn prepare(root: &Path, is_vm: bool) -> Result<(), Trouble> {
    // The proxy of the build is no node's.
    let _ = fs::remove_file(root.join("etc/apt/apt.conf.d/99mmdebstrap"));
    for entry in fs::read_dir(root.join("etc/ssh"))
        .attempt(|| "read /etc/ssh".into())?
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path()).attempt(|| "remove a host key".into())?;
        }
    }
    for path in [
        "var/lib/dbus/machine-id",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/localtime",
        "etc/timezone",
    ] {
        let _ = fs::remove_file(root.join(path));
    }
    fs::write(root.join("etc/machine-id"), "").attempt(|| "empty the machine-id".into())?;
    fs::create_dir_all(root.join("boot/firmware")).attempt(|| "create /boot/firmware".into())?;
    let (diverted, masked): (&[&str], &[&str]) = if is_vm {
        (&[], &vm::recipe::MASKED)
    } else {
        (&recipe::DIVERTED, &recipe::MASKED)
    };
    for program in diverted {
        chroot(
            root,
            &[
                "dpkg-divert",
                "--quiet",
                "--local",
                "--rename",
                "--divert",
                &format!("{program}.distrib"),
                "--add",
                program,
            ],
        )?;
    }
    let shared = recipe::FILES
        .iter()
        .filter(|(path, ..)| !is_vm || !recipe::DIVERTED.iter().any(|d| d.ends_with(path)));
    let own: &[ImageFile] = if is_vm { &vm::recipe::FILES } else { &[] };
    for file in shared.chain(own) {
        write_file(root, file)?;
    }
    for unit in masked {
        let link = root.join("etc/systemd/system").join(unit);
        let _ = fs::remove_file(&link);
        symlink("/dev/null", &link).attempt(|| format!("mask {unit}"))?;
    }
    Ok(())
}

fn write_file(root: &Path, (path, mode, content): &ImageFile) -> Result<(), Trouble> {
    let path = root.join(path);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).attempt(|| format!("create {}", dir.display()))?;
    }
    fs::write(&path, content).attempt(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(*mode))
        .attempt(|| format!("set the mode of {}", path.display()))
}

fn chroot(root: &Path, args: &[&str]) -> Result<(), Trouble> {
    tool::run(
        tool("chroot")
            .arg(root)
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", tool::PATH),
    )
}

/// Installs a layer's packages into an overlay and keeps the difference.
fn make_layer(layer: &Layer, root: &Path, out: &Path) -> Result<(), Trouble> {
    let upper = out.join("layers").join(layer.name);
    let (work, merged) = (out.join("tmp/work"), out.join("tmp/merged"));
    for dir in [&upper, &work, &merged] {
        fs::create_dir_all(dir).attempt(|| format!("create {}", dir.display()))?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        root.display(),
        upper.display(),
        work.display()
    );
    mounts::mount("overlay", &merged, MountFlags::empty(), &options)?;
    let filled = fill_layer(layer, &merged);
    unmount(&merged, UnmountFlags::empty()).attempt(|| "unmount the layer".into())?;
    filled?;
    for path in [
        "var/log/dpkg.log",
        "var/lib/dpkg/status-old",
        "var/log/alternatives.log",
    ] {
        let _ = fs::remove_file(upper.join(path));
    }
    fs::remove_dir_all(&work).attempt(|| "remove the work directory".into())
}

fn fill_layer(layer: &Layer, merged: &Path) -> Result<(), Trouble> {
    let mut debs = Vec::new();
    for entry in fs::read_dir(merged.join("lab"))
        .attempt(|| "read the downloaded packages".into())?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if layer
            .archive
            .iter()
            .any(|p| name.starts_with(&format!("{p}_")))
        {
            debs.push(format!("/lab/{name}"));
        }
    }
    for package in layer.made {
        debs.push(make_package(package, merged)?);
    }
    let mut args = vec!["dpkg", "--force-unsafe-io", "-i"];
    args.extend(debs.iter().map(String::as_str));
    // Maintainer scripts start and stop services where systemd runs; here it does not.
    chroot(merged, &args)?;
    fs::remove_dir_all(merged.join("lab")).attempt(|| "remove the packages".into())
}

fn make_package(package: &Package, merged: &Path) -> Result<String, Trouble> {
    let tree = merged.join("lab").join(package.name);
    for file in package.files {
        write_file(&tree, file)?;
    }
    let depends = if package.depends.is_empty() {
        String::new()
    } else {
        format!("Depends: {}\n", package.depends)
    };
    let control = format!(
        "Package: {}\nVersion: {}\nArchitecture: all\nMaintainer: picluster lab <lab@localhost>\n{depends}Section: admin\nPriority: optional\nDescription: stand-in of the picluster lab\n",
        package.name, package.version
    );
    let conffiles: String = package.conffiles.iter().map(|c| format!("{c}\n")).collect();
    fs::create_dir_all(tree.join("DEBIAN")).attempt(|| "create the package".into())?;
    for (name, text) in [("control", control), ("conffiles", conffiles)] {
        fs::write(tree.join("DEBIAN").join(name), text).attempt(|| format!("write {name}"))?;
    }
    let deb = format!("/lab/{}.deb", package.name);
    chroot(
        merged,
        &[
            "dpkg-deb",
            "--root-owner-group",
            "-Zgzip",
            "--build",
            &format!("/lab/{}", package.name),
            &deb,
        ],
    )?;
    Ok(deb)
}

/// A digest of everything about the tree that a node can tell.
fn checksum(root: &Path) -> String {
    let mut hash = Sha256::new();
    for e in list_upper::list(root) {
        hash.update(format!(
            "{} {:?} {:o} {}:{} {} {}\n",
            e.path, e.kind, e.mode, e.uid, e.gid, e.size, e.sha256
        ));
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
