use super::*;

fn router(config: &str, targets: &[(&str, Target)]) -> (tempfile::TempDir, Router) {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::create_dir(dir.path().join(".ssh")).expect("dir");
    std::fs::write(dir.path().join(".ssh/config"), config).expect("config");
    let environment = Environment {
        home: Some(dir.path().to_owned()),
        user: Some("me".into()),
        agent_socket: Some("/run/agent".into()),
        variables: [("KEYS".to_owned(), "/keys".to_owned())].into(),
        ..Environment::default()
    };
    let targets = targets
        .iter()
        .map(|(name, target)| (NodeName::new(*name).expect("a name"), target.clone()))
        .collect();
    (dir, Router::new(targets, environment, &Limits::default()))
}

fn target(address: &str) -> Target {
    Target {
        address: address.into(),
        ..Target::default()
    }
}

fn of(router: &Router, name: &str) -> Result<Route, String> {
    router.route(&NodeName::new(name).expect("a name"))
}

#[test]
fn the_target_wins_over_the_configuration_over_the_defaults() {
    let config = "Host a\n HostName %h.lan\n User pi\n Port 2222\n IdentityFile ${KEYS}/%r@%n\n \
                  ConnectTimeout 3\n AddressFamily inet\n IdentityAgent none\n";
    let mut said = target("a");
    said.user = Some("root".into());
    said.port = Some(22);
    let (_dir, router) = router(
        config,
        &[("a", target("a")), ("b", target("[fe80::1]")), ("c", said)],
    );
    let a = of(&router, "a").expect("a route").node;
    assert_eq!(
        (a.host.as_str(), a.port, a.user.as_str()),
        ("a.lan", 2222, "pi")
    );
    assert_eq!(a.identities, [PathBuf::from("/keys/pi@a")]);
    assert_eq!((a.agent, a.connect_timeout), (None, Duration::from_secs(3)));
    assert_eq!(a.family, Family::Inet);
    let b = of(&router, "b").expect("a route").node;
    assert_eq!(
        (b.address().as_str(), b.user.as_str()),
        ("[fe80::1]:22", "me")
    );
    assert_eq!(b.agent.as_deref(), Some(Path::new("/run/agent")));
    let c = of(&router, "c").expect("a route").node;
    assert_eq!((c.port, c.user.as_str()), (22, "root"));
    assert_eq!(c.identities, [PathBuf::from("/keys/root@a")]);
}

#[test]
fn hops_stand_in_the_order_they_are_dialled() {
    let config = "Host near\n HostName 10.0.0.1\n ProxyJump door:2222\nHost behind\n ProxyJump near,ops@far\n";
    let (_dir, router) = router(config, &[("n", target("behind"))]);
    let route = of(&router, "n").expect("a route");
    let hops: Vec<_> = route
        .hops
        .iter()
        .map(|hop| format!("{} {}@{}", hop.pin, hop.user, hop.address()))
        .collect();
    assert_eq!(
        hops,
        [
            "jump:door:2222 me@door:2222",
            "jump:10.0.0.1:22 me@10.0.0.1:22",
            "jump:far:22 ops@far:22",
        ]
    );
}

#[test]
fn what_cannot_work_is_said_with_its_place() {
    let config = "Host loop1\n ProxyJump loop2\nHost loop2\n ProxyJump loop1\n\
                  Host command\n ProxyCommand nc %h %p\n\
                  Host token\n IdentityFile ~/%Z\n\
                  Host bad\n ProxyJump a:b:c,x:y\n";
    let (_dir, router) = router(
        config,
        &[
            ("loop", target("loop1")),
            ("command", target("command")),
            ("token", target("token")),
            ("bad", target("bad")),
            ("empty", target("")),
        ],
    );
    for (name, part) in [
        ("loop", "does a jump host lead back to itself?"),
        ("command", "config:6: `ProxyCommand` applies to command"),
        ("token", "the token `%Z`"),
        ("bad", "config:10: `ProxyJump`: \"x:y\""),
        ("empty", "it has no address"),
        ("stranger", "not among the nodes"),
    ] {
        let error = of(&router, name).expect_err(name);
        assert!(error.contains(part), "{name}: {error}");
    }
}

#[test]
fn a_named_configuration_must_exist() {
    let mut wanted = target("a");
    wanted.config = UseSshConfig::Path("~/no-such-config".into());
    let (_dir, router) = router("", &[("a", wanted)]);
    let error = of(&router, "a").expect_err("missing");
    assert!(error.contains("no-such-config: No such file"), "{error}");
}
