//! Trying calls one after the other without sending anything: what each would do and burn.

use alloy_primitives::{Bytes, TxKind, U64};
use serde::Deserialize;
use serde_json::{Value, json};
use tempo_primitives::TempoTransaction;
use tempo_primitives::transaction::Call;

use crate::rpc::{CallError, GAS_PERCENT, Nodes};
use crate::wire::Address;

/// What a call would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) succeeds: bool,
    pub(crate) gas: u64,
    /// What it would answer; a failure's name, where it has one.
    pub(crate) answer: Bytes,
}

#[derive(Deserialize)]
struct Block {
    calls: Vec<Outcome>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    status: U64,
    gas_used: U64,
    #[serde(default)]
    return_data: Bytes,
}

impl Nodes {
    /// Tries `calls` of `from` in order, each on what the ones before it have left.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] where nodes do not simulate.
    pub(crate) async fn try_all(
        &self,
        from: Address,
        calls: &[Call],
    ) -> Result<Vec<Tried>, CallError> {
        let call = |call: &Call| {
            let to = match call.to {
                TxKind::Call(to) => Value::from(to.to_string()),
                TxKind::Create => Value::Null,
            };
            json!({ "from": from.to_string(), "to": to, "input": call.input })
        };
        let block = json!({ "calls": calls.iter().map(call).collect::<Vec<_>>() });
        let asked = json!([{ "blockStateCalls": [block], "validation": false }, "latest"]);
        let blocks: Vec<Block> = self.call("eth_simulateV1", asked).await?;
        let [block] = blocks.as_slice() else { return Err(CallError::Lost) };
        if block.calls.len() != calls.len() {
            return Err(CallError::Lost);
        }
        let tried = |it: &Outcome| Tried {
            succeeds: it.status.to::<u64>() == 1,
            gas: it.gas_used.to(),
            answer: it.return_data.clone(),
        };
        Ok(block.calls.iter().map(tried).collect())
    }

    /// What a transaction of several calls would burn altogether, at most; refused where a call would
    /// fail. Nodes that do not simulate are asked for the whole transaction.
    pub(crate) async fn try_batch(
        &self,
        from: Address,
        tx: &TempoTransaction,
    ) -> Result<u64, CallError> {
        let estimated = self.estimate_gas(from, tx).await?;
        match self.try_all(from, &tx.calls).await {
            Ok(tried) if tried.iter().all(|it| it.succeeds) => {
                let used = tried.iter().fold(0_u64, |sum, it| sum.saturating_add(it.gas));
                Ok(used.max(estimated))
            }
            Ok(tried) => {
                let failed = tried.iter().find(|it| !it.succeeds);
                let answer = failed.map(|it| it.answer.clone()).unwrap_or_default();
                Err(CallError::Refused(format!("a call would fail: {answer}")))
            }
            Err(CallError::Refused(_)) => Ok(estimated),
            Err(error) => Err(error),
        }
    }

    /// Gives a transaction the limits it needs. One that would not succeed is refused.
    pub(crate) async fn limit_batch(
        &self,
        from: Address,
        tx: &mut TempoTransaction,
        price_factor: u128,
    ) -> Result<(), CallError> {
        let gas = self.try_batch(from, tx).await?;
        self.price(gas, tx, price_factor).await
    }

    /// The same for what nodes cannot try call by call.
    pub(crate) async fn limit_whole(
        &self,
        from: Address,
        tx: &mut TempoTransaction,
        price_factor: u128,
    ) -> Result<(), CallError> {
        let gas = self.estimate_gas(from, tx).await?;
        self.price(gas, tx, price_factor).await
    }

    async fn price(
        &self,
        gas: u64,
        tx: &mut TempoTransaction,
        price_factor: u128,
    ) -> Result<(), CallError> {
        tx.gas_limit = gas.saturating_mul(GAS_PERCENT).saturating_div(100);
        tx.max_fee_per_gas = self.gas_price().await?.saturating_mul(price_factor);
        Ok(())
    }
}
