//! Erasing: rows that are written anew, and a file in which nothing of the old ones is left.

use farthing_store_writer::{Erasing, bucket};
use rusqlite::{Connection, params};

use crate::file::keep_snapshot;

/// Writes what an erasure leaves, within the transaction that is open and has its records already.
pub(crate) fn write(connection: &Connection, erasing: &Erasing) -> rusqlite::Result<()> {
    let mut announce = connection.prepare_cached("INSERT INTO erasing (seq) VALUES (?)")?;
    let mut rewrite = connection.prepare_cached("UPDATE journal SET body = ? WHERE seq = ?")?;
    let mut drop_proof =
        connection.prepare_cached("DELETE FROM proof WHERE bucket = ? AND key = ?")?;
    let mut put_proof = connection.prepare_cached(
        "INSERT INTO proof (bucket, key, until, payment, trace) VALUES (?, ?, ?, ?, NULL)",
    )?;
    for row in &erasing.rows {
        let seq = row.row.seq.cast_signed();
        announce.execute([seq])?;
        rewrite.execute(params![row.line, seq])?;
        for (before, after) in &row.proofs {
            drop_proof
                .execute(params![bucket(before.keep_until), before.fingerprint.as_bytes()])?;
            put_proof.execute(params![
                bucket(after.keep_until),
                after.fingerprint.as_bytes(),
                after.keep_until.map(|until| until.as_micros().cast_signed()),
                farthing_ledger::PaymentId::of(&after.fingerprint).to_bytes(),
            ])?;
        }
    }
    connection.execute("DELETE FROM erasing", ())?;
    let mut drop_answer = connection.prepare_cached("DELETE FROM answer WHERE payment = ?")?;
    for payment in &erasing.payments {
        drop_answer.execute([payment.to_bytes()])?;
    }
    keep_snapshot(connection, &erasing.snapshot, &erasing.tree)
}

/// Writes the whole file anew and empties the log, so that no page of either has anything that no row
/// has. `false` where somebody is reading what stood there before, or there is no room.
pub(crate) fn wipe(connection: &Connection) -> bool {
    connection.execute_batch("VACUUM").is_ok() && empty_log(connection)
}

fn empty_log(connection: &Connection) -> bool {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    busy == Ok(0_i64)
}
