use super::{Account, Holder};

#[test]
fn accounts_have_one_spelling() {
    for text in [
        "prepaid/acme/usd",
        "clearing/tempo/eip155:42431/erc20:0x20c0000000000000000000000000000000000000",
        "spent/did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK/usd",
    ] {
        assert_eq!(text.parse::<Account>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "prepaid",
        "prepaid/acme",
        "prepaid//usd",
        "Prepaid/acme/usd",
        "cash/acme/usd",
        "prepaid/a b/usd",
    ] {
        assert!(text.parse::<Account>().is_err(), "{text}");
    }
    assert!(Holder::new(&"a".repeat(200)).is_ok());
    for name in ["", "a/b", "a b", "a\n", "é", &"a".repeat(201)] {
        assert!(Holder::new(name).is_err(), "{name:?}");
    }
}
