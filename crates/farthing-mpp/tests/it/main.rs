//! Public test vectors of others, read from beside the project where they are.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod vectors;
