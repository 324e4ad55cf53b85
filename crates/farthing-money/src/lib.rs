//! Exact amounts, assets and instants: the values everything else speaks in.
//!
//! An [`Amount`] is a whole number of *atoms* of one asset. An *atom* is the asset's smallest unit:
//! a cent, a satoshi, a millionth of a USDC. An [`Asset`] knows how many decimals people write it
//! with, and is the only thing that turns `"0.25"` into atoms and back. A [`Timestamp`] is an
//! instant in microseconds.
//!
//! **Architecture invariant:** no floating point, no `Ord` across assets, no arithmetic that wraps,
//! no clock. Every operation that could lose an atom returns a `Result`.

mod amount;
mod asset;
mod period;
mod timestamp;

pub use amount::{Amount, AmountError, ParseAtomsError, parse_atoms};
pub use asset::{Asset, AssetError, AssetId, Assets, ParseAmountError, ReadAmountError};
pub use period::{ParsePeriodError, Period, PeriodUnit};
pub use timestamp::{ParseTimestampError, Timestamp};
