//! `fetch`: releases come over https from where the environment says, and afterwards nobody is asked.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use crate::rig::{Desk, PROGRAM, Ran, ran};
use crate::web::{Page, Server};

const INVENTORY: &str = "cluster: homelab
ssh: { user: pi }
kubernetes: { distribution: k3s, version: v1.36.3+k3s1 }
nodes:
  rpi01: { address: 192.168.2.1, kubernetes: server }
";

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// The first bytes of a program for 64-bit ARM, and some more.
fn program() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0".to_vec();
    bytes.extend((0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()));
    bytes
}

fn publish(server: &Server, bytes: &[u8]) {
    let list = format!("{}  k3s-arm64\n", hex(bytes));
    server.page("/v1.36.3%2Bk3s1/k3s-arm64", Page::Whole(bytes.to_vec()));
    server.page(
        "/v1.36.3%2Bk3s1/sha256sum-arm64.txt",
        Page::Whole(list.into_bytes()),
    );
}

fn fetch(desk: &Desk, releases: &str, authority: Option<&Path>, args: &[&str]) -> Ran {
    let mut command = Command::new(PROGRAM);
    command
        .arg("fetch")
        .args(args)
        .current_dir(desk.path())
        .env("PICLUSTER_K3S_RELEASES", releases)
        .env("XDG_CACHE_HOME", desk.path().join("cache"))
        .env("PICLUSTER_NO_TTY", "1")
        .env_remove("SSL_CERT_FILE")
        .stdin(Stdio::null());
    if let Some(authority) = authority {
        command.env("SSL_CERT_FILE", authority);
    }
    ran(&command.output().unwrap())
}

#[test]
fn a_release_is_fetched_once_over_tls_and_kept() {
    let desk = Desk::new(INVENTORY);
    let (server, certificate) = Server::tls();
    let bytes = program();
    publish(&server, &bytes);
    let authority = desk.path().join("authority.pem");
    fs::write(&authority, certificate).unwrap();
    // Nobody vouches for this server: nothing is taken from it.
    let refused = fetch(&desk, &server.url(""), None, &["--arch", "arm64"]).expect(1);
    assert!(refused.err.contains("certificate"), "{}", refused.err);
    assert!(
        refused.err.contains("artifact: ./k3s-arm64"),
        "{}",
        refused.err
    );
    assert!(server.asked().is_empty());

    let base = server.url("");
    let done = fetch(&desk, &base, Some(&authority), &["--arch", "arm64"]).expect(0);
    let kept = desk
        .path()
        .join("cache/picluster/artifacts")
        .join(hex(&bytes));
    assert!(fs::read(&kept).unwrap() == bytes);
    assert!(
        done.out.contains(&kept.display().to_string()),
        "{}",
        done.out
    );
    assert_eq!(
        server
            .asked()
            .iter()
            .filter(|a| a.starts_with("GET"))
            .count(),
        2
    );
    drop(server);
    let again = fetch(&desk, &base, Some(&authority), &["--arch", "arm64"]).expect(0);
    assert_eq!(again.out, done.out);
}

#[test]
fn images_of_a_release_come_with_its_program_or_from_a_file() {
    let text = INVENTORY.replace("+k3s1", "+k3s1, images: release");
    let desk = Desk::new(&text);
    let (server, certificate) = Server::tls();
    let (bytes, images) = (program(), b"many images".to_vec());
    let list = format!(
        "{}  k3s-arm64\n{}  k3s-airgap-images-arm64.tar.zst\n",
        hex(&bytes),
        hex(&images)
    );
    let folder = "/v1.36.3%2Bk3s1";
    server.page(&format!("{folder}/k3s-arm64"), Page::Whole(bytes));
    server.page(
        &format!("{folder}/k3s-airgap-images-arm64.tar.zst"),
        Page::Whole(images.clone()),
    );
    server.page(
        &format!("{folder}/sha256sum-arm64.txt"),
        Page::Whole(list.into_bytes()),
    );
    let authority = desk.path().join("authority.pem");
    fs::write(&authority, certificate).unwrap();
    let done = fetch(
        &desk,
        &server.url(""),
        Some(&authority),
        &["--arch", "arm64"],
    )
    .expect(0);
    assert!(
        done.out.contains("✓ images of k3s v1.36.3+k3s1 arm64"),
        "{}",
        done.out
    );
    let kept = |desk: &Desk| {
        let cache = desk.path().join("cache/picluster/artifacts");
        fs::read(cache.join(hex(&images))).unwrap() == images
    };
    assert!(kept(&desk));

    // By hand, where nothing can be fetched; another form than the one that is sent is not taken.
    let desk = Desk::new(&text);
    desk.write("k3s-airgap-images-arm64.tar.zst", "many images");
    desk.write("k3s-airgap-images-arm64.tar", "many images");
    let from = |name| fetch(&desk, "https://127.0.0.1:1", None, &["--from", name]);
    let other = from("k3s-airgap-images-arm64.tar").expect(1);
    assert!(
        other.err.contains("images: ./k3s-airgap-images-arm64.tar"),
        "{}",
        other.err
    );
    from("k3s-airgap-images-arm64.tar.zst").expect(0);
    assert!(kept(&desk));
}

#[test]
fn a_cluster_of_kubeadm_has_its_manifests_fetched() {
    let text = "kind: Namespace\n";
    let (server, certificate) = Server::tls();
    server.page("/flannel.yaml", Page::Whole(text.into()));
    let desk = Desk::new(&format!(
        "cluster: homelab\nssh: {{ user: pi }}\nkubernetes:\n  distribution: kubeadm\n  version: v1.33.2\n  repository: {{ key: release.key }}\n  cluster_cidr: 10.244.0.0/16\n  manifests: [{{ name: flannel, url: \"{}\", checksum: \"sha256:{}\" }}]\nnodes:\n  rpi01: {{ address: 192.168.2.1, kubernetes: server }}\n",
        server.url("/flannel.yaml"),
        hex(text.as_bytes())
    ));
    desk.write("release.key", "a key\n");
    let authority = desk.path().join("authority.pem");
    fs::write(&authority, certificate).unwrap();
    let done = fetch(&desk, "https://127.0.0.1:1", Some(&authority), &[]).expect(0);
    assert!(done.out.contains("✓ manifest flannel"), "{}", done.out);
}

#[test]
fn what_cannot_be_known_is_said_before_anything_is_fetched() {
    let desk = Desk::new(INVENTORY);
    let unmet = fetch(&desk, "https://127.0.0.1:1", None, &[]).expect(1);
    assert!(unmet.err.contains("architecture of rpi01"), "{}", unmet.err);
    assert!(unmet.err.contains("--arch"), "{}", unmet.err);
    let odd = fetch(&desk, "https://127.0.0.1:1", None, &["--arch", "armv6"]).expect(1);
    assert!(odd.err.contains("amd64, arm64 and armhf"), "{}", odd.err);
    let plain = fetch(&desk, "http://mirror.example", None, &["--arch", "arm64"]).expect(1);
    assert!(plain.err.contains("not https"), "{}", plain.err);
    assert!(
        !desk
            .path()
            .join("cache/picluster/artifacts/index.json")
            .exists()
    );
}

/// Nobody answers: what is missing, what was not done, and the next command.
#[test]
fn without_a_network_it_is_said_what_is_missing_and_what_to_do() {
    const SUM: &str = "591b3a35c9cda16b4f18cc85fe8a06feb067a7bb0eb54234a7b71f2598b260a5";
    let url = "https://127.0.0.1:1/v1.36.3%2Bk3s1/k3s-arm64";
    let checksum = format!("version: v1.36.3+k3s1, checksum: sha256:{SUM}");
    let manifest = format!(
        "version: v1.36.3+k3s1, manifests: [{{ name: metallb, url: \"https://127.0.0.1:1/metallb.yaml\", checksum: sha256:{SUM} }}]"
    );
    let from_url = "fetch https://127.0.0.1:1/v1.36.3%2Bk3s1/k3s-arm64 elsewhere, bring the file, then: picluster fetch --from k3s-arm64";
    let cases: [(&str, Vec<&str>); 3] = [
        (
            "version: v1.36.3+k3s1",
            vec!["the checksum of", url, "sha256sum-arm64.txt", from_url],
        ),
        (&checksum, vec![url, "was not fetched", from_url, SUM]),
        (
            &manifest,
            vec![
                "manifest metallb: https://127.0.0.1:1/metallb.yaml was not fetched",
                "then: picluster fetch --from FILE",
            ],
        ),
    ];
    // Each tries more than once, with pauses.
    std::thread::scope(|scope| {
        for (says, said) in &cases {
            scope.spawn(move || {
                let desk = Desk::new(&INVENTORY.replace("version: v1.36.3+k3s1", says));
                let ran = fetch(&desk, "https://127.0.0.1:1", None, &["--arch", "arm64"]);
                let ran = ran.expect(1);
                for words in said.iter().chain(&["nothing was changed on any node"]) {
                    assert!(ran.err.contains(words), "{words:?}: {}", ran.err);
                }
            });
        }
    });
    // The next command, with the file from elsewhere: from then on nobody is asked.
    let desk = Desk::new(INVENTORY);
    fs::write(desk.path().join("k3s-arm64"), program()).unwrap();
    for args in [["--from", "k3s-arm64"], ["--arch", "arm64"]] {
        let done = fetch(&desk, "https://127.0.0.1:1", None, &args).expect(0);
        assert!(done.out.contains("k3s v1.36.3+k3s1 arm64"), "{}", done.out);
    }
}
