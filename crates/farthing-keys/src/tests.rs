use tempfile::TempDir;

use super::{Cost, KeyError, KeyFolder, KeyKind, SecretKey};

fn folder() -> (TempDir, KeyFolder) {
    let parent = TempDir::new().unwrap();
    let folder = KeyFolder::new(&parent.path().join("keys"), Cost::LEAST);
    (parent, folder)
}

fn store(folder: &KeyFolder, name: &str) -> Result<super::KeyInfo, KeyError> {
    folder.store(name, KeyKind::Ed25519, &SecretKey::from_bytes([7; 32]), "correct horse")
}

#[test]
fn a_key_opens_with_its_passphrase_and_no_other() {
    let (_parent, folder) = folder();
    assert!(folder.list().unwrap().is_empty());
    let info = store(&folder, "agent").unwrap();
    assert_eq!(folder.list().unwrap(), [info]);
    assert_eq!(folder.unlock("agent", "correct horse").unwrap().expose(), &[7; 32]);
    assert!(matches!(folder.unlock("agent", "wrong horse"), Err(KeyError::Passphrase)));
    assert!(matches!(folder.unlock("other", "correct horse"), Err(KeyError::NotFound(_))));
}

#[test]
fn a_key_is_never_overwritten() {
    let (_parent, folder) = folder();
    store(&folder, "agent").unwrap();
    assert!(matches!(store(&folder, "agent"), Err(KeyError::Taken)));
}

#[test]
fn odd_names_and_empty_passphrases_are_refused() {
    let (_parent, folder) = folder();
    for name in ["", "..", "a/b", "A", "a b", "a.json", &"a".repeat(65)] {
        assert!(matches!(store(&folder, name), Err(KeyError::Name)), "{name}");
    }
    let secret = SecretKey::generate().unwrap();
    let stored = folder.store("agent", KeyKind::Ed25519, &secret, "");
    assert!(matches!(stored, Err(KeyError::NoPassphrase)));
}

#[test]
fn the_file_holds_no_secret_and_nobody_else_may_read_it() {
    let (parent, folder) = folder();
    let secret = SecretKey::from_bytes(*b"0123456789abcdef0123456789abcdef");
    folder.store("agent", KeyKind::Ed25519, &secret, "correct horse").unwrap();
    let path = parent.path().join("keys/agent.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("0123456789abcdef") && !text.contains("MDEyMzQ1Njc4"), "{text}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path) & 0o777, 0o600);
        assert_eq!(mode(path.parent().unwrap()) & 0o777, 0o700);
    }
}

#[test]
fn an_altered_file_does_not_open() {
    let (parent, folder) = folder();
    store(&folder, "agent").unwrap();
    store(&folder, "other").unwrap();
    let path = |name| parent.path().join(format!("keys/{name}.json"));
    let text = std::fs::read_to_string(path("agent")).unwrap();
    let try_with = |text: String| {
        std::fs::write(path("agent"), text).unwrap();
        folder.unlock("agent", "correct horse").map(|_| ())
    };
    assert!(try_with(text.clone()).is_ok(), "unaltered, it opens");
    let swapped = std::fs::read_to_string(path("other")).unwrap().replace("other", "agent");
    assert!(matches!(try_with(swapped), Err(KeyError::Passphrase)), "another key's file");
    for (from, to) in
        [("memory_kib\": 8", "memory_kib\": 99999999"), ("passes\": 1", "passes\": 99"), ("{", "")]
    {
        assert!(matches!(try_with(text.replacen(from, to, 1)), Err(KeyError::Damaged)), "{from}");
    }
}

#[test]
fn what_is_sealed_opens_under_the_same_key_and_context() {
    let (ours, other) = (SecretKey::from_bytes([1; 32]), SecretKey::from_bytes([2; 32]));
    let sealed = ours.seal("credential a", b"secret").unwrap();
    assert_eq!(&**ours.open("credential a", &sealed).unwrap(), b"secret");
    assert!(ours.open("credential b", &sealed).is_err());
    assert!(other.open("credential a", &sealed).is_err());
    assert!(ours.open("credential a", &sealed[..sealed.len() - 1]).is_err());
    assert!(ours.open("credential a", &[]).is_err());
    assert_ne!(sealed, ours.seal("credential a", b"secret").unwrap(), "nonces differ");
}
