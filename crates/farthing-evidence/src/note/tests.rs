//! The note that every implementation knows is believed, and is written the same.

use super::*;

/// The example of the Go library that the form comes from.
const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
const VERIFIER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const SIGNATURE: &str = "— PeterNeumann \
                         x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn known() -> (String, NoteKey) {
    (format!("{TEXT}\n{SIGNATURE}"), NoteKey::parse(VERIFIER).unwrap())
}

#[test]
fn a_note_of_another_implementation_is_believed() {
    let (note, key) = known();
    assert_eq!(open(&note, std::slice::from_ref(&key)), Ok(TEXT));
    assert_eq!(key.text(), VERIFIER);
    assert_eq!(open(&note, &[]), Err(NoteError::Key));
}

#[test]
fn what_is_written_is_read() {
    let key = SecretKey::from_bytes(&[7; 32]);
    let note = sign(TEXT, "api.example.com/book", &key).unwrap();
    let known = NoteKey::new("api.example.com/book", key.public()).unwrap();
    assert_eq!(open(&note, &[known]), Ok(TEXT));
    // The same key under another name is another key.
    let other = NoteKey::new("api.example.com", key.public()).unwrap();
    assert_eq!(open(&note, &[other]), Err(NoteError::Key));
    assert_eq!(sign("no last line", "name", &key), None);
    assert_eq!(sign("a\ttab\n", "name", &key), None);
    assert_eq!(sign(TEXT, "a name", &key), None);
}

#[test]
fn signatures_of_strangers_are_passed_over_and_false_ones_spoil_the_note() {
    let (note, key) = known();
    let keys = std::slice::from_ref(&key);
    let stranger = sign(TEXT, "witness", &SecretKey::from_bytes(&[7; 32])).unwrap();
    let stranger = stranger.lines().last().unwrap();
    assert_eq!(open(&format!("{note}{stranger}\n"), keys), Ok(TEXT));
    let altered = note.replacen("answer", "Answer", 1);
    assert_eq!(open(&altered, keys), Err(NoteError::Signature));
    assert_eq!(open(&format!("{altered}{stranger}\n"), keys), Err(NoteError::Signature));
}

#[test]
fn a_note_has_one_form() {
    let (note, key) = known();
    for odd in [
        "",
        TEXT,
        &format!("{TEXT}\n"),
        &note[..note.len() - 1],
        &note.replace("— ", "- "),
        &note.replace("— PeterNeumann ", "— PeterNeumann  "),
        &note.replace("— PeterNeumann", "—  PeterNeumann"),
        &note.replace("AM=", "AM"),
        &note.replace("AM=", "AN="),
        &note.replace('\n', "\r\n"),
        &format!("{note}more\n"),
        &format!("{note}\n"),
    ] {
        assert_eq!(open(odd, std::slice::from_ref(&key)), Err(NoteError::Malformed), "{odd:?}");
    }
    for odd in [
        "PeterNeumann",
        "PeterNeumann+c74f20a3+",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpcAQcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ] {
        assert_eq!(NoteKey::parse(odd), None, "{odd}");
    }
}
