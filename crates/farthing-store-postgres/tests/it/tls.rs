//! Encrypted connections.

use std::path::Path;

use farthing_store_postgres::{Address, Options, PostgresStore, Reader};
use farthing_testkit::postgres::Cluster;
use farthing_testkit::store::START;

/// Makes a server that speaks TLS with a certificate of its own, and nothing else.
fn certify(folder: &Path) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(folder.join("server.crt"), certified.cert.pem()).unwrap();
    let key = folder.join("server.key");
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, private).unwrap();
    let rules = folder.join("data/pg_hba.conf");
    std::fs::write(rules, "hostssl all all 127.0.0.1/32 scram-sha-256\n").unwrap();
}

/// What asks for TLS gets it, from a server whose certificate it trusts, and from no other.
#[test]
fn an_encrypted_connection_is_verified() {
    let folder = tempfile::TempDir::new().unwrap();
    let copied = folder.path().join("roots.pem");
    let server = Cluster::start_prepared(
        &["ssl=on", "ssl_cert_file=../server.crt", "ssl_key_file=../server.key", "fsync=off"],
        |folder| {
            certify(folder);
            std::fs::copy(folder.join("server.crt"), &copied).unwrap();
        },
    );
    let other = folder.path().join("other.pem");
    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&other, stranger.cert.pem()).unwrap();

    let open = |options: &str| {
        let address = Address::parse(&format!("{}{options}", server.url())).unwrap();
        PostgresStore::open(address, "main", &Options::default(), START)
    };
    let with = |roots: &Path| format!("?sslmode=verify-full&sslrootcert={}", roots.display());
    drop(open(&with(&copied)).unwrap());
    let address = Address::parse(&format!("{}{}", server.url(), with(&copied))).unwrap();
    assert_eq!(Reader::open(&address, "main").unwrap().journal().unwrap().len(), 1);
    assert!(open(&with(&other)).is_err(), "signed by somebody else");
    assert!(open("?sslmode=require").is_err(), "unknown to this system");
    assert!(open(&with(&folder.path().join("none.pem"))).is_err(), "no such file");
    assert!(open("").is_err(), "the server does not speak plainly");
}
