//! Running programs: streams, ends, budgets.

use picluster_engine::host::Exit;

use crate::rig::{Done, Rig, run};

#[tokio::test]
async fn streams_are_separate_and_the_status_comes_back() {
    let (_rig, sshd, connector, host) = Rig::simple().await;
    let done = run(host.as_ref(), "cat; echo to-stderr >&2; exit 7", b"hello\n").await;
    assert_eq!(
        done,
        Done {
            stdout: b"hello\n".to_vec(),
            stderr: b"to-stderr\n".to_vec(),
            exit: Exit::Status(7),
        }
    );
    assert_eq!(host.peer().host_key, sshd.host_keys[0].fingerprint());
    assert_eq!(host.peer().address, format!("127.0.0.1:{}", sshd.port));
    let count = connector.counters().total();
    assert_eq!((count.connections, count.sessions), (1, 1));
    assert!(count.bytes_in > 500 && count.bytes_out > 500, "{count:?}");
    host.close().await;
}
