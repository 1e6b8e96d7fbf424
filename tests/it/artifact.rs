//! A file too large for memory: streamed, resumed after a broken link, not sent again.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use picluster_engine::{EventKind, Outcome};

use crate::rig::{Desk, Ran, Rig};

const SIZE: u64 = 60_000_000;
const STEP: &str = "rpi01/big/artifact[/usr/local/bin/big]";
const ROLE: &str = "
doc: One large file.
resources:
  - artifact: { path: /usr/local/bin/big, source: big.bin, mode: \"0755\" }
";

/// Bytes that no link compresses and no two of which are mixed up.
fn write_big(desk: &Desk) {
    let file = fs::File::create(desk.path().join("big.bin")).unwrap();
    let mut file = std::io::BufWriter::new(file);
    let mut state: u64 = 1;
    for _ in 0..SIZE / 8 {
        // xorshift64, Marsaglia 2003
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()).unwrap();
    }
}

/// `sent` of every progress event.
fn progress(ran: &Ran) -> Vec<u64> {
    ran.events()
        .into_iter()
        .filter_map(|e| match e {
            EventKind::StepUploading { sent, total, .. } => {
                assert_eq!(total, SIZE);
                Some(sent)
            }
            _ => None,
        })
        .collect()
}

/// The most memory a process has had, in bytes (`VmHWM` of proc_pid_status(5)).
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[test]
fn a_large_file_is_streamed_and_a_cut_link_costs_only_what_was_under_way() {
    let desk = Desk::new(
        "cluster: large\nssh: { user: pi }\nroles: [big]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n",
    );
    desk.write("roles/big/role.yaml", ROLE);
    write_big(&desk);
    let rig = Rig::up_from(desk, &[]);

    let mut run = rig.start(&["apply", "--yes", "--json"]);
    run.until(|e| matches!(e, EventKind::StepUploading { sent: 0, .. }));
    let before = peak(run.pid());
    run.until(|e| matches!(e, EventKind::StepUploading { sent, .. } if *sent > SIZE / 3));
    let grown = peak(run.pid()).saturating_sub(before);
    rig.lab.cut("rpi01").unwrap();
    let cut = run.end().expect(3);
    assert!(
        matches!(cut.outcome(STEP), Outcome::Lost { .. }),
        "{}",
        cut.out
    );
    let sent = *progress(&cut).last().unwrap();
    assert!(sent < SIZE, "the link was cut too late to prove anything");
    assert!(grown < 16 << 20, "sending took {grown} bytes of memory");

    rig.lab.heal("rpi01").unwrap();
    rig.on("rpi01", "[ ! -e /usr/local/bin/big ]").expect(0);
    // Nothing of the file is held in memory there: not below /run.
    rig.on("rpi01", "[ -z \"$(find /run -size +1000k)\" ]")
        .expect(0);
    let resumed = rig.run(&["apply", "--yes", "--json"]).expect(0);
    assert_eq!(resumed.outcome(STEP), Outcome::Changed);
    let first = progress(&resumed)[0];
    // What was in buffers and windows on the way is sent again, no more.
    assert!(
        first + (16 << 20) > sent && first > 0,
        "{first} of {sent} were kept"
    );
    assert_eq!(progress(&resumed).last(), Some(&SIZE));
    let digest = |text: &str| text.split(' ').next().unwrap().to_owned();
    let here = std::process::Command::new("sha256sum")
        .arg(rig.desk.path().join("big.bin"))
        .output()
        .unwrap();
    let there = rig.on("rpi01", "sha256sum /usr/local/bin/big").expect(0);
    assert_eq!(
        digest(&there.out),
        digest(&String::from_utf8_lossy(&here.stdout))
    );
    rig.on(
        "rpi01",
        "[ -x /usr/local/bin/big ] && [ -z \"$(find /usr/local/bin -name '.picluster*')\" ]",
    )
    .expect(0);

    let again = rig.run(&["apply", "--yes", "--json"]).expect(0);
    assert_eq!(progress(&again), Vec::<u64>::new());

    // Another file in its place is another version: sent whole, and the old one is gone in one stroke.
    let mut text = String::new();
    for i in 0..10 {
        writeln!(text, "version two, line {i}").unwrap();
    }
    rig.desk.write("big.bin", &text);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(
        rig.on("rpi01", "cat /usr/local/bin/big").expect(0).out,
        text
    );
}
