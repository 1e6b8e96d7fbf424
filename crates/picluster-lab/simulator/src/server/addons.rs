//! What is in a cluster from its first minute: namespaces, the API's own service, packaged components.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Server, nth};
use crate::agent;
use crate::api::status::Refusal;
use crate::api::{Key, Store, kinds};
use crate::cli::Settings;
use crate::fault::{Fault, Outcome};
use crate::heart::Heart;
use crate::{files, log};

/// Creates an object unless it is there.
pub(crate) fn keep(heart: &Heart, kind: &str, object: Value) -> Result<(), Refusal> {
    let Some(kind) = kinds::built_in().into_iter().find(|k| k.kind == kind) else {
        return Err(Refusal::no_such_path());
    };
    let meta = |f: &str| {
        object["metadata"][f]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let key = Key::of(&kind, &meta("namespace"), &meta("name"));
    if heart.get(&key)?.is_some() {
        return Ok(());
    }
    match heart.create(&kind, &key, object) {
        // Somebody else was faster: the real API server makes some of them itself.
        Err(refusal) if refusal.code != 409 => Err(refusal),
        _ => Ok(()),
    }
}

/// Packaged components: the name that `disable` knows, its file, and what is in it.
const PACKAGED: &[(&str, &str, &str)] = &[
    (
        "ccm",
        "ccm.yaml",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: k3s-cloud-controller-manager}\nrules: []\n",
    ),
    (
        "coredns",
        "coredns.yaml",
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: coredns, namespace: kube-system}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns, namespace: kube-system}\ndata: {Corefile: \".:53 {\\n    ready\\n}\\n\", NodeHosts: \"\"}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}\nspec: {replicas: 1, selector: {matchLabels: {k8s-app: kube-dns}}, template: {metadata: {labels: {k8s-app: kube-dns}}, spec: {tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}, {key: node-role.kubernetes.io/master, operator: Exists, effect: NoSchedule}], containers: [{name: coredns, image: rancher/mirrored-coredns-coredns}]}}}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: kube-dns, namespace: kube-system}\nspec: {selector: {k8s-app: kube-dns}, clusterIP: \"%{CLUSTER_DNS}%\", ports: [{name: dns, port: 53, protocol: UDP}]}\n",
    ),
    (
        "local-storage",
        "local-storage.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: local-path-provisioner, namespace: kube-system}\nspec: {replicas: 1, selector: {matchLabels: {app: local-path-provisioner}}, template: {metadata: {labels: {app: local-path-provisioner}}, spec: {tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}], containers: [{name: local-path-provisioner, image: rancher/local-path-provisioner}]}}}\n---\napiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: local-path, annotations: {storageclass.kubernetes.io/is-default-class: \"true\"}}\nprovisioner: rancher.io/local-path\nvolumeBindingMode: WaitForFirstConsumer\nreclaimPolicy: Delete\n",
    ),
    (
        "metrics-server",
        "metrics-server/metrics-server-deployment.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: metrics-server, namespace: kube-system, labels: {k8s-app: metrics-server}}\nspec: {replicas: 1, selector: {matchLabels: {k8s-app: metrics-server}}, template: {metadata: {labels: {k8s-app: metrics-server}}, spec: {tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}], containers: [{name: metrics-server, image: rancher/mirrored-metrics-server}]}}}\n",
    ),
    (
        "rolebindings",
        "rolebindings.yaml",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: kube-apiserver-kubelet-admin}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:kubelet-api-admin}\n",
    ),
    (
        "runtimes",
        "runtimes.yaml",
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: nvidia}\nhandler: nvidia\n",
    ),
    (
        "traefik",
        "traefik.yaml",
        "apiVersion: helm.cattle.io/v1\nkind: HelmChart\nmetadata: {name: traefik-crd, namespace: kube-system}\nspec: {chart: \"https://%{KUBERNETES_API}%/static/charts/traefik-crd.tgz\"}\n---\napiVersion: helm.cattle.io/v1\nkind: HelmChart\nmetadata: {name: traefik, namespace: kube-system}\nspec: {chart: \"https://%{KUBERNETES_API}%/static/charts/traefik.tgz\", set: {global.systemDefaultRegistry: \"\"}}\n",
    ),
];

/// Whether a packaged component, or a file of the same name, is disabled.
pub(super) fn is_disabled(settings: &Settings, name: &str) -> bool {
    settings.list("disable").iter().any(|d| d == name)
}

/// Creates what every cluster has, and writes the packaged manifests that are not disabled (`deploy.Stage`).
pub(super) fn found(server: &Arc<Server>, settings: &Settings) -> Outcome {
    let keep = |kind: &str, object: Value| {
        super::addons::keep(&server.heart, kind, object).map_err(|r| Fault(r.message))
    };
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        keep("Namespace", json!({"metadata": {"name": name}}))?;
    }
    if let Heart::BuiltIn(store) = &server.heart {
        own_service(server, store, settings)?;
    }
    keep(
        "ConfigMap",
        json!({"metadata": {"name": "cluster-dns", "namespace": "kube-system"},
            "data": {"clusterDNS": server.config["ClusterDNS"], "clusterDomain": server.config["ClusterDomain"]}}),
    )?;
    write_packaged(server, settings)
}

/// The service of the API itself. A real API server sees to it alone.
fn own_service(server: &Server, store: &Arc<Store>, settings: &Settings) -> Outcome {
    let heart = Heart::BuiltIn(store.clone());
    let keep = |kind: &str, object: Value| keep(&heart, kind, object).map_err(|r| Fault(r.message));
    let addresses = agent::addresses(settings)?;
    let service = nth(
        server.config["ServiceIPRange"]
            .as_str()
            .unwrap_or("10.43.0.0/16"),
        1,
    );
    let port = server.config["HTTPSPort"].as_u64().unwrap_or(6443);
    keep(
        "Service",
        json!({"metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"clusterIP": service, "clusterIPs": [service], "type": "ClusterIP",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]}}),
    )?;
    store
        .delete(&Key::new("", "endpoints", "default", "kubernetes"))
        .map_err(|r| Fault(r.message))?;
    keep(
        "Endpoints",
        json!({"metadata": {"name": "kubernetes", "namespace": "default"}, "subsets": [{
            "addresses": addresses.iter().map(|a| json!({"ip": a.to_string()})).collect::<Vec<_>>(),
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]}),
    )
}

fn write_packaged(server: &Server, settings: &Settings) -> Outcome {
    for (name, file, text) in PACKAGED {
        let path = server.paths.server.join("manifests").join(file);
        let skipped = path.with_extension("yaml.skip").exists();
        if is_disabled(settings, name)
            || skipped
            || (*name == "ccm" && settings.is_on("disable-cloud-controller"))
        {
            continue;
        }
        if let Some(parent) = path.parent() {
            files::folder(parent, 0o700)?;
        }
        let text = text.replace(
            "%{CLUSTER_DNS}%",
            server.config["ClusterDNS"].as_str().unwrap_or("10.43.0.10"),
        );
        if std::fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
            continue;
        }
        log::info(format!("Writing manifest: {}", path.display()));
        files::write(&path, text.as_bytes(), 0o600)?;
    }
    Ok(())
}
