use super::*;

const ONE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const TWO: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK2pr+Bfus1hvPof4Wb/plZCzSbqadHH0u+/f4ODtKnE";

fn key(text: &str) -> PublicKey {
    PublicKey::from_openssh(text).expect("a key")
}

fn name(text: &str) -> PinName {
    PinName::parse(text).expect("a name")
}

#[test]
fn pins_survive_being_written_and_read() {
    let dir = tempfile::tempdir().expect("dir");
    let store = PinStore::open(dir.path().join("store")).expect("open");
    assert!(store.get(&name("rpi01")).is_empty());
    store
        .add(&name("rpi01"), &key(ONE), "first seen\ntoday")
        .expect("add");
    store.add(&name("rpi01"), &key(ONE), "again").expect("add");
    store.add(&name("rpi01"), &key(TWO), "").expect("add");
    store
        .add(&name("jump:bastion:22"), &key(TWO), "seeded")
        .expect("add");

    let text = fs::read_to_string(store.path()).expect("read");
    assert_eq!(
        text,
        format!("rpi01 {ONE} # first seen today\nrpi01 {TWO}\njump:bastion:22 {TWO} # seeded\n")
    );
    let again = PinStore::open(dir.path().join("store")).expect("open");
    assert_eq!(again.get(&name("rpi01")), store.get(&name("rpi01")));
    assert_eq!(again.get(&name("rpi01")).len(), 2);

    again
        .replace(&name("rpi01"), &key(TWO), "replaced")
        .expect("replace");
    again.remove(&name("jump:bastion:22")).expect("remove");
    store.refresh().expect("refresh");
    assert_eq!(store.names(), vec![name("rpi01")]);
    assert_eq!(store.get(&name("rpi01")).len(), 1);
}

#[test]
fn the_file_is_private_and_nothing_is_left_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("dir");
    let store = PinStore::open(dir.path()).expect("open");
    store.add(&name("rpi01"), &key(ONE), "").expect("add");
    let mode = fs::metadata(store.path())
        .expect("stat")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .expect("list")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["host_keys", "host_keys.lock"]);
}

#[test]
fn comments_stay_and_damage_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    fs::write(
        dir.path().join(FILE),
        format!("# our rack\n\nrpi01 {ONE}\n"),
    )
    .expect("write");
    let store = PinStore::open(dir.path()).expect("open");
    store.add(&name("rpi02"), &key(TWO), "").expect("add");
    let text = fs::read_to_string(store.path()).expect("read");
    assert_eq!(text, format!("# our rack\n\nrpi01 {ONE}\nrpi02 {TWO}\n"));

    fs::write(
        dir.path().join(FILE),
        format!("rpi01 {ONE}\nrpi02 ssh-ed25519 AAAAbroken\n"),
    )
    .expect("write");
    let error = PinStore::open(dir.path()).expect_err("damaged").to_string();
    assert!(error.contains("host_keys:2: not a public key"), "{error}");
}

#[test]
fn runs_at_the_same_time_lose_nothing_and_agree_on_the_first_key() {
    let dir = tempfile::tempdir().expect("dir");
    let threads: Vec<_> = (0..16)
        .map(|n| {
            let dir = dir.path().to_owned();
            std::thread::spawn(move || {
                // A store each, as two runs of the program have.
                let store = PinStore::open(dir).expect("open");
                store
                    .add(&name(&format!("rpi{n:02}")), &key(ONE), "")
                    .expect("add");
                let mine = if n % 2 == 0 { ONE } else { TWO };
                store
                    .add_first(&name("shared"), &key(mine), "")
                    .expect("add");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("thread");
    }
    let store = PinStore::open(dir.path()).expect("open");
    assert_eq!(store.names().len(), 17);
    assert_eq!(store.get(&name("shared")).len(), 1);
}

#[test]
fn time_is_told_in_utc() {
    assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
    assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
    assert_eq!(timestamp(1_772_357_400), "2026-03-01T09:30:00Z");
}

#[test]
fn jump_pins_hold_their_address() {
    assert_eq!(
        PinName::jump("Bastion.lan", 2222).unwrap().as_str(),
        "jump:bastion.lan:2222"
    );
    assert_eq!(
        PinName::jump("fe80::1", 22).unwrap().as_str(),
        "jump:[fe80::1]:22"
    );
    assert!(PinName::jump("a b", 22).is_err());
    assert!(PinName::parse("#x").is_err());
}
