//! Agents' tokens: what an owner hands to an agent instead of a key.
//!
//! ```text
//! block 0: agent, limits ──HMAC(root)──► tag 0 ──┐
//! block 1: limits ───────────────────HMAC(tag 0)──► tag 1 ──┐
//! block 2: limits ──────────────────────────────HMAC(tag 1)──► tag 2     the token: every block, the last tag
//! ```
//!
//! Whoever holds a token can add a block and compute the next tag, and nobody can take one away: the tag
//! before it is gone. So an agent narrows its token for a sub-agent without asking, offline, and the budgets
//! of every block are counted in the wallet all the same. Only the wallet reads tokens, so that its root
//! secret verifies them; a block says nothing but [`Limits`], which the policy evaluates as it does its own.
//!
//! **Architecture invariant:** a block can only narrow what the blocks before it allow.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use farthing_money::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::limits::Limits;

#[cfg(test)]
mod tests;

/// What every token begins with.
const PREFIX: &str = "fta1_";

/// The longest token, in bytes.
const BYTES_MAX: usize = 16_384;

/// The most blocks, the first included.
const BLOCKS_MAX: usize = 16;

/// An agent's token. Whoever has it may ask as the agent, within its limits.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    blocks: Vec<String>,
    tag: Zeroizing<[u8; 32]>,
}

/// The secret of a wallet that its tokens are made with.
pub struct TokenRoot(Zeroizing<[u8; 32]>);

/// What a token grants, block by block, once its tag was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The agent it was made for.
    pub agent: String,
    /// The task it is for, if a block says one.
    pub task: Option<String>,
    /// The names of those it was handed on to, in order.
    pub handed_to: Vec<String>,
    /// When it was made.
    pub issued_at: Timestamp,
    /// The limits of each block, by the block's name. Whoever revokes a name revokes all that was made of
    /// it.
    pub blocks: Vec<(String, Limits)>,
}

/// What one block says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    /// The agent; in the first block, and only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    /// When it was made; in the first block, and only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_at: Option<Timestamp>,
    /// What makes the token different from another with the same limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    /// Who it is handed on to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handed_to: Option<String>,
    /// The task it is for from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    #[serde(default)]
    limits: Limits,
}

impl TokenRoot {
    /// The root of these bytes, which are secret and were drawn at random.
    #[must_use]
    pub const fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// Makes a token for an agent. `nonce` is new each time.
    ///
    /// # Errors
    ///
    /// [`TokenError::Endless`] where the limits do not say when it expires.
    pub fn issue(
        &self,
        agent: &str,
        task: Option<&str>,
        limits: Limits,
        now: Timestamp,
        nonce: [u8; 16],
    ) -> Result<Token, TokenError> {
        if limits.expires.is_none() {
            return Err(TokenError::Endless);
        }
        let block = Block {
            agent: Some(agent.to_owned()),
            issued_at: Some(now),
            nonce: Some(URL_SAFE_NO_PAD.encode(nonce)),
            handed_to: None,
            task: task.map(str::to_owned),
            limits,
        };
        let block = written(&block);
        let tag = tag(&self.0, &block);
        Token { blocks: vec![block], tag }.checked()
    }

    /// Checks a token's tag, and says what it grants. Whether a block is revoked, and whether the time of
    /// its limits has come, is for others to say.
    ///
    /// # Errors
    ///
    /// [`TokenError::Forged`] for a token that this root has not made, or from which something was taken;
    /// [`TokenError::Malformed`] for one whose blocks say what none may.
    pub fn verify(&self, token: &Token) -> Result<Grant, TokenError> {
        let mut tags = Vec::with_capacity(token.blocks.len());
        let mut last = Zeroizing::new(*self.0);
        for block in &token.blocks {
            last = tag(&last, block);
            tags.push(name(&last));
        }
        if !bool::from(last.ct_eq(&*token.tag)) {
            return Err(TokenError::Forged);
        }
        let mut grant: Option<Grant> = None;
        for (text, name) in token.blocks.iter().zip(tags) {
            let block = read(text)?;
            match &mut grant {
                None => grant = Some(first(block, name)?),
                Some(grant) => narrow(grant, block, name)?,
            }
        }
        grant.ok_or(TokenError::Malformed)
    }
}

fn first(block: Block, name: String) -> Result<Grant, TokenError> {
    let Block {
        agent: Some(agent), issued_at: Some(issued_at), handed_to: None, task, limits, ..
    } = block
    else {
        return Err(TokenError::Malformed);
    };
    if limits.expires.is_none() {
        return Err(TokenError::Endless);
    }
    Ok(Grant { agent, task, handed_to: Vec::new(), issued_at, blocks: vec![(name, limits)] })
}

fn narrow(grant: &mut Grant, block: Block, name: String) -> Result<(), TokenError> {
    let Block { agent: None, issued_at: None, nonce: _, handed_to, task, limits } = block else {
        return Err(TokenError::Malformed);
    };
    match (&grant.task, task) {
        // A task that was set stays: another has limits of its own, which may be wider.
        (Some(set), Some(task)) if *set != task => return Err(TokenError::Malformed),
        (None, Some(task)) => grant.task = Some(task),
        (Some(_) | None, _) => {}
    }
    grant.handed_to.extend(handed_to);
    grant.blocks.push((name, limits));
    Ok(())
}

impl Token {
    /// The same token with more limits, for whoever it is handed on to. Needs no secret and no wallet.
    ///
    /// # Errors
    ///
    /// [`TokenError::Malformed`] where the token would grow too long.
    pub fn narrowed(
        &self,
        handed_to: Option<&str>,
        task: Option<&str>,
        limits: Limits,
    ) -> Result<Self, TokenError> {
        let block = Block {
            handed_to: handed_to.map(str::to_owned),
            task: task.map(str::to_owned),
            limits,
            ..Block::default()
        };
        let block = written(&block);
        let tag = tag(&self.tag, &block);
        let blocks = self.blocks.iter().cloned().chain([block]).collect();
        Self { blocks, tag }.checked()
    }

    /// Reads a token.
    ///
    /// # Errors
    ///
    /// [`TokenError::Malformed`] for a text that is none.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let rest = text.strip_prefix(PREFIX).ok_or(TokenError::Malformed)?;
        let mut blocks: Vec<String> = rest.split('.').map(str::to_owned).collect();
        let tag = blocks.pop().ok_or(TokenError::Malformed)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(tag).map_err(|_| TokenError::Malformed)?);
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| TokenError::Malformed)?;
        Self { blocks, tag: Zeroizing::new(bytes) }.checked()
    }

    /// The token's text, which is a secret.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let tag = Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.tag));
        Zeroizing::new(format!("{PREFIX}{}.{}", self.blocks.join("."), *tag))
    }

    /// The name of its last block: who revokes it revokes this token and all that was made of it.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.tag)
    }

    fn checked(self) -> Result<Self, TokenError> {
        let length = self
            .blocks
            .iter()
            .fold(64, |sum: usize, it| sum.saturating_add(it.len()).saturating_add(1));
        let fits = (1..=BLOCKS_MAX).contains(&self.blocks.len()) && length <= BYTES_MAX;
        if fits { Ok(self) } else { Err(TokenError::Malformed) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.name())
    }
}

fn written(block: &Block) -> String {
    // In-memory data with string keys always serialises.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(block).unwrap_or_default())
}

fn read(text: &str) -> Result<Block, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

/// The tag of a block, under the tag before it.
fn tag(key: &[u8; 32], block: &str) -> Zeroizing<[u8; 32]> {
    // HMAC takes a key of any length: `new_from_slice` has no error to give for it.
    #[expect(clippy::unwrap_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(b"farthing agent token 1\0");
    mac.update(block.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// What a tag is called in public. It does not tell the tag.
fn name(tag: &[u8; 32]) -> String {
    let digest =
        Sha256::new().chain_update(b"farthing agent token's name\0").chain_update(tag).finalize();
    digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not spelled like one, too long, or says what none may.
    #[error("this is no agent's token")]
    Malformed,
    /// This wallet has not made it, or something was taken from it.
    #[error("the token was not made by this wallet, or was altered")]
    Forged,
    /// It does not say when it expires.
    #[error("a token has to expire")]
    Endless,
}
