//! A lab without the product: `lab up NAME N [bookworm|trixie]`, `lab run NAME -- CMD…`, `lab VERB NAME NODE`, `lab down NAME`,
//! `lab kubernetes` (builds it).
//!
//! Also the program the crate's own tests run inside their labs.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::env;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use picluster_lab::{
    INTERNAL_ARGUMENT, ImageName, Lab, LabError, LabOptions, LabSpec, NodeSpec, OsFlavour,
    Progress, Wait, internal_main, preflight, remove_image, vm_preflight,
};

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    if args.first().is_some_and(|a| a == INTERNAL_ARGUMENT) {
        return internal_main(args.get(1..).unwrap_or_default());
    }
    let words: Vec<String> = args
        .into_iter()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    match perform(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn perform(words: &[&str]) -> Result<(), LabError> {
    let options = LabOptions::from_environment()?;
    let open = |name: &str| Lab::open(name, &options);
    match words {
        ["kubernetes"] => {
            let built = picluster_lab::ensure_kubernetes(&options, &mut |p| eprintln!("{p:?}"))?;
            println!("{}", built.directory.display());
            Ok(())
        }
        ["up" | "foreground", name, count, rest @ ..] => {
            let os = if rest.first() == Some(&"trixie") {
                OsFlavour::RpiOsTrixie
            } else {
                OsFlavour::RpiOsBookworm
            };
            let count: u8 = count.parse().unwrap_or(1);
            let nodes: Vec<NodeSpec> = (0..count)
                .map(|i| NodeSpec::new(format!("n{i}"), Ipv4Addr::new(192, 168, 77, i + 2), os))
                .collect();
            let key = env::var("LAB_KEY")
                .ok()
                .and_then(|p| std::fs::read_to_string(p).ok())
                .unwrap_or_default();
            let nodes = nodes_with_disk(nodes);
            let spec = LabSpec {
                name: (*name).into(),
                nodes,
                authorized_keys: vec![key],
                dns: vec![],
                kubernetes: false,
                etcd: false,
            };
            let mut show = |p: Progress| println!("{p:?}");
            if words.first() == Some(&"foreground") {
                let lab = Lab::up_foreground(&spec, &options, &mut show)?;
                println!("up");
                let _ = std::io::stdin().read_line(&mut String::new());
                lab.down()
            } else {
                Lab::up(&spec, &options, &mut show).map(drop)
            }
        }
        ["run", name, "--", program, args @ ..] => {
            let source = open(name)?.controller_command(program).args(args).exec();
            Err(LabError::Io {
                what: format!("run {program}"),
                source,
            })
        }
        ["preflight", nodes] => {
            for m in preflight(nodes.parse().unwrap_or(1))
                .into_iter()
                .chain(vm_preflight())
            {
                println!("{}: {}: {}", m.what, m.why, m.cure);
            }
            Ok(())
        }
        ["forget", suite] => ImageName::ALL
            .into_iter()
            .filter(|i| i.suite() == *suite)
            .try_for_each(|i| remove_image(i, &options)),
        ["status", name] => {
            for n in open(name)?.status()? {
                println!("{n:?}");
            }
            Ok(())
        }
        ["list", name, node] => {
            for e in open(name)?.outside_listing(node)? {
                println!("{e:?}");
            }
            Ok(())
        }
        ["cut", name, node] => open(name)?.cut(node),
        ["heal", name, node] => open(name)?.heal(node),
        ["kill", name, node] => open(name)?.kill(node),
        ["start", name, node] => open(name)?.start(node, Wait::Ready),
        ["wipe", name, node] => open(name)?.wipe(node, Wait::Ready),
        ["reboot", name, node] => open(name)?.reboot(node, Wait::Ready),
        ["down", name] => match open(name) {
            Ok(lab) => lab.down(),
            Err(_) => Lab::clean(name, &options),
        },
        _ => {
            eprintln!(
                "lab up|foreground NAME N [trixie] · run NAME -- CMD… · status|down NAME · list|cut|heal|kill|start|wipe|reboot NAME NODE"
            );
            Ok(())
        }
    }
}

/// `LAB_DISK_MIB` gives every node a card of that size, `LAB_VM` makes them virtual machines.
fn nodes_with_disk(mut nodes: Vec<NodeSpec>) -> Vec<NodeSpec> {
    if env::var_os("LAB_VM").is_some() {
        nodes = nodes.into_iter().map(NodeSpec::as_vm).collect();
    }
    for node in &mut nodes {
        node.disk_mib = env::var("LAB_DISK_MIB").ok().and_then(|v| v.parse().ok());
    }
    nodes
}
