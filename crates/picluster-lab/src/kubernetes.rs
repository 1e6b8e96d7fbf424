//! Kubernetes, built from Debian's own source package: the API server, its controllers, `kubectl`, and `kubemark`, whose
//! hollow kubelet registers a node, keeps its labels, taints and heartbeats, and runs no containers.
//!
//! Upstream's programs cannot be had everywhere, but Debian 12's source package holds the whole tree with its vendored
//! modules (its binary package is `kubectl` alone), and `etcd-server` is a package of its own. The release is an old
//! one; what matters is that the API side is the real thing.

/// The Debian release with the source package.
pub(crate) const SUITE: &str = "bookworm";

/// What these programs say they are: with k3s's suffix, as the ones inside k3s do.
pub const VERSION: &str = "v1.20.2+k3s1";

/// Where nodes have the programs, below their root directory.
pub const DIRECTORY: &str = "usr/local/lib/kubernetes";

/// Where each program is in the tree it was built in, and its name.
pub(crate) const PROGRAMS: [(&str, &str); 5] = [
    ("/out/kube-apiserver", "kube-apiserver"),
    ("/out/kube-controller-manager", "kube-controller-manager"),
    ("/out/kubectl", "kubectl"),
    ("/out/kubemark", "kubemark"),
    ("/usr/bin/etcd", "etcd"),
];

/// Debian's package of etcd, and its program, which is linked with the C library alone.
pub(crate) const ETCD: (&str, &str) = ("etcd-server", "usr/bin/etcd");

/// What of the above says what a tree with etcd alone is.
pub(crate) fn etcd_fingerprint() -> String {
    format!("{SUITE} {DIRECTORY} {ETCD:?}")
}

/// What the build needs beyond `minbase`, and the package of etcd.
pub(crate) const PACKAGES: [&str; 10] = [
    "bash",
    "make",
    "gcc",
    "libc6-dev",
    "golang-1.19-go",
    "golang-github-modern-go-reflect2-dev",
    "rsync",
    "dpkg-dev",
    "file",
    "etcd-server",
];

/// Runs in the tree. `--download-only` and `dpkg-source` apart: the source package's build dependencies are for its
/// binary packages, which are not built. The version file is what `hack/lib/version.sh` takes instead of git. The
/// vendored `reflect2` walks maps as Go did before 1.18: built with a later one, the API server dies of the first custom
/// resource. Debian's own package of it knows better.
pub(crate) const SCRIPT: &str = r#"set -eu
export HOME=/tmp LC_ALL=C
. /etc/os-release
sed -n 's/^deb /deb-src /p' /etc/apt/sources.list > /etc/apt/sources.list.d/source.list
apt-get -q -o APT::Sandbox::User=root update
mkdir -p /src/gopath/src/k8s.io /out
cd /src
apt-get -q -o APT::Sandbox::User=root source --download-only kubernetes
dpkg-source --no-check -x kubernetes_*.dsc gopath/src/k8s.io/kubernetes
cat > version <<END
KUBE_GIT_COMMIT=debian
KUBE_GIT_TREE_STATE=archive
KUBE_GIT_VERSION=v1.20.2+k3s1
KUBE_GIT_MAJOR=1
KUBE_GIT_MINOR=20
END
export GOPATH=/src/gopath GO111MODULE=off GOFLAGS=-buildvcs=false GOCACHE=/src/cache
export KUBE_GIT_VERSION_FILE=/src/version KUBE_BUILD_PLATFORMS="linux/$(dpkg --print-architecture)"
export PATH=/usr/lib/go-1.19/bin:$PATH
cd gopath/src/k8s.io/kubernetes
rm -r vendor/github.com/modern-go/reflect2
cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 vendor/github.com/modern-go/
make all WHAT="cmd/kube-apiserver cmd/kube-controller-manager cmd/kubectl cmd/kubemark" >&2
cp _output/local/bin/"$KUBE_BUILD_PLATFORMS"/kube* /out/
"#;

/// Everything above, for the digest of what is built.
pub(crate) fn fingerprint() -> String {
    format!("{SUITE} {VERSION} {DIRECTORY} {PROGRAMS:?} {PACKAGES:?} {SCRIPT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_builds_what_is_said() {
        assert!(SCRIPT.contains(&format!("KUBE_GIT_VERSION={VERSION}\n")));
        for (from, name) in PROGRAMS
            .iter()
            .filter(|(from, _)| from.starts_with("/out/"))
        {
            assert_eq!(*from, format!("/out/{name}"));
            assert!(SCRIPT.contains(&format!("cmd/{name}")), "{name}");
        }
    }
}
