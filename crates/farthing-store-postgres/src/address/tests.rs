use std::path::Path;

use tokio_postgres::config::{Host, TargetSessionAttrs};

use super::{Address, AddressError};

fn hosts(address: &Address) -> Vec<String> {
    let name = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    address.config.get_hosts().iter().map(name).collect()
}

#[test]
fn both_forms_of_an_address_are_read() {
    for text in [
        "postgres://me@a:5432,b:5433/books?sslmode=verify-full&target_session_attrs=read-write\
         &sslrootcert=%2Fetc%2Froots.pem",
        "host=a,b port=5432,5433 user=me dbname=books sslmode=verify-ca sslrootcert=/etc/roots.pem \
         target_session_attrs=read-write",
    ] {
        let address = Address::parse(text).unwrap();
        assert_eq!(hosts(&address), ["a", "b"], "{text}");
        assert_eq!(address.config.get_ports(), [5432, 5433]);
        assert_eq!(address.config.get_dbname(), Some("books"));
        assert!(address.wants_tls());
        assert_eq!(address.roots.as_deref(), Some(Path::new("/etc/roots.pem")));
        let attributes = address.config.get_target_session_attrs();
        assert_eq!(attributes, TargetSessionAttrs::ReadWrite);
    }
}

#[test]
fn tls_is_used_where_it_is_asked_for() {
    for (text, wanted) in [
        ("postgres://a/b", false),
        ("postgres://a/b?sslmode=prefer", false),
        ("postgres://a/b?sslmode=disable", false),
        ("postgres://a/b?sslmode=require", true),
    ] {
        let address = Address::parse(text).unwrap();
        assert_eq!(address.wants_tls(), wanted, "{text}");
        assert_eq!(address.roots, None);
    }
}

#[test]
fn what_is_no_address_is_refused() {
    for text in ["postgres://a/b?sslmode=perhaps", "no address", "host=a port=x"] {
        assert!(matches!(Address::parse(text), Err(AddressError::Malformed(_))), "{text}");
    }
    let roots = Address::parse("postgres://a/b?sslrootcert=%ff");
    assert!(matches!(roots, Err(AddressError::Roots)));
}
