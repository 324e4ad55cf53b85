use std::sync::Arc;
use std::time::Duration;

use farthing_money::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

use super::{Ca, CaError, MadeCa};

const DAY: Duration = Duration::from_hours(24);

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap())
}

fn made(hosts: &[&str]) -> MadeCa {
    let hosts = hosts.iter().map(|it| (*it).to_owned()).collect();
    MadeCa::make(hosts, DAY, now()).unwrap()
}

/// Shakes hands with what the authority passes for `host`, trusting nobody else.
fn shake(made: &MadeCa, ca: &Ca, host: &'static str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(ca.server(host, now()).unwrap()).unwrap();
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn it_passes_for_the_hosts_it_was_made_for() {
    let made = made(&["api.example.com", "127.0.0.1"]);
    let ca = Ca::open(&made).unwrap();
    shake(&made, &ca, "api.example.com").unwrap();
    shake(&made, &ca, "eu.api.example.com").unwrap();
    shake(&made, &ca, "127.0.0.1").unwrap();
    // What was made for a host is used again.
    assert!(Arc::ptr_eq(
        &ca.server("api.example.com", now()).unwrap(),
        &ca.server("api.example.com", now()).unwrap()
    ));
}

/// It makes no other certificate; and if whoever has its key does, nobody believes it.
#[test]
fn it_passes_for_no_other_host() {
    let named = made(&["api.example.com"]);
    let ca = Ca::open(&named).unwrap();
    for host in ["example.com", "evil-api.example.com", "bank.example.net", "127.0.0.1"] {
        assert!(matches!(ca.server(host, now()), Err(CaError::Host(_))), "{host}");
        let stolen = Ca { hosts: vec![host.to_owned()], ..Ca::open(&named).unwrap() };
        assert!(shake(&named, &stolen, host).is_err(), "{host}");
    }
    // The same by force for a host of its own is believed.
    let stolen = Ca { hosts: vec!["api.example.com".to_owned()], ..Ca::open(&named).unwrap() };
    shake(&named, &stolen, "api.example.com").unwrap();
    let of_addresses = made(&["127.0.0.1"]);
    let stolen =
        Ca { hosts: vec!["api.example.com".to_owned()], ..Ca::open(&of_addresses).unwrap() };
    assert!(shake(&of_addresses, &stolen, "api.example.com").is_err());
}

#[test]
fn it_ends_and_is_made_for_somebody() {
    let ca = Ca::open(&made(&["api.example.com"])).unwrap();
    let later = now().after(DAY).after(DAY);
    assert!(matches!(ca.server("api.example.com", later), Err(CaError::Expired(_))));
    assert!(matches!(MadeCa::make(Vec::new(), DAY, now()), Err(CaError::NoHost)));
    for wrong in ["", "*.example.com", ".example.com", "Example.com", "a b", "host:443"] {
        let made = MadeCa::make(vec![wrong.to_owned()], DAY, now());
        assert!(matches!(made, Err(CaError::Host(_))), "{wrong:?}");
    }
}
