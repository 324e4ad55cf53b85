//! Checkpoints are written in one spelling, and read in no other.

use super::*;
use crate::SecretKey;

fn notary() -> Notary {
    Notary::new("api.example.com", SecretKey::from_bytes(&[7; 32]), &[]).ok().unwrap()
}

fn checkpoint() -> Checkpoint {
    Checkpoint::new(&notary(), 1_234, Hash::empty())
}

#[test]
fn a_checkpoint_is_three_lines_and_a_signature() {
    let note = checkpoint().sign(&notary());
    let lines: Vec<&str> = note.lines().collect();
    let [origin, size, root, "", signature] = lines[..] else { panic!("{note}") };
    assert_eq!((origin, size), ("api.example.com/book", "1234"));
    assert_eq!(root, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert!(signature.starts_with("— api.example.com/book "), "{signature}");
    let opened = Checkpoint::open(&note, notary().published()).unwrap();
    assert_eq!(opened, checkpoint());
    assert_eq!(opened.realm(), Some("api.example.com"));
}

#[test]
fn a_checkpoint_that_somebody_else_signed_is_not_believed() {
    let note = checkpoint().sign(&notary());
    let other = Notary::new("api.example.com", SecretKey::from_bytes(&[8; 32]), &[]).ok().unwrap();
    let key = Err(CheckpointError::Note(NoteError::Key));
    assert_eq!(Checkpoint::open(&note, other.published()), key);
    let renamed = note.replace("api.example.com", "api.example.org");
    assert_eq!(Checkpoint::open(&renamed, notary().published()), key);
    let altered = note.replace("1234", "1235");
    let signature = Err(CheckpointError::Note(NoteError::Signature));
    assert_eq!(Checkpoint::open(&altered, notary().published()), signature);
}

#[test]
fn a_signed_text_in_another_spelling_is_no_checkpoint() {
    let text = checkpoint().text();
    let open = |text: &str| {
        let origin = text.lines().next().unwrap();
        let note = note::sign(text, origin, notary().key()).unwrap();
        Checkpoint::open(&note, notary().published())
    };
    assert!(open(&text).is_ok());
    for odd in [
        text.replace("1234", "01234"),
        text.replace("1234", "+1234"),
        text.replace("1234", "-1"),
        text.replace("1234", "18446744073709551616"),
        text.replace("SuFU=", "SuFV="),
        text.replace("SuFU=", "SuFU"),
        format!("{text}an extension\n"),
        format!("{text}\n"),
        text.replace("\n1234", ""),
    ] {
        assert_eq!(open(&odd), Err(CheckpointError::Malformed), "{odd:?}");
    }
}
