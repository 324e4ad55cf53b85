//! Development tasks: `cargo xtask TASK`, or `./x TASK` from outside.

fn main() {}
