//! Evidence packs: chosen records of a journal in one file, with everything that proves them.
//!
//! A record is proven by its place in the journal's tree, the tree by the signed checkpoint, and the
//! checkpoint by those that were published before. What the file says of payments is recomputed from
//! the records; what cannot be proven so, that nothing was left out, the seller signs in the manifest.
//! `docs/evidence.md` describes the file.

use std::collections::{BTreeMap, BTreeSet};

use farthing_ledger::merkle::{self, Forest, Hash};
use farthing_ledger::{
    ErasedRow, Event, Leaves, Outcome, Payment, PaymentId, Record, Row, Settlement, TraceId,
    Unexplained,
};
use farthing_money::{AssetId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, CheckpointError, origin};
use crate::jws::{self, JwsError};
use crate::keys::{Notary, TrustedKeys};
use crate::receipt::{Expected, ReceiptClaims};
use crate::sums::{Sums, sums};

#[cfg(test)]
mod tests;

/// The version of the file.
const VERSION: u8 = 1;

/// The version of a file in which records stand as an erasure has left them.
const VERSION_ERASED: u8 = 2;

/// What the signature under a manifest is one of.
const TYP: &str = "farthing-evidence+jws";

/// Which records a pack is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Selection {
    /// The whole story of one payment.
    Payment(PaymentId),
    /// The whole stories of payments to which something happened in a period, and whatever else
    /// happened in it.
    Period {
        /// From this instant on.
        from: Timestamp,
        /// To before this one.
        until: Timestamp,
    },
    /// The whole stories of payments that somebody paid, was paid by, or gave or got money of, and
    /// whatever else touched their accounts.
    Party(String),
}

/// One file of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// The version of the file: 1, or 2 where personal data of its records was erased.
    pub farthing_evidence: u8,
    /// Which records it is about.
    pub selection: Selection,
    /// The payments, recomputed from the records.
    pub payments: Vec<PaymentEvidence>,
    /// The records, in the journal's order.
    pub records: Vec<Proven>,
    /// The signed checkpoint of the journal that the records are proven against.
    pub checkpoint: String,
    /// Checkpoints that were published before, each with the proof that the journal continues it.
    pub published: Vec<Earlier>,
    /// What the file contains.
    pub manifest: Manifest,
    /// The seller's signature under the manifest: a detached JSON Web Signature over its JSON without
    /// white space.
    pub signature: String,
}

/// A record, and the proof of its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// Its place in the journal, counting from 1.
    pub seq: u64,
    /// The line, as it stands in the journal.
    pub line: String,
    /// The hash of the line that was sealed, where this one stands there since personal data was erased;
    /// the pack has the record that says so. It is the leaf of the proof then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Hash>,
    /// The proof that it stands there (RFC 6962 §2.1.1), from the leaf up.
    pub inclusion: Vec<Hash>,
}

/// A checkpoint that was published before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// The signed checkpoint.
    pub checkpoint: String,
    /// The proof that the pack's checkpoint continues it (RFC 6962 §2.1.2).
    pub consistency: Vec<Hash>,
}

/// What the journal says of one payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentEvidence {
    /// The facts as they were claimed: the challenge, the digest of the credential, the price, who paid
    /// whom for what, and what the seller undertook.
    pub payment: Payment,
    /// What was decided, in order.
    pub decisions: Vec<Decided>,
    /// The rail's word, if the money moved.
    pub settlement: Option<Settlement>,
    /// How it was answered, if it was.
    pub outcome: Option<Outcome>,
    /// The receipt, if it was answered with success. It does not name the request's body, which the
    /// journal does not know.
    pub receipt: Option<String>,
}

/// One decision about a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The record it stands in.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What, as the record names it: `claimed`, `posted`, `voided`, `delivered`, …
    pub what: String,
}

/// What a pack contains, signed by the seller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The seller's realm.
    pub realm: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// How many records it has.
    pub records: u64,
    /// How many payments.
    pub payments: u64,
    /// What they add up to, in each asset.
    pub totals: BTreeMap<AssetId, Sums>,
    /// The SHA-256 of each part of the file, as JSON without white space.
    pub digests: BTreeMap<String, Hash>,
}

impl Pack {
    /// Writes the pack as a file. A pack has no other spelling.
    #[must_use]
    pub fn to_json(&self) -> String {
        // In-memory data with string keys always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    fn digests(&self) -> BTreeMap<String, Hash> {
        let Self { selection, payments, records, checkpoint, published, .. } = self;
        [
            ("selection", digest(selection)),
            ("payments", digest(payments)),
            ("records", digest(records)),
            ("checkpoint", digest(checkpoint)),
            ("published", digest(published)),
        ]
        .map(|(name, digest)| (name.to_owned(), digest))
        .into()
    }
}

fn digest(part: &impl Serialize) -> Hash {
    Hash::from_bytes(Sha256::digest(compact(part)).into())
}

fn compact(part: &impl Serialize) -> Vec<u8> {
    // In-memory data with string keys always serialises.
    serde_json::to_vec(part).unwrap_or_default()
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

// --- exporting --------------------------------------------------------------------------------------

/// Makes a pack of the `selection` of a whole journal, which has to be verified before. The journal is
/// proven to continue each of the signed `published` checkpoints.
///
/// # Errors
///
/// An [`ExportError`].
pub fn export(
    notary: &Notary,
    journal: &[Row],
    selection: Selection,
    published: &[String],
    now: Timestamp,
) -> Result<Pack, ExportError> {
    let damaged = |row: &Row| ExportError::Damaged { seq: row.seq };
    let mut records = Vec::with_capacity(journal.len());
    for (row, seq) in journal.iter().zip(1..) {
        let record = Record::from_json(row.line.as_bytes()).map_err(|_| damaged(row))?;
        if row.seq != seq || record.seq != seq {
            return Err(damaged(row));
        }
        records.push(record);
    }
    let erased = erased_rows(&records);
    let leaf = |row: &Row| {
        erased.get(&row.seq).map_or_else(|| Hash::leaf(row.line.as_bytes()), |it| it.sealed)
    };
    let forest: Forest = journal.iter().map(leaf).collect();
    let size = forest.size();
    let chosen = selection.chosen(&records);
    let chosen: Vec<(&Row, &Record)> =
        journal.iter().zip(&records).filter(|(_, record)| chosen.contains(&record.seq)).collect();
    if chosen.is_empty() {
        return Err(ExportError::Nothing);
    }
    let proven = |(row, _): &(&Row, &Record)| Proven {
        seq: row.seq,
        line: row.line.clone(),
        sealed: erased.get(&row.seq).map(|it| it.sealed),
        inclusion: forest.inclusion(row.seq.saturating_sub(1), size).unwrap_or_default(),
    };
    let earlier = |note: &String| {
        let checkpoint = Checkpoint::open(note, notary.published())?;
        let proof = forest.consistency(checkpoint.size, size);
        let is_ours = checkpoint.origin == origin(notary.realm())
            && forest.root(checkpoint.size) == Some(checkpoint.root);
        let consistency = proof.filter(|_| is_ours);
        let consistency = consistency.ok_or(ExportError::Published { size: checkpoint.size })?;
        Ok::<_, ExportError>(Earlier { checkpoint: note.clone(), consistency })
    };
    let records: Vec<&Record> = chosen.iter().map(|(_, record)| *record).collect();
    let mut payments = stories(&records);
    for evidence in &mut payments {
        evidence.receipt = claims(notary.realm(), evidence).map(|claims| claims.sign(notary));
    }
    let root = forest.root(size).unwrap_or_else(Hash::empty);
    let proven: Vec<Proven> = chosen.iter().map(proven).collect();
    let mut pack = Pack {
        farthing_evidence: version(&proven),
        selection,
        records: proven,
        checkpoint: Checkpoint::new(notary, size, root).sign(notary),
        published: published.iter().map(earlier).collect::<Result<_, _>>()?,
        manifest: Manifest {
            realm: notary.realm().to_owned(),
            made_at: now,
            records: count(records.len()),
            payments: count(payments.len()),
            totals: sums(records),
            digests: BTreeMap::new(),
        },
        payments,
        signature: String::new(),
    };
    pack.manifest.digests = pack.digests();
    pack.signature = jws::sign_detached(notary.key(), TYP, &compact(&pack.manifest));
    Ok(pack)
}

/// The version of a file with these records.
fn version(records: &[Proven]) -> u8 {
    if records.iter().any(|it| it.sealed.is_some()) { VERSION_ERASED } else { VERSION }
}

/// The rows that were erased, as the last record of each says.
fn erased_rows(records: &[Record]) -> BTreeMap<u64, ErasedRow> {
    records.iter().flat_map(erased).map(|row| (row.seq, *row)).collect()
}

fn erased(record: &Record) -> &[ErasedRow] {
    if let Event::Erased { rows, .. } = &record.event { rows } else { &[] }
}

impl Selection {
    /// The places of the records it chooses, and those of the records that say that one of them was
    /// erased.
    fn chosen(&self, records: &[Record]) -> BTreeSet<u64> {
        let by_itself: BTreeSet<u64> =
            records.iter().filter(|it| self.chooses(it)).map(|it| it.seq).collect();
        let stories: BTreeSet<TraceId> = records
            .iter()
            .filter(|record| by_itself.contains(&record.seq))
            .filter_map(|record| record.trace)
            .collect();
        let belongs = |record: &&Record| match &record.trace {
            Some(trace) => stories.contains(trace),
            None => by_itself.contains(&record.seq),
        };
        let mut chosen: BTreeSet<u64> = records.iter().filter(belongs).map(|it| it.seq).collect();
        let says = |record: &&Record| erased(record).iter().any(|row| chosen.contains(&row.seq));
        let erasures: Vec<u64> = records.iter().filter(says).map(|it| it.seq).collect();
        chosen.extend(erasures);
        chosen
    }

    /// Whether a record is chosen for what it says itself.
    fn chooses(&self, record: &Record) -> bool {
        match self {
            Self::Payment(payment) => claimed(record).is_some_and(|it| it.id == *payment),
            Self::Period { from, until } => *from <= record.at && record.at < *until,
            Self::Party(party) => {
                let pays = claimed(record)
                    .is_some_and(|it| it.payer == *party || it.payee.as_str() == party);
                let touches = record.transfers.iter().any(|transfer| {
                    [&transfer.debit, &transfer.credit]
                        .iter()
                        .any(|account| account.holder.as_str() == party)
                });
                let holds = matches!(
                    &record.event,
                    Event::KeyAttached { holder, .. } if holder.as_str() == party
                );
                pays || touches || holds
            }
        }
    }
}

fn claimed(record: &Record) -> Option<&Payment> {
    if let Event::Claimed { payment, .. } = &record.event { Some(payment) } else { None }
}

/// What records say of each payment that is claimed among them, in the order of their claims; without
/// receipts.
fn stories(records: &[&Record]) -> Vec<PaymentEvidence> {
    let mut stories: Vec<PaymentEvidence> = Vec::new();
    let mut of_trace: BTreeMap<TraceId, usize> = BTreeMap::new();
    for record in records {
        let Some(trace) = record.trace else { continue };
        if let Some(payment) = claimed(record) {
            of_trace.insert(trace, stories.len());
            stories.push(PaymentEvidence {
                payment: payment.clone(),
                decisions: Vec::new(),
                settlement: None,
                outcome: None,
                receipt: None,
            });
        }
        let Some(story) = of_trace.get(&trace).and_then(|at| stories.get_mut(*at)) else {
            continue;
        };
        story.decisions.push(Decided { seq: record.seq, at: record.at, what: name(&record.event) });
        match &record.event {
            Event::Claimed { settlement: Some(settlement), .. }
            | Event::Posted { settlement, .. } => story.settlement = Some(settlement.clone()),
            Event::Delivered { outcome, .. } => story.outcome = Some(*outcome),
            Event::Claimed { settlement: None, .. }
            | Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Voided { .. }
            | Event::Failed { .. }
            | Event::Resumed { .. }
            | Event::Refunded { .. }
            | Event::RefundPosted { .. }
            | Event::RefundVoided { .. }
            | Event::Reconciled { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::PaidOut { .. }
            | Event::Channel { .. }
            | Event::Owner { .. }
            | Event::Subscription { .. }
            | Event::Erased { .. } => {}
        }
    }
    stories
}

/// An event's name, as the journal writes it.
fn name(event: &Event) -> String {
    let json = serde_json::to_value(event).unwrap_or_default();
    json["is"].as_str().unwrap_or_default().to_owned()
}

/// What the receipt of a payment says that was answered with success.
fn claims(realm: &str, evidence: &PaymentEvidence) -> Option<ReceiptClaims> {
    let outcome = evidence.outcome.filter(|it| (200..300).contains(&it.status));
    let settlement = outcome.and(evidence.settlement.as_ref())?;
    Some(ReceiptClaims::of(realm, &evidence.payment, settlement, None))
}

/// Why there is no pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The journal has nothing of it.
    #[error("the journal has no record of it")]
    Nothing,
    /// The journal is not sound.
    #[error("record {seq} is damaged; `farthing ledger verify` says more")]
    Damaged {
        /// Its place.
        seq: u64,
    },
    /// A checkpoint is not one that this seller signed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The journal does not continue a checkpoint.
    #[error(
        "the journal does not continue the checkpoint of {size} records: it is another book's, or \
         the journal was rewritten; `farthing ledger verify` says more"
    )]
    Published {
        /// How many records the checkpoint has.
        size: u64,
    },
}

// --- verifying --------------------------------------------------------------------------------------

/// What a pack proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackReport {
    /// The pack.
    pub pack: Pack,
    /// The journal that its records stand in.
    pub checkpoint: Checkpoint,
    /// The sizes of the published checkpoints that it continues.
    pub continues: Vec<u64>,
    /// The places of its records from which personal data was erased since they were sealed.
    pub erased: Vec<u64>,
}

/// Verifies a pack with nothing but the file and the seller's public keys.
///
/// # Errors
///
/// The first [`PackFault`]: no byte of the file can be altered without one.
pub fn verify(file: &[u8], keys: &TrustedKeys) -> Result<PackReport, PackFault> {
    let pack: Pack = serde_json::from_slice(file)
        .map_err(|error| PackFault::Unreadable { line: error.line(), column: error.column() })?;
    if ![VERSION, VERSION_ERASED].contains(&pack.farthing_evidence)
        || pack.farthing_evidence != version(&pack.records)
    {
        return Err(PackFault::Version(pack.farthing_evidence));
    }
    if pack.to_json().as_bytes() != file {
        return Err(PackFault::Spelling);
    }
    let checkpoint = Checkpoint::open(&pack.checkpoint, keys)?;
    if checkpoint.origin != origin(&pack.manifest.realm) {
        return Err(PackFault::Realm { origin: checkpoint.origin });
    }
    let records = check_records(&pack.records, &checkpoint)?;
    let continues = pack.published.iter().map(|it| check_earlier(it, &checkpoint, keys));
    let continues = continues.collect::<Result<_, _>>()?;
    let chosen = pack.selection.chosen(&records);
    if let Some(other) = records.iter().find(|it| !chosen.contains(&it.seq)) {
        return Err(PackFault::NotChosen { seq: other.seq });
    }
    check_payments(&pack, &records.iter().collect::<Vec<_>>(), keys)?;
    check_manifest(&pack, &records, keys)?;
    let erased = pack.records.iter().filter(|it| it.sealed.is_some()).map(|it| it.seq).collect();
    Ok(PackReport { pack, checkpoint, continues, erased })
}

/// Every line stands at its place in the journal that was signed.
fn check_records(proven: &[Proven], checkpoint: &Checkpoint) -> Result<Vec<Record>, PackFault> {
    let (size, root) = (checkpoint.size, &checkpoint.root);
    let mut records: Vec<Record> = Vec::with_capacity(proven.len());
    let mut leaves = Leaves::default();
    for Proven { seq, line, sealed, inclusion } in proven {
        // What the proof is of was sealed, if the proof holds.
        let sealed = sealed.unwrap_or_else(|| Hash::leaf(line.as_bytes()));
        let leaf = leaves.line(*seq, Some(sealed), line);
        let index = seq.checked_sub(1);
        let stands = index.is_some_and(|at| merkle::includes(root, size, at, &leaf, inclusion));
        let record = Record::from_json(line.as_bytes()).ok().filter(|it| it.seq == *seq);
        let after = records.last().is_none_or(|last| last.seq < *seq);
        match record {
            Some(record) if stands && after => {
                leaves.record(&record);
                records.push(record);
            }
            Some(_) | None => return Err(PackFault::Record { seq: *seq }),
        }
    }
    // Records of erasures name rows of others too, which are not here.
    let is_here = |seq: u64| proven.iter().any(|it| it.seq == seq);
    let unexplained = leaves.unexplained().into_iter().map(|it| match it {
        Unexplained::Edited { seq, .. } | Unexplained::NotErased { seq, .. } => seq,
    });
    match unexplained.into_iter().find(|seq| is_here(*seq)) {
        Some(seq) => Err(PackFault::Erased { seq }),
        None => Ok(records),
    }
}

/// The journal that was signed continues what was published before.
fn check_earlier(
    earlier: &Earlier,
    checkpoint: &Checkpoint,
    keys: &TrustedKeys,
) -> Result<u64, PackFault> {
    let before = Checkpoint::open(&earlier.checkpoint, keys)?;
    let (size, root) = (checkpoint.size, &checkpoint.root);
    let continues = before.origin == checkpoint.origin
        && merkle::continues(root, size, &before.root, before.size, &earlier.consistency);
    if continues { Ok(before.size) } else { Err(PackFault::Published { size: before.size }) }
}

/// What is said of payments is what the records say.
fn check_payments(pack: &Pack, records: &[&Record], keys: &TrustedKeys) -> Result<(), PackFault> {
    let recomputed = stories(records);
    if recomputed.len() != pack.payments.len() {
        return Err(PackFault::Payments { there: count(recomputed.len()) });
    }
    for (said, sound) in pack.payments.iter().zip(recomputed) {
        let payment = sound.payment.id;
        if (PaymentEvidence { receipt: None, ..said.clone() }) != sound {
            return Err(PackFault::Payment { payment });
        }
        let issued = said
            .receipt
            .as_deref()
            .map(|receipt| ReceiptClaims::verify(receipt, keys, Expected::default()));
        let issued = issued.transpose().map_err(|_| PackFault::Receipt { payment })?;
        if issued != claims(&pack.manifest.realm, &sound) {
            return Err(PackFault::Receipt { payment });
        }
    }
    Ok(())
}

/// The manifest is the file's, its sums are the records', and the seller has signed it.
fn check_manifest(pack: &Pack, records: &[Record], keys: &TrustedKeys) -> Result<(), PackFault> {
    let Manifest { records: counted, payments, totals, digests, .. } = &pack.manifest;
    let sound = sums(records);
    for (asset, sums) in &sound {
        if totals.get(asset) != Some(sums) {
            return Err(PackFault::Totals { asset: asset.clone() });
        }
        if !sums.agree() {
            return Err(PackFault::Unequal { asset: asset.clone() });
        }
    }
    if let Some(asset) = totals.keys().find(|asset| !sound.contains_key(asset)) {
        return Err(PackFault::Totals { asset: asset.clone() });
    }
    if (*counted, *payments) != (count(pack.records.len()), count(pack.payments.len())) {
        return Err(PackFault::Counts);
    }
    for (name, digest) in pack.digests() {
        if digests.get(&name) != Some(&digest) {
            return Err(PackFault::Digest { part: name });
        }
    }
    if digests.len() != pack.digests().len() {
        return Err(PackFault::Counts);
    }
    let manifest = compact(&pack.manifest);
    jws::check_detached(&pack.signature, &manifest, TYP, keys)?;
    Ok(())
}

/// What is wrong with a pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackFault {
    /// Not a pack.
    #[error("line {line}, column {column}: the file is not an evidence pack, or was altered there")]
    Unreadable {
        /// Where reading it ended.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// A version that is not known here.
    #[error(
        "the pack is of version {0}, or of another than its records are; this program reads versions 1 and 2"
    )]
    Version(u8),
    /// Spelled otherwise than packs are.
    #[error(
        "the file is not spelled as packs are: white space, the order of members or the spelling of a value was altered"
    )]
    Spelling,
    /// A checkpoint is not believed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is another seller's.
    #[error("the checkpoint is that of {origin}, and the manifest names another realm")]
    Realm {
        /// Whose it is.
        origin: String,
    },
    /// A record is not in the journal.
    #[error(
        "record {seq} does not stand at its place in the journal that was signed: the line, its place or its proof was altered"
    )]
    Record {
        /// Its place.
        seq: u64,
    },
    /// A record is not as an erasure has left it.
    #[error(
        "record {seq} is not the line that was sealed, and the pack has no record of an erasure that left it so"
    )]
    Erased {
        /// Its place.
        seq: u64,
    },
    /// The journal does not continue what was published.
    #[error(
        "the journal does not continue the published checkpoint of {size} records: the journal or the proof was altered"
    )]
    Published {
        /// How many records were published.
        size: u64,
    },
    /// A record does not belong to the selection.
    #[error("record {seq} does not belong to what the pack is about: the selection was altered")]
    NotChosen {
        /// Its place.
        seq: u64,
    },
    /// Payments are missing or too many.
    #[error("the records claim {there} payments, and the pack describes another number")]
    Payments {
        /// How many there are.
        there: u64,
    },
    /// A payment is not what its records say.
    #[error("what the pack says of {payment} is not what its records say")]
    Payment {
        /// The payment.
        payment: PaymentId,
    },
    /// A receipt is not what the records say.
    #[error("the receipt of {payment} is missing, is not believed, or is not what its records say")]
    Receipt {
        /// The payment.
        payment: PaymentId,
    },
    /// A total is not what the records add up to.
    #[error("the totals of {asset} are not what the records add up to")]
    Totals {
        /// The asset.
        asset: AssetId,
    },
    /// Receipts, ledger and settlements differ.
    #[error("the receipts, the ledger and the settlements of {asset} do not add up to the same")]
    Unequal {
        /// The asset.
        asset: AssetId,
    },
    /// The manifest counts something else.
    #[error("the manifest does not count what the pack contains")]
    Counts,
    /// A part of the file is not what the manifest says.
    #[error("the part `{part}` is not the one that the manifest names")]
    Digest {
        /// The part.
        part: String,
    },
    /// The seller has not signed the manifest.
    #[error("the manifest is not believed: {0}")]
    Signature(#[from] JwsError),
}
