//! Which test holds which requirement.
//!
//! A test that holds one says so at the start of its comment: `/// CORE.S16, R-01: …`. The names are
//! those of the list below; `docs/conformance.md` is written from both, and a test fails while a
//! requirement has no test or the document is not what would be written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

#[cfg(test)]
mod tests;

/// Where the document stands.
pub(crate) const DOCUMENT: &str = "docs/conformance.md";

struct Group {
    title: &'static str,
    about: &'static str,
    requirements: &'static [(&'static str, &'static str)],
}

const GROUPS: &[Group] = &[
    Group {
        title: "The Payment scheme, server",
        about: "draft-httpauth-payment-00, by section.",
        requirements: &[
            ("CORE.S01", "402 with a fresh challenge when payment is missing or fails (§4.2)"),
            ("CORE.S02", "never 402 without a challenge, nor for 401, 403 and 404 (§4.4.2)"),
            ("CORE.S03", "users authenticate before they pay (§4.4.3)"),
            ("CORE.S04", "ids are bound to every parameter and verified (§5.1.1, §5.1.2.1)"),
            ("CORE.S05", "`request` is canonical JSON in base64url (§5.1.1)"),
            ("CORE.S06", "challenges carry `expires`, and `digest` where a body is bound (§5.1.2)"),
            ("CORE.S07", "a bound body is compared with the one that came (§5.1.3)"),
            ("CORE.S08", "receipts on success only (§5.3)"),
            ("CORE.S09", "`Accept-Payment` is honoured (§7.4)"),
            ("CORE.S10", "problem documents of the scheme's types (§8)"),
            ("CORE.S11", "unknown parameters and fields are passed over (§9.2.1)"),
            ("CORE.S12", "challenges stay small, credentials may be large (§9.4)"),
            ("CORE.S13", "TLS, except on loopback (§11.2)"),
            ("CORE.S14", "credentials and receipts are not logged (§11.2.1, §11.8)"),
            ("CORE.S15", "secrets rotate without failing challenges under way (§11.2.2)"),
            ("CORE.S16", "a proof is usable once (§11.3)"),
            ("CORE.S17", "nothing happens for the unpaid; `Idempotency-Key` (§11.4)"),
            ("CORE.S18", "identical credentials at once settle and deliver once (§11.5)"),
            ("CORE.S19", "no account is needed to pay (§11.7)"),
            ("CORE.S20", "`no-store` on 402, `private` with a receipt (§11.10)"),
            ("CORE.S21", "challenges and attempts are limited per client (§11.12)"),
            ("CORE.S22", "several credentials in one request are refused (§B.4)"),
            ("CORE.S23", "descriptions in the client's language (§10.2)"),
        ],
    },
    Group {
        title: "The Payment scheme, client",
        about: "draft-httpauth-payment-00, by section.",
        requirements: &[
            ("CORE.C01", "ids and `opaque` are echoed as they came (§5.1.1)"),
            ("CORE.C02", "the bound body is resent; expired challenges are not answered (§5.1.2)"),
            ("CORE.C03", "unknown intents are not paid; one credential per request (§7.3, §B.4)"),
            (
                "CORE.C04",
                "amount, asset, payee and window are checked before signing (§7.4, §11.6)",
            ),
            ("CORE.C05", "large challenges, and 402s from intermediaries (§9.4, §11.9)"),
            ("CORE.C06", "no credential over plain HTTP off loopback (§11.2)"),
        ],
    },
    Group {
        title: "Discovery",
        about: "draft-payment-discovery-00, by section.",
        requirements: &[
            ("DISC.S01", "an OpenAPI 3.x document is published (§4)"),
            ("DISC.S02", "at its path, with its type (§4.1)"),
            ("DISC.S03", "`x-payment-info` on every paid operation (§4.4)"),
            ("DISC.S04", "in the form with several offers (§4.4)"),
            ("DISC.S05", "and a 402 response (§4.5)"),
            ("DISC.S06", "with the input's schema (§4.6)"),
            ("DISC.S07", "cacheable (§4.7)"),
            ("DISC.S08", "readable from other origins (§6.3)"),
            ("DISC.S09", "amounts are strings of digits (§4.4.1)"),
            ("DISC.C01", "a client pays without it (§1)"),
            ("DISC.C02", "both forms are read as one (§4.4)"),
            ("DISC.C03", "offers are alternatives (§4.4)"),
            ("DISC.C04", "the 402 wins over the document (§5)"),
            ("DISC.C05", "nothing it says is paid for without a challenge (§5)"),
        ],
    },
    Group {
        title: "Channels on Tempo and on EVM chains",
        about: "draft-tempo-session-00 and draft-evm-session-00: the chain's half, on real chains; version 2 \
                of Tempo's on a stand-in for what no chain here has yet.",
        requirements: &[
            ("TSE.S01", "a descriptor is what its opening makes, and its amounts fit (§6.2.1)"),
            ("TSE.S02", "challenges name the chain, the escrow and the version (§7.2)"),
            ("TSE.S03", "a transaction is checked before it is sponsored (§8.4)"),
            ("TSE.S04", "an opening is decoded, handed over, and found on the chain (§11.1)"),
            ("TSE.S05", "a top-up adds exactly what it says (§11.2)"),
            ("TSE.S07", "a close takes what was spent and no more (§13.2)"),
            ("TSE.C01", "another version's challenge is not answered (§4)"),
            ("EVS.S01", "an action is known, and answers a challenge of this session (§12.1)"),
            ("EVS.S02", "what was undone is told at once (§12.2)"),
            ("EVS.S03", "an opening by hash has created this very channel (§12.3)"),
            ("EVS.S04", "and a top-up by hash has added exactly what it says (§12.4)"),
            ("EVS.S05", "a voucher's signature comes before the book is asked (§12.5)"),
            (
                "EVS.S06",
                "refusals of the chain have problem types, and no words of its own (§12.7)",
            ),
            ("EVS.S07", "a close takes what was spent (§14.2)"),
            ("EVS.S08", "an escrow leaves the payee ten minutes at least (§14.3)"),
            ("EVS.S09", "what is relayed is what is advertised (§9.1, §9.4)"),
            ("EVS.S10", "what was signed away is for this deposit alone (§10.2.2)"),
            ("EVS.C01", "a payer submits what the seller takes (§8.2, §9.2)"),
            ("EVS.C02", "nonces say what is signed away for (§10.2.2, §15.13)"),
            ("EVS.C03", "vouchers are signed in 65 bytes (§6.1)"),
            ("EVS.P03", "the escrow receives by itself, under a nonce that it makes again (§7.3)"),
            ("SES.S02", "whose signature a voucher needs is the channel's to say"),
            ("SES.S03", "a signature has one spelling, with the lower s"),
            ("SES.S11", "channels are followed, and a request to close is noticed"),
            ("SES.C07", "ids are made as the escrow makes them"),
            ("SES.P01", "only the payee settles, and only the payer tops up and leaves"),
            ("SES.P02", "the escrow takes one spelling of a signature, for its own domain"),
            ("SES.P03", "a settlement goes up, within the deposit"),
            ("SES.P04", "a top-up takes a request to close back"),
            ("SES.P05", "the rest is the payer's when the payee has had its time"),
            ("S-10", "an order that is under way is no second payment"),
            ("S-16", "a payer leaves without the seller"),
            ("S-19", "one balance does not stand behind two channels"),
            ("S-20", "one bad voucher among many"),
            ("S-21", "what another submits first"),
        ],
    },
    Group {
        title: "Charges on Tempo",
        about: "draft-tempo-charge-00, by section; on a real chain where one can be had, and with the \
                official SDKs on the other side.",
        requirements: &[
            ("TCH.S01", "the seller broadcasts what the buyer signed (§1)"),
            ("TCH.S02", "the transaction is the charge and nothing else (§7.2)"),
            ("TCH.S03", "a hash is believed by the events of its receipt (§7.3)"),
            ("TCH.S04", "a hash is refused where push is not offered (§7.1)"),
            ("TCH.S05", "a proof names its account, and the account signed it (§5.4.2)"),
            ("TCH.S06", "a sponsor with little money pays for nothing (§6.3, §8.4)"),
            ("TCH.S07", "a receipt with the transaction's hash, on success only (§7.4)"),
            ("TCH.C01", "the transaction does not outlive its challenge (§4.3)"),
            ("TCH.C02", "a sponsored buyer leaves the fee and its token to the sponsor (§6.4)"),
            ("TCH.C03", "what costs nothing is proved, and nothing else (§5.4)"),
            ("TCH.C04", "the wallet finds out before it signs, splits included (§4.4.3, §8.2)"),
            ("TCH.C05", "what is sponsored is not pushed (§7.1)"),
            ("CHG.S02", "a credential buys once (§6.2, §8.3)"),
            ("CHG.S03", "everybody is paid their part, once"),
            ("M-06", "calldata, encodings and access lists in any other spelling"),
            ("B-03", "splits and memos altered after they were asked for"),
            ("B-06", "a charge shown where something else was asked for, and the reverse"),
            ("B-07", "somebody else's transaction hash, or its memo"),
            ("B-08", "a proof of another wallet, for another realm, or a second time"),
            ("B-09", "somebody else's name on a payment"),
            ("R-03", "a transaction both pulled and pushed"),
            ("R-04", "a transaction that does something else than pay"),
            ("R-08", "one transfer for two, and two events of one transfer"),
            ("X-03", "a sponsor's money drained by payments that fail, or by one buyer"),
            ("X-04", "a sponsored transaction that its sender has not signed"),
            ("X-05", "calls smuggled into a sponsored transaction"),
            ("F-03", "a receipt that failed, or does not show the transfer"),
            ("F-07", "an outcome that nobody knows"),
            ("F-08", "a settlement that succeeds after everybody stopped waiting"),
            ("F-09", "a transaction about to expire"),
            ("F-10", "a settlement twice at once, and after success"),
            ("F-13", "sponsored transactions that no sponsor should sign"),
        ],
    },
    Group {
        title: "Paid once, delivered once",
        about: "Retries, failures and crashes. C-01 to C-06 are a `kill -9` of the running program; what \
                became of every payment is counted in [crashes.md](crashes.md).",
        requirements: &[
            ("C-01", "`kill -9` after a credential was verified"),
            ("C-02", "`kill -9` after the claim was written"),
            ("C-03", "`kill -9` after the money moved, and in the middle of a delivery"),
            ("C-04", "`kill -9` after the handler was done"),
            ("C-05", "`kill -9` after the delivery was written"),
            ("C-06", "`kill -9` after the client had its answer"),
            ("C-07", "a book that was torn, cut or flipped"),
            ("C-08", "a disk that is full or cannot be written"),
            ("C-11", "two processes and one book"),
            ("F-01", "a chain that goes back"),
            ("F-02", "a rail that says settled and has moved nothing"),
            ("F-04", "a crash after the payment and before or in the delivery"),
            ("F-05", "a handler that is done, and a payment that fails"),
            ("F-06", "a client that goes away after it has paid"),
            ("F-11", "one authorisation at two counters"),
            ("F-12", "an asset that is none, and a success that moves nothing"),
            ("R-07", "what is remembered grows with what is open, not with history"),
            ("R-12", "a handler that fails after the payment"),
            ("U-02", "no receipt for what failed, and a record of it"),
            ("U-04", "receipts, ledger and rail agree in sum"),
            ("U-06", "what clients say of people is not kept"),
        ],
    },
    Group {
        title: "Streams that are paid for as they come",
        about: "Sections 12 and 13 of draft-tempo-session-00, as far as they are about the answer; the \
                channel it is paid from is a test's.",
        requirements: &[
            (
                "SES.S08",
                "nothing is given beyond the balance; need-voucher, a pause, and an end (§12.6)",
            ),
            ("SES.S09", "a stream ends with its receipt (§13.6)"),
            ("SES.S14", "usage is estimated, reserved, and settled by the report (§12.5)"),
            ("S-13", "a client that stops paying, or reading, in the middle of a stream"),
            ("D-06", "vouchers over dust"),
            ("W-08", "an upstream that speaks of payments"),
        ],
    },
    Group {
        title: "The intent subscription",
        about: "draft-payment-intent-subscription-00, by section.",
        requirements: &[
            ("SUB.S01", "active once the first charge is collected and durable (§7.1)"),
            (
                "SUB.S02",
                "one charge at most for each period, before it is served; none for what was missed (§7.2)",
            ),
            (
                "SUB.S03",
                "whoever uses a subscription is authenticated; its name is not enough (§7.3)",
            ),
            (
                "SUB.S04",
                "state is durable: retries, races and restarts collect nothing twice (§7.4)",
            ),
            ("SUB.S05", "nothing is collected once a cancellation or the end counts (§7.5)"),
            ("SUB.S06", "402 with a fresh challenge for what is over or unpaid (§7.6)"),
            ("SUB.S07", "cancellations are honoured, and records provided (§9.2-9.4)"),
            ("SUB.S08", "`no-store` on 402, `private` with a receipt (§9.5)"),
            ("SUB.S09", "periods are exact, in UTC, from the anchor; no other fields (§1.1, §5.1)"),
            ("SUB.S10", "challenges carry `expires` (§5.1.2)"),
            ("SUB.C01", "the payer is told that charges follow without another word (§9.1)"),
            (
                "SUB.C02",
                "amount, currency, period and end are verified, and held to the owner's rules (§9.2)",
            ),
            ("SUB.C03", "a retry is told from a new beginning (§7.4)"),
            ("SUB.C04", "a 402 for what is over is a new beginning (§7.6)"),
        ],
    },
    Group {
        title: "Subscriptions on Tempo",
        about: "draft-tempo-subscription-00, by section. Where a chain could be too old for them, nothing is \
                charged: its answers about keys and limits are no answers.",
        requirements: &[
            ("TSU.S02", "no months, no periods or ends that a key cannot have (§4.2)"),
            (
                "TSU.S03",
                "chain, key, end, limit, target, calls and recipient are verified; nothing broader (§6.5)",
            ),
            ("TSU.S04", "the payer is whoever has signed, and `source` has to say so (§6.4)"),
            (
                "TSU.S05",
                "active once the first charge has succeeded; never at or after the end (§6.1)",
            ),
            (
                "TSU.S06",
                "state is durable, with what is on its way; periods are counted from the chain's time (§6.3)",
            ),
            ("TSU.S07", "one charge in each period (§6.2, §7.4)"),
            ("TSU.S08", "a receipt, and the same `subscriptionId`, for renewals (§6.6)"),
            ("TSU.S09", "a key of its own for each subscription (§7.6)"),
            ("TSU.S10", "a fresh challenge after a revocation (§7.3)"),
            ("TSU.C01", "amount, currency, period, recipient and end are verified (§7.2)"),
            ("TSU.C02", "hexadecimal digits are written in lower case (§4.1)"),
            ("TSU.C03", "nothing broader is authorised than was asked for (§4.2)"),
        ],
    },
    Group {
        title: "Attacks: malformed input",
        about: "",
        requirements: &[
            ("M-01", "ambiguous credentials: two, comma-joined, in both headers"),
            ("M-02", "control characters and non-ASCII in parameters"),
            ("M-03", "empty ids, repeated parameters and keys, sizes and depths beyond limits"),
            ("M-04", "amounts in any other spelling than digits"),
            ("M-05", "keys, ids and accounts have one spelling"),
            ("M-07", "base64url in any other spelling"),
            ("M-08", "zero, dust and prices that round to nothing"),
            ("M-09", "canonical JSON at its edges"),
            ("M-10", "assets with other decimals or other names are never equal"),
            ("M-11", "text built to be slow to parse"),
        ],
    },
    Group {
        title: "Attacks: time and secrets",
        about: "",
        requirements: &[
            ("K-01", "challenges at and around their expiry"),
            ("K-02", "timestamps in any other form than RFC 3339"),
            ("K-03", "`expires` left out of the echo"),
            ("K-04", "a clock that jumps opens no window for a replay"),
            ("K-05", "a challenge that expires while its request runs"),
            ("K-06", "rotated secrets verify during the overlap only"),
            ("C-09", "refusing an id takes as long wherever it is wrong"),
        ],
    },
    Group {
        title: "Attacks: binding",
        about: "",
        requirements: &[
            ("B-01", "a payment for one route at another"),
            ("B-02", "a payment for one body with another"),
            ("B-05", "a payment for one realm at another"),
            ("B-13", "signatures in other forms, or by other keys"),
            ("B-14", "an echo with other terms"),
            ("B-15", "a payment for one query with another"),
        ],
    },
    Group {
        title: "Attacks: replay",
        about: "",
        requirements: &[
            ("R-01", "one credential, many times at once"),
            ("R-02", "one credential at two processes"),
            ("R-06", "one credential later, up to and past its expiry, and after a restart"),
            ("R-10", "one `Idempotency-Key`, other bodies and other credentials"),
            ("R-11", "the control: two honest payments at once are two payments"),
        ],
    },
    Group {
        title: "Attacks: sessions",
        about: "One deposit, many payments: what must not come of vouchers.",
        requirements: &[
            ("B-04", "a session for one payee, asset or realm used for another, by every action"),
            ("B-12", "a voucher for a cheap route at a dear one"),
            ("R-05", "a voucher again and again, and a lower one"),
            ("S-01", "actions that nobody, or somebody else, has signed"),
            ("S-02", "a voucher of one channel on another"),
            ("S-03", "a channel opened again, and what was spent before"),
            ("S-04", "vouchers up to and beyond the deposit"),
            ("S-05", "a settlement that is none: of less than before, or of the same"),
            ("S-06", "a close for more than was spent"),
            ("S-07", "vouchers at once, in any order"),
            ("S-08", "a channel that is closed"),
            ("S-09", "a payer who has asked the rail to close, and a restart between"),
            ("S-11", "deposits and payments at once"),
            ("S-12", "vouchers at two processes"),
            ("S-14", "a session from its opening to its close"),
            ("S-15", "a payer who does not come back"),
            ("S-16", "a rail that has closed a channel by itself"),
            ("S-17", "a payer who leaves as of an old state"),
            ("S-18", "a node that tells wrongly what a batch has settled"),
            ("S-19", "one deposit in two channels"),
            ("S-20", "a thousand to be settled at once, and one voucher that is bad"),
            ("S-21", "a settlement that somebody else has sent"),
            ("S-22", "a price or unit that has changed meanwhile"),
        ],
    },
    Group {
        title: "Attacks: what an owner allows",
        about: "The wallet's side: limits, budgets, and what must not talk an agent out of them.",
        requirements: &[
            ("P-01", "the control: what is allowed is bought"),
            ("P-02", "more asked for at once than a budget holds"),
            ("P-03", "what was paid with, presented again"),
            ("P-04", "a token that is forged, cut or another wallet's"),
            ("P-05", "an authority before its time, and after it"),
            ("P-05b", "many agents at once on one budget"),
            ("P-06", "the same purchase, asked for again"),
            ("P-07", "an allowance, asked for by many at once"),
            ("P-08", "other decimals than an asset has"),
            ("P-09", "a caller who says that it is somebody else"),
            ("P-10", "a purchase cut into many small ones"),
            ("P-11", "spending around the edge of a window, and other clocks"),
            ("P-12", "a hold whose payment comes to nothing"),
            ("P-13", "a price that creeps up"),
            ("P-14", "what takes more than its price covers"),
            ("P-15", "a policy that changes while it is asked"),
            ("P-16", "a policy that fails, or does not know"),
            ("P-17", "every decision on record, to be made again"),
            ("A-01", "a dear or unsafe offer that is listed first"),
            ("A-02", "another asset, recipient or unit than was meant"),
            ("A-03", "an authorisation that would stand for too long"),
            ("A-04", "words that ask for a payment, or say that one is allowed"),
            ("A-05", "a seller that takes the payment and gives nothing"),
            ("A-06", "a seller that looks like another"),
            ("A-07", "words that praise an offer"),
            ("A-08", "a seller that asks for keys, and for what is nobody's business"),
            ("A-09", "strangers that flood an answer and praise themselves"),
            ("A-10", "a seller that asks again and again"),
            ("A-11", "the same request bought over and over"),
            ("A-12", "the control: honest purchases all succeed"),
            ("A-13", "an agent that is made to pay for another"),
        ],
    },
    Group {
        title: "Attacks: exhaustion",
        about: "",
        requirements: &[
            ("D-01", "any number of challenges that nobody answers"),
            ("D-02", "signatures of nobody"),
            ("D-03", "more who pay than can be served"),
            ("D-04", "clients that take their time"),
            ("D-05", "ids that were never given out"),
        ],
    },
    Group {
        title: "Attacks: configuration and the web",
        about: "",
        requirements: &[
            ("C-10", "weak, default and missing secrets"),
            ("C-12", "secrets in logs"),
            ("W-01", "shared caches"),
            ("W-02", "`Range`, `HEAD` and revalidation of paid answers"),
            ("W-04", "forwarded headers and host names that lie"),
            ("W-05", "redirects with a credential"),
            ("W-06", "methods and paths in every spelling"),
            ("W-07", "two lengths in one request"),
            ("W-09", "answers that tell an attacker what was nearly right"),
        ],
    },
];

/// A test, and the requirements its comment names.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    ids: Vec<String>,
    test: String,
}

/// The tests of one file that name requirements.
fn named(text: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut ids = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if let Some(comment) = line.strip_prefix("/// ") {
            ids.extend(ids_of(comment));
        } else if let Some(test) = function(line) {
            if !ids.is_empty() {
                found.push(Named { ids: std::mem::take(&mut ids), test: test.to_owned() });
            }
        } else if !line.starts_with("#[") && !line.starts_with("///") {
            ids.clear();
        }
    }
    found
}

/// The ids before a comment's colon, if that is what stands there.
fn ids_of(comment: &str) -> Vec<String> {
    let Some((head, _)) = comment.split_once(':') else { return Vec::new() };
    let ids: Vec<String> = head.split(", ").map(ToOwned::to_owned).collect();
    if ids.iter().all(|id| is_id(id)) { ids } else { Vec::new() }
}

fn is_id(text: &str) -> bool {
    // One that was put between two others has a letter behind its number.
    let text = text.strip_suffix('b').unwrap_or(text);
    let end = text.trim_end_matches(|char: char| char.is_ascii_digit());
    let stem = end.trim_end_matches(|char: char| matches!(char, '.' | '-' | 'A'..='Z'));
    stem.is_empty() && end.len() < text.len() && end.contains(['.', '-'])
}

fn function(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

/// Every requirement with the tests that hold it, as `file::test`.
fn trace(root: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // The examples in these tests are not tests.
    let ours = root.join("xtask");
    for file in rust_files(root)?.into_iter().filter(|file| !file.starts_with(&ours)) {
        let text = std::fs::read_to_string(&file).context("a source file cannot be read")?;
        let place = file.strip_prefix(root).unwrap_or(&file).display();
        for Named { ids, test } in named(&text) {
            for id in ids {
                tests.entry(id).or_default().push(format!("{place}::{test}"));
            }
        }
    }
    Ok(tests)
}

/// `docs/conformance.md`, as it should stand.
pub(crate) fn document(root: &Path) -> Result<String> {
    let tests = trace(root)?;
    let mut text = String::from(
        "# Conformance\n\n\
         Every requirement that is met, and the tests that hold it. Written by `./x conformance` \
         from the comments of the tests; a test fails while it is out of date.\n\n\
         The specifications are the drafts of the Machine Payments Protocol. The attacks are those \
         known against systems that charge over HTTP 402; each rejection has a control that \
         passes.\n",
    );
    for group in GROUPS {
        write!(text, "\n## {}\n\n", group.title)?;
        if !group.about.is_empty() {
            write!(text, "{}\n\n", group.about)?;
        }
        text.push_str("| | Requirement | Tests |\n|---|---|---|\n");
        for (id, requirement) in group.requirements {
            let tests = tests.get(*id).map(Vec::as_slice).unwrap_or_default();
            writeln!(text, "| {id} | {requirement} | {} |", links(tests))?;
        }
    }
    Ok(text)
}

fn links(tests: &[String]) -> String {
    let link = |test: &String| {
        let (file, name) = test.split_once("::").unwrap_or((test, test));
        format!("[{}](../{file})", name.replace('_', " "))
    };
    tests.iter().map(link).collect::<Vec<_>>().join(" · ")
}

/// Every Rust file of the tree below `folder`, built things aside.
pub(crate) fn rust_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|it| it.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            let skipped = name.starts_with('.') || matches!(&*name, "target" | "node_modules");
            if path.is_dir() && !skipped {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
