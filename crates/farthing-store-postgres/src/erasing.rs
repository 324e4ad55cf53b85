//! Erasing: rows that are written anew, and old versions of them that are cleared away.

use std::sync::Arc;

use farthing_ledger::merkle::{Hash, Tree};
use farthing_ledger::{PaymentId, Snapshot};
use farthing_store_writer::{Erasing, bucket};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::address::Address;
use crate::connection::connect_to_write;
use crate::journal::WriteError;
use crate::wait::Waiter;

const ANNOUNCE: &str = "
INSERT INTO farthing.erasing (book, seq) SELECT $1::text, seq FROM unnest($2::bigint[]) AS seq";

const REWRITE: &str = "
UPDATE farthing.journal AS line SET body = anew.body
FROM unnest($2::bigint[], $3::text[]) AS anew(seq, body)
WHERE line.book = $1 AND line.seq = anew.seq";

const DONE: &str = "DELETE FROM farthing.erasing WHERE book = $1";

const DROP_PROOF: &str = "
DELETE FROM farthing.proof WHERE book = $1 AND bucket = $2 AND key = $3";

const PUT_PROOF: &str = "
INSERT INTO farthing.proof (book, bucket, key, until, payment) VALUES ($1, $2, $3, $4, $5)";

const DROP_ANSWERS: &str = "
DELETE FROM farthing.answer WHERE book = $1 AND payment = ANY($2::bytea[])";

const SNAPSHOT: &str = "
INSERT INTO farthing.snapshot (book, seq, body, edge) VALUES ($1, $2, $3, $4)
ON CONFLICT (book, seq) DO UPDATE SET body = excluded.body, edge = excluded.edge";

const OLDER: &str = "DELETE FROM farthing.snapshot WHERE book = $1 AND seq < $2";

const VACUUM: &str = "
VACUUM farthing.journal, farthing.proof, farthing.answer, farthing.snapshot, farthing.erasing";

/// How many rows one statement writes anew.
const ROWS: usize = 5_000;

/// How long the vacuum may be idle on its connection.
const SILENCE: std::time::Duration = std::time::Duration::from_mins(10);

/// Writes what an erasure leaves, within the transaction that is open and has its records already.
pub(crate) async fn write(
    client: &Client,
    book: &str,
    erasing: &Erasing,
) -> Result<(), WriteError> {
    for rows in erasing.rows.chunks(ROWS) {
        let seqs: Vec<i64> = rows.iter().map(|row| row.row.seq.cast_signed()).collect();
        let bodies: Vec<&str> = rows.iter().map(|row| &*row.line).collect();
        client.execute(ANNOUNCE, &[&book, &seqs]).await?;
        client.execute(REWRITE, &[&book, &seqs, &bodies]).await?;
    }
    client.execute(DONE, &[&book]).await?;
    for (before, after) in erasing.rows.iter().flat_map(|row| &row.proofs) {
        let key = before.fingerprint.as_bytes().as_slice();
        client.execute(DROP_PROOF, &[&book, &bucket(before.keep_until), &key]).await?;
        let payment = PaymentId::of(&after.fingerprint).to_bytes();
        let row: &[&(dyn ToSql + Sync)] = &[
            &book,
            &bucket(after.keep_until),
            &after.fingerprint.as_bytes().as_slice(),
            &after.keep_until.map(|until| until.as_micros().cast_signed()),
            &payment.as_slice(),
        ];
        client.execute(PUT_PROOF, row).await?;
    }
    let payments: Vec<[u8; 16]> = erasing.payments.iter().map(|it| it.to_bytes()).collect();
    let payments: Vec<&[u8]> = payments.iter().map(<[u8; 16]>::as_slice).collect();
    client.execute(DROP_ANSWERS, &[&book, &payments]).await?;
    keep_snapshot(client, book, &erasing.snapshot, &erasing.tree).await
}

/// Keeps a snapshot and no older one, within the transaction that is open.
pub(crate) async fn keep_snapshot(
    client: &Client,
    book: &str,
    snapshot: &Snapshot,
    tree: &Tree,
) -> Result<(), WriteError> {
    // In-memory data with string keys always serialises.
    let body = serde_json::to_string(snapshot).unwrap_or_default();
    let (seq, edge) = (snapshot.seq.cast_signed(), Hash::write_all(tree.edge()));
    client.execute(SNAPSHOT, &[&book, &seq, &body, &edge]).await?;
    client.execute(OLDER, &[&book, &seq]).await?;
    Ok(())
}

/// Has the database clear old versions of rows away, on a connection of its own.
pub(crate) fn wipe(address: Arc<Address>) -> bool {
    let vacuum = move || {
        let done = Waiter::new().map_err(WriteError::from).and_then(|waiter| {
            waiter.wait(async {
                let client = connect_to_write(&address, SILENCE).await?;
                Ok::<_, WriteError>(client.batch_execute(VACUUM).await?)
            })
        });
        if let Err(error) = done {
            tracing::warn!(%error, "what was erased was not vacuumed away; VACUUM the schema farthing");
        }
    };
    std::thread::Builder::new().name("vacuum".to_owned()).spawn(vacuum).is_ok()
}
