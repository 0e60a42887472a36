//! Promise: a board that trusts a key uses no head but the newest that is signed with it.
//! Unsigned, altered, stripped, renamed, older heads and those of other keys end with exit
//! code 6; keys are files for their owner alone and appear in no message.

use std::fs;
use std::path::{Path, PathBuf};

use fieldtune::head::Head;
use fieldtune::signature::{self, Fault, SecretKey, Trust};
use fieldtune::store::Store;
use fieldtune::versions::Versions;
use fieldtune_tests::small_heads::{small_head, small_head_bytes};
use fieldtune_tests::{Ran, demo_head, demo_samples, fieldtune, run};

/// A folder with a key pair of its own and a head.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Self { folder };
        signature::generate(&place.path("farm")).expect("a key pair");
        small_head(1)
            .save(&place.path("birds.head"))
            .expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, name: &str) -> u64 {
        let key = SecretKey::load(&self.path("farm.key")).expect("a key");
        let signed = signature::sign(&self.path(name), &key, None);
        signed.expect("signed").counter
    }

    fn verify(&self, name: &str) -> Ran {
        let mut command = fieldtune();
        command.args(["head", "verify"]).arg(self.path(name));
        run(command.arg("--trust").arg(self.path("farm.pub")))
    }
}

#[test]
fn what_is_not_the_newest_signed_head_is_refused() {
    let place = Place::new();
    let head = place.path("birds.head");
    place.verify("birds.head").refused(6, "is not signed");
    assert_eq!(place.sign("birds.head"), 1);
    place.verify("birds.head").succeeded();
    let first = fs::read(&head).expect("a head");
    assert_eq!(place.sign("birds.head"), 2);
    let second = fs::read(&head).expect("a head");
    place.verify("birds.head").succeeded();

    fs::write(&head, &first).expect("written");
    place.verify("birds.head").refused(6, "older than one seen");
    fs::write(&head, signature::without(&second)).expect("written");
    place.verify("birds.head").refused(6, "is not signed");
    fs::write(place.path("bees.head"), &second).expect("written");
    place
        .verify("bees.head")
        .refused(6, "signed under the name \"birds.head\"");
    // Another head with the signature of this one.
    let block = &second[signature::without(&second).len()..];
    fs::write(&head, [&small_head_bytes(2), block].concat()).expect("written");
    place.verify("birds.head").refused(6, "signature is wrong");

    signature::generate(&place.path("other")).expect("a key pair");
    let other = SecretKey::load(&place.path("other.key")).expect("a key");
    fs::write(&head, &first).expect("written");
    signature::sign(&head, &other, Some(9)).expect("signed");
    place.verify("birds.head").refused(6, "another key");
    // A later signature of the right key sets all right.
    place.sign("birds.head");
    place.verify("birds.head").succeeded();
}

#[test]
fn every_altered_or_missing_byte_is_refused() {
    let place = Place::new();
    let path = place.path("birds.head");
    place.sign("birds.head");
    let whole = fs::read(&path).expect("a head");
    let trust = Trust::load(&place.path("farm.pub")).expect("a key");
    trust.check(&whole, &path).expect("trusted");
    for index in 0..whole.len() {
        for bit in [0, 3, 7] {
            let mut altered = whole.clone();
            altered[index] ^= 1 << bit;
            let error = trust.check(&altered, &path).expect_err("altered");
            assert_eq!(error.kind().exit_code(), 6, "byte {index}: {error}");
            assert!(Head::read(&altered, &path).is_err(), "byte {index}");
        }
        assert!(
            trust.check(&whole[..index], &path).is_err(),
            "{index} bytes"
        );
    }
    let longer = [&whole[..], b"x"].concat();
    assert_eq!(signature::signed(&longer), Err(Fault::Wrong));
}

/// The same bytes as another implementation makes: Python's `cryptography`, by
/// `signed_heads/golden.py`, from a head file that stands beside it.
#[test]
fn the_signature_is_ed25519_over_what_the_specification_says() {
    let place = Place::new();
    let seed = base64_of(&[7; 32]);
    let key = place.path("known.key");
    fs::write(&key, format!("fieldtune secret key 1\n{seed}\n")).expect("written");
    restrict(&key);
    let head = place.path("birds.head");
    fs::write(&head, include_bytes!("signed_heads/birds.head")).expect("written");
    let key = SecretKey::load(&key).expect("a key");
    signature::sign(&head, &key, Some(5)).expect("signed");
    let bytes = fs::read(&head).expect("a head");
    let block = &bytes[signature::without(&bytes).len()..];
    let golden = include_str!("signed_heads/golden.txt");
    let hexadecimal: String = block.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hexadecimal, golden.trim());
}

/// As `base64` would, for the one key of the test above.
fn base64_of(bytes: &[u8; 32]) -> String {
    assert_eq!(bytes, &[7; 32]);
    "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=".into()
}

fn restrict(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
    }
    #[cfg(not(unix))]
    let _ = path;
}

#[test]
fn predict_and_eval_take_trusted_heads_only() {
    let place = Place::new();
    let head = place.path("ground.head");
    fs::copy(demo_head(), &head).expect("copied");
    let photo = demo_samples().join("brick");
    let photo = fs::read_dir(photo).expect("a folder").next();
    let photo = photo.expect("a file").expect("a name").path();
    let predict = || {
        let mut command = fieldtune();
        command.arg("predict").arg(&head).arg(&photo);
        run(command.arg("--trust").arg(place.path("farm.pub")))
    };
    let eval = || {
        let mut command = fieldtune();
        command.arg("eval").arg(&head).arg(demo_samples());
        run(command.arg("--trust").arg(place.path("farm.pub")))
    };
    predict().refused(6, "is not signed");
    eval().refused(6, "is not signed");
    let ran = run(fieldtune()
        .args(["head", "sign", "--json"])
        .arg(&head)
        .arg("--key")
        .arg(place.path("farm.key")));
    assert_eq!(ran.json()["counter"], 1);
    predict().succeeded();
    eval().succeeded();
    let shown = run(fieldtune().args(["head", "show", "--json"]).arg(&head));
    assert_eq!(shown.json()["signature"]["name"], "ground.head");
    // Who does not ask for signatures can use it as well.
    run(fieldtune().arg("predict").arg(&head).arg(&photo)).succeeded();
    let mut altered = fs::read(&head).expect("a head");
    altered[200] ^= 1;
    fs::write(&head, altered).expect("written");
    predict().refused(6, "signature is wrong");
}

#[test]
fn a_damaged_head_brings_no_older_one_back() {
    let place = Place::new();
    let path = place.path("birds.head");
    let store = Store::default();
    let versions = Versions::of(&store, &path);
    let trust = Trust::load(&place.path("farm.pub")).expect("a key");
    place.sign("birds.head");
    small_head(2).save(&path).expect("written");
    place.sign("birds.head");
    assert_eq!(
        versions.open(Some(&trust)).expect("trusted").head,
        small_head(2)
    );
    // Version 1 is sound and signed, but older than what was seen.
    let mut damaged = fs::read(&path).expect("a head");
    damaged.truncate(100);
    fs::write(&path, damaged).expect("written");
    let error = versions.open(Some(&trust)).expect_err("nothing to trust");
    assert_eq!(error.kind().exit_code(), 6, "{error}");
    assert_eq!(versions.open(None).expect("sound").head, small_head(1));
    // Gone back to on purpose and signed again, it is the newest.
    versions.roll_back(None).expect("rolled back");
    assert!(versions.open(Some(&trust)).is_err());
    place.sign("birds.head");
    assert_eq!(
        versions.open(Some(&trust)).expect("trusted").head,
        small_head(1)
    );
}

#[test]
fn keys_are_for_their_owner_and_in_no_message() {
    let place = Place::new();
    let secret = fs::read_to_string(place.path("farm.key")).expect("a key");
    let secret = secret.lines().nth(1).expect("a second line").to_string();
    let sign = |key: &str| {
        let mut command = fieldtune();
        command.args(["head", "sign"]).arg(place.path("birds.head"));
        run(command.arg("--key").arg(place.path(key)))
    };
    let mut said = vec![sign("farm.key"), sign("farm.pub"), sign("none.key")];
    said[1].refused(3, "no such key");
    said[2].refused(3, "does not exist");
    said.push(run(fieldtune()
        .args(["head", "keygen"])
        .arg(place.path("farm"))));
    said[3].refused(1, "exists already");
    // A secret key where a public one belongs is not printed either.
    said.push(run(fieldtune()
        .args(["head", "verify"])
        .arg(place.path("birds.head"))
        .arg("--trust")
        .arg(place.path("farm.key"))));
    said[4].refused(3, "no such key");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| {
            let data = fs::metadata(place.path(name)).expect("there");
            data.permissions().mode() & 0o777
        };
        assert_eq!(mode("farm.key"), 0o600);
        let loose = fs::Permissions::from_mode(0o640);
        fs::set_permissions(place.path("farm.key"), loose).expect("set");
        said.push(sign("farm.key"));
        said[5].refused(3, "others may read");
    }
    for ran in &said {
        assert!(!ran.stdout.contains(&secret) && !ran.stderr.contains(&secret));
    }
    let key = place.path("other");
    signature::generate(&key).expect("a key pair");
    let key = SecretKey::load(&place.path("other.key")).expect("a key");
    assert!(!format!("{key:?}").contains(&secret));
}

#[test]
fn a_board_that_cannot_remember_refuses() {
    let place = Place::new();
    let path = place.path("birds.head");
    place.sign("birds.head");
    let trust = Trust::load(&place.path("farm.pub")).expect("a key");
    let bytes = fs::read(&path).expect("a head");
    // A folder stands where the list belongs.
    fs::create_dir(place.path("farm.pub.seen")).expect("made");
    assert!(trust.check(&bytes, &path).is_err());
    fs::remove_dir(place.path("farm.pub.seen")).expect("removed");
    fs::write(place.path("farm.pub.seen"), "{\"birds.head\":").expect("written");
    let error = trust.check(&bytes, &path).expect_err("damaged");
    assert!(error.to_string().contains("farm.pub.seen"), "{error}");
    fs::remove_file(place.path("farm.pub.seen")).expect("removed");
    trust.check(&bytes, &path).expect("trusted");
}
