//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Machine payments: sell an API by the call, and pay for one.
#[derive(Parser)]
#[command(name = "farthing", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Sell: run the gateway in front of an API
    Serve(Serve),
    /// Pay: fetch a URL, and pay for it if it costs something
    Pay(Box<Pay>),
    /// Keys, receipts and what is outstanding
    #[command(subcommand)]
    Wallet(Wallet),
    /// What the wallet's owner allows: read it, try it, accept it
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Payments that wait for an approver
    #[command(subcommand)]
    Approvals(Approvals),
    /// Agents' tokens: make, narrow and revoke them
    #[command(subcommand)]
    Agents(Agents),
    /// Sessions with sellers: many payments on one deposit
    #[command(subcommand)]
    Sessions(Sessions),
    /// Subscriptions: one authorisation, and a charge for each period
    #[command(subcommand)]
    Subscriptions(Subscriptions),
    /// Prepaid accounts at a gateway: fund them, and let keys spend them
    #[command(subcommand)]
    Prepaid(Prepaid),
    /// The books: balances, the journal, and whether they are sound
    #[command(subcommand)]
    Ledger(Ledger),
    /// Evidence packs: parts of the book that anybody can check without it
    #[command(subcommand)]
    Evidence(Evidence),
    /// Signed receipts, and the keys that sign them
    #[command(subcommand)]
    Receipt(Receipt),
    /// One payment's story, from the challenge to the answer
    Trace(Trace),
    /// Payments that are not finished
    #[command(subcommand)]
    Payments(Payments),
    /// Give money of a payment back
    Refund(Refund),
    /// What was earned, and whether it may be paid out
    #[command(subcommand)]
    Payouts(Payouts),
    /// Where the book is kept: look it over, back it up, move it
    #[command(subcommand)]
    Store(Store),
    /// Who is told what happened to payments, and what they have not taken
    #[command(subcommand)]
    Webhooks(Webhooks),
    /// The rails of a gateway, and how they are
    #[command(subcommand)]
    Rail(RailCommand),
    /// Look a deployment over: clock, secrets, store, rails, TLS, permissions; say what to mend
    Doctor(Doctor),
    /// See it all work: an API, a gateway, a wallet and their books, in a folder that is thrown away
    Demo,
    /// Answer one request of the MPP SDKs' common conformance suite on standard input
    Conformance,
}

#[derive(Subcommand)]
pub(crate) enum Store {
    /// Look over where the book is kept, and recompute it
    Check {
        #[command(flatten)]
        at: Gateway,
    },
    /// Bring a database's schema to a version; a file brings itself up to date when it is opened
    Migrate {
        #[command(flatten)]
        at: Gateway,
        /// The version; this program's own, if it is not said. 0 removes everything, books included
        #[arg(long)]
        to: Option<u32>,
        /// For engines without triggers: the right to change the journal is taken from the role instead
        #[arg(long)]
        without_triggers: bool,
    },
    /// Copy the book of this configuration to the one of another, which must be new; then compare
    Copy {
        #[command(flatten)]
        at: Gateway,
        /// The configuration whose `[store]` is a database
        #[arg(long)]
        to: PathBuf,
    },
    /// Copy a book's file as it stands at this moment, beside a running gateway, and verify the copy
    Backup {
        /// The file to make
        file: PathBuf,
        #[command(flatten)]
        at: Gateway,
    },
    /// Erase personal data from the book, and keep a record of it; the books stay sound
    Erase(Erase),
    /// Verify a backup and put it in the place of the book; what is there is moved aside
    Restore {
        /// The backup
        file: PathBuf,
        #[command(flatten)]
        at: Gateway,
    },
}

/// `farthing store erase`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("whose").required(true).args(["payer", "before", "outdated"]))]
pub(crate) struct Erase {
    /// A payer (`did:…`), or the holder of a prepaid account and everybody who has spent it
    #[arg(long, value_name = "NAME")]
    pub(crate) payer: Option<String>,
    /// Whoever has paid, in payments and accounts to which nothing has happened since this moment, such
    /// as 2019-01-01T00:00:00Z; what is open is passed over
    #[arg(long, value_name = "TIME")]
    pub(crate) before: Option<String>,
    /// The same, for what is older than the `days` of `[retention]`
    #[arg(long)]
    pub(crate) outdated: bool,
    /// Why, in words that name nobody: it stays in the book
    #[arg(long, required_unless_present = "dry_run")]
    pub(crate) reason: Option<String>,
    /// Say what would be erased, and erase nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) at: Gateway,
}

/// `farthing doctor`.
#[derive(Args)]
pub(crate) struct Doctor {
    /// The gateway's configuration
    #[arg(short, long, default_value = "farthing.toml")]
    pub(crate) config: PathBuf,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Serve {
    /// The configuration
    #[arg(short, long, default_value = "farthing.toml")]
    pub(crate) config: PathBuf,
    /// Read the configuration, say whether it can be started, and stop
    #[arg(long)]
    pub(crate) check: bool,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or levels by module such as `info,farthing_gateway=debug`
    #[arg(long, env = "FARTHING_LOG", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line
    Json,
    /// For people
    Text,
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "curl's flags are what they are")]
pub(crate) struct Pay {
    /// The task it is paid for
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<String>,
    /// The tool it is paid for
    #[arg(long, value_name = "NAME")]
    pub(crate) tool: Option<String>,
    /// What to fetch
    pub(crate) url: String,
    /// The method; GET, or POST where there is data
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// A header field, `Name: value`
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub(crate) fields: Vec<String>,
    /// A body; `@FILE` reads a file, `@-` standard input; several are joined with `&`
    #[arg(short = 'd', long = "data", value_name = "DATA", conflicts_with = "json")]
    pub(crate) data: Vec<String>,
    /// A JSON body, with the header fields that belong to it
    #[arg(long, value_name = "DATA")]
    pub(crate) json: Option<String>,
    /// Print the head of the answer too
    #[arg(short = 'i', long = "include")]
    pub(crate) include: bool,
    /// Write the answer's body to a file
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Say what happens
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Say nothing but the answer and errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) silent: bool,
    /// The most this may cost, such as "0.25 usd"; the wallet's own caps hold besides
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) max_amount: Option<String>,
    /// Show the offers and what would be paid, and pay nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Pay again although an earlier payment for the same request was never resolved
    #[arg(long = "pay-again")]
    pub(crate) again: bool,
    /// A name of your own for the purchase: once it was answered, the same command gives the same answer for a
    /// day and pays nothing; under another name it is another purchase
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The key to pay with, instead of the one in the wallet's configuration
    #[arg(long, value_name = "NAME")]
    pub(crate) key: Option<String>,
    /// Pay by a wallet that serves, such as `unix:/run/wallet.sock`; no key and no passphrase is needed then
    #[arg(long, env = "FARTHING_WALLET", value_name = "WHERE", conflicts_with = "key")]
    pub(crate) wallet: Option<String>,
    /// Write what was paid, or the offers of a dry run, as one line of JSON to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Wallet {
    /// Make a key
    New {
        /// Its name
        #[arg(default_value = "main")]
        name: String,
        /// What it signs with
        #[arg(long, value_enum, default_value_t = Kind::Ed25519)]
        kind: Kind,
    },
    /// Take over a key that was made elsewhere: 32 bytes in hexadecimal on standard input
    Import {
        /// Its name
        name: String,
        /// What it signs with
        #[arg(long, value_enum, default_value_t = Kind::Ed25519)]
        kind: Kind,
    },
    /// What a key's account holds on its chain
    Balance {
        /// The key, instead of the one in the wallet's configuration
        #[arg(long, value_name = "NAME")]
        key: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List the keys
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List the receipts, the latest first
    Receipts {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List the payments whose end is not known
    Outstanding {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// How the wallet stands: what is used of its budgets and caps, and what waits
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Keep showing it, full screen; the same as `dashboard`
        #[arg(long, conflicts_with = "json")]
        watch: bool,
    },
    /// The same, full screen and kept up to date; `q` ends it
    Dashboard,
    /// Let programs of this machine pay: an API, and a proxy, for those who have a token
    Serve(Box<ServeWallet>),
    /// Print the owner's token for the API; needs the wallet's passphrase
    Token {
        /// Make another, which the daemon takes from its next start on
        #[arg(long)]
        renew: bool,
    },
    /// The authority whose certificates let the proxy read what is said to named hosts
    #[command(subcommand)]
    Ca(CaCommand),
    /// Sign nothing more, for an agent or for anybody, from now on; and list what is outstanding
    Freeze {
        /// The agent; everybody, if it is not said
        #[arg(long, value_name = "NAME")]
        agent: Option<String>,
        /// Why
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
    /// Sign again; needs the wallet's passphrase
    Unfreeze {
        /// The agent; everybody, if it is not said
        #[arg(long, value_name = "NAME")]
        agent: Option<String>,
        /// Why
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
}

/// `farthing wallet serve`.
#[derive(Args)]
pub(crate) struct ServeWallet {
    /// The Unix socket of the API; `wallet.sock` in the wallet's folder, if nothing is said
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    pub(crate) socket: Option<PathBuf>,
    /// An address of this machine for the API instead, such as 127.0.0.1:4040
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// An address of this machine for a proxy that pays, such as 127.0.0.1:4041
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) proxy: Option<SocketAddr>,
    /// An address of this machine for the owner's page, such as 127.0.0.1:4042, instead of that in wallet.toml
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) page: Option<SocketAddr>,
    /// Hosts whose TLS the proxy reads, with certificates of `farthing wallet ca`
    #[arg(long, value_name = "HOST", value_delimiter = ',', requires = "proxy")]
    pub(crate) intercept: Vec<String>,
    /// Sign for programs that make their requests themselves, too; the wallet then has only their word for
    /// whom an offer came from
    #[arg(long)]
    pub(crate) sign_for_others: bool,
    /// The key to pay with, instead of the one in the wallet's configuration
    #[arg(long, value_name = "NAME")]
    pub(crate) key: Option<String>,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or levels by module
    #[arg(long, env = "FARTHING_LOG", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Subcommand)]
pub(crate) enum CaCommand {
    /// Make an authority for these hosts and no others, instead of the one before
    Create {
        /// A host, whose subdomains are among them, or an address; several are said several times
        #[arg(long = "host", value_name = "HOST", required = true, value_delimiter = ',')]
        hosts: Vec<String>,
        /// For how many days it is good
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=397))]
        days: u16,
    },
    /// Print its certificate
    Show,
    /// End it; programs that trust it have to be told themselves
    Remove,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ReadyPolicy {
    /// One agent that buys small things by itself, and asks before it buys anything else
    OneAgent,
    /// Several agents on one purse, with two people to approve what is dear
    Team,
    /// A crawler that pays many sellers a little, fast, and nobody much
    Crawler,
}

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Begin policy.toml with a ready one; what is there already is not touched
    New {
        /// Which one
        #[arg(value_enum)]
        which: ReadyPolicy,
    },
    /// Print the Cedar that policy.toml compiles to
    Show,
    /// Check a policy, and print its version and digest
    Check {
        /// The file, instead of the wallet's policy.toml
        file: Option<PathBuf>,
    },
    /// Accept policy.toml as it stands, raised limits and all; needs the wallet's passphrase
    Accept,
    /// Try a policy out beside the one that holds, on every payment, without changing any decision
    #[command(subcommand)]
    Rollout(Rollout),
    /// Say what policy.toml would say to a payment; nothing is paid, held or written down
    Decide(Box<DecideOn>),
    /// Decide again upon what was decided, under policy.toml or another, and say what comes out otherwise
    Replay {
        /// From this moment on, such as 2026-11-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        since: String,
        /// The policy to try, instead of the wallet's policy.toml
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// `farthing policy decide`.
#[derive(Args)]
pub(crate) struct DecideOn {
    /// The seller: scheme, host and port
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) seller: String,
    /// How much, such as "0.10 usd"
    #[arg(long)]
    pub(crate) amount: String,
    /// Who would be paid
    #[arg(long)]
    pub(crate) recipient: String,
    /// Who asks
    #[arg(long, default_value = "owner")]
    pub(crate) agent: String,
    /// For which task
    #[arg(long)]
    pub(crate) task: Option<String>,
    /// With which tool
    #[arg(long)]
    pub(crate) tool: Option<String>,
    /// What is asked: pay, deposit or prove
    #[arg(long, default_value = "pay")]
    pub(crate) operation: String,
    /// The method of the request
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    /// Its path
    #[arg(long, default_value = "/")]
    pub(crate) path: String,
    /// The payment method
    #[arg(long, default_value = "prepaid")]
    pub(crate) rail: String,
    /// The network
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// The key that the seller proves to have
    #[arg(long, value_name = "KEY")]
    pub(crate) identity: Option<String>,
    /// As if the seller was never paid before
    #[arg(long)]
    pub(crate) first_payment: bool,
}

#[derive(Subcommand)]
pub(crate) enum Rollout {
    /// Begin to try a policy out, instead of one that is; needs the wallet's passphrase
    Start {
        /// The policy
        file: PathBuf,
    },
    /// Say what it would have decided otherwise since then
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make it hold: it becomes policy.toml, and is accepted; needs the wallet's passphrase
    Accept,
    /// Try it out no longer; needs the wallet's passphrase
    Stop,
}

#[derive(Subcommand)]
pub(crate) enum Approvals {
    /// List what waits, the latest first
    List {
        /// What was answered, used or has expired as well
        #[arg(long)]
        all: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One request, as JSON; the exit code says how it stands
    Show {
        /// The request, `apr_…`
        id: String,
        /// Wait until it was answered, or its time is over
        #[arg(long)]
        wait: bool,
    },
    /// Print a link that opens the owner's page of a wallet that serves, once; needs the approver's passphrase
    Link {
        /// The approver's key, instead of the wallet's
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Let it pass, once, on exactly these terms; needs the approver's passphrase
    Approve {
        /// The request, `apr_…`
        id: String,
        /// The approver's key, instead of the wallet's
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Deny it; the same terms stay denied for a day
    Deny {
        /// The request, `apr_…`
        id: String,
        /// The approver's key, instead of the wallet's
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Agents {
    /// Make a token for an agent that the policy names
    Issue {
        /// The agent
        agent: String,
        /// The task it is for
        #[arg(long)]
        task: Option<String>,
        /// Until when, such as 2026-12-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        expires: String,
        /// More limits, in a TOML file, as a level of the policy has them
        #[arg(long, value_name = "FILE")]
        limits: Option<PathBuf>,
    },
    /// Narrow the token of `FARTHING_AGENT_TOKEN` for somebody else; no wallet is needed
    Narrow {
        /// Who it is handed on to
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        /// The task it is for from here on
        #[arg(long)]
        task: Option<String>,
        /// Its limits, in a TOML file
        #[arg(long, value_name = "FILE")]
        limits: Option<PathBuf>,
    },
    /// Revoke a token, and all that were made of it
    Revoke {
        /// The token's name, as `issue` and `narrow` say it
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Sessions {
    /// List the sessions, the latest first
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Those that are closed as well
        #[arg(long)]
        all: bool,
    },
    /// Everything the wallet knows of one session
    Show {
        /// Its channel, or the beginning of it
        channel: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Close a session with its seller, and get back what was not spent
    Close {
        /// Its channel, or the beginning of it
        #[arg(required_unless_present = "all")]
        channel: Option<String>,
        /// Every session that is not closed
        #[arg(long, conflicts_with = "channel")]
        all: bool,
        /// Without the seller: asks the chain for what is left, and takes it once the seller has had its
        /// time; run it, or `recover`, again then
        #[arg(long)]
        force: bool,
        /// The key, instead of the one in the wallet's configuration
        #[arg(long, value_name = "NAME")]
        key: Option<String>,
    },
    /// Finish what an earlier command left half done: ask the sellers, close, and free what was held
    Recover {
        /// The key, instead of the one in the wallet's configuration
        #[arg(long, value_name = "NAME")]
        key: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Subscriptions {
    /// List the subscriptions, the latest first
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Those that are over as well
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        side: SubscriptionSide,
    },
    /// Everything that is known of one subscription
    Show {
        /// Its name, or the beginning of it
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        side: SubscriptionSide,
    },
    /// Let nothing be charged any more; what is paid for can be used to its end
    Cancel {
        /// Its name, or the beginning of it
        id: String,
        /// The key, instead of the one in the wallet's configuration
        #[arg(long, value_name = "NAME", conflicts_with = "seller")]
        key: Option<String>,
        #[command(flatten)]
        side: SubscriptionSide,
    },
}

/// Whose subscriptions are meant: the wallet's, unless it is said otherwise.
#[derive(Args)]
pub(crate) struct SubscriptionSide {
    /// Those that the gateway sells, by its configuration
    #[arg(long)]
    pub(crate) seller: bool,
    #[command(flatten)]
    pub(crate) at: Gateway,
}

#[derive(Subcommand)]
pub(crate) enum RailCommand {
    /// Stablecoins on Tempo
    #[command(subcommand)]
    Tempo(TempoCommand),
    /// Sessions on any EVM chain
    #[command(subcommand)]
    Evm(EvmCommand),
}

#[derive(Subcommand)]
pub(crate) enum EvmCommand {
    /// How the chain's nodes, the escrow and the settling account are; fails where sessions would not settle
    Status {
        /// The gateway's configuration
        #[arg(short, long, default_value = "farthing.toml")]
        config: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Put an escrow for sessions on the chain, and print its address; nobody owns it
    DeployEscrow {
        /// The gateway's configuration, which says how to reach the chain
        #[arg(short, long, default_value = "farthing.toml")]
        config: PathBuf,
        /// The key of the account that pays the gas, `env:NAME` or `file:PATH`; that of
        /// [rails.evm.session] unless it is said
        #[arg(long, value_name = "PLACE")]
        key: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum TempoCommand {
    /// How the chain's nodes are; fails if none of them serves the chain
    Status {
        /// The gateway's configuration
        #[arg(short, long, default_value = "farthing.toml")]
        config: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Put an escrow for sessions on the chain, and print its address; nobody owns it
    DeployEscrow {
        /// The gateway's configuration, which says how to reach the chain
        #[arg(short, long, default_value = "farthing.toml")]
        config: PathBuf,
        /// The key of the account that pays the fee, `env:NAME` or `file:PATH`; that of
        /// [rails.tempo.session] unless it is said
        #[arg(long, value_name = "PLACE")]
        key: Option<String>,
        /// Which of the tokens pays the fee; the first unless it is said
        #[arg(long, value_name = "ASSET")]
        fee_asset: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What a key signs with, which decides where it can pay.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Prepaid accounts
    Ed25519,
    /// Tempo, and sessions on EVM chains
    Secp256k1,
}

#[derive(Subcommand)]
pub(crate) enum Prepaid {
    /// Put money into an account
    Fund {
        /// Whose account
        account: String,
        /// How much, such as "12.50 usd"
        amount: String,
        /// Your own name for it, such as an invoice number; the same one counts once
        #[arg(long)]
        reference: String,
        #[command(flatten)]
        at: Gateway,
    },
    /// Let a key spend an account
    Attach {
        /// The key, `did:key:z6Mk…`
        key: String,
        /// Whose account
        account: String,
        #[command(flatten)]
        at: Gateway,
    },
    /// Stop a key from spending
    Detach {
        /// The key, `did:key:z6Mk…`
        key: String,
        #[command(flatten)]
        at: Gateway,
    },
}

#[derive(Args)]
pub(crate) struct Gateway {
    /// The gateway's configuration: its book if the gateway is stopped, its admin address if it runs
    #[arg(short, long, default_value = "farthing.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum Ledger {
    /// What every account holds
    Balances {
        #[command(flatten)]
        book: Book,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Everything that ever happened, in order
    Journal {
        #[command(flatten)]
        book: Book,
        /// Begin with this record
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// As JSON, one record a line
        #[arg(long)]
        json: bool,
    },
    /// Recompute everything from the first record on, and name every row that was altered
    Verify {
        #[command(flatten)]
        book: Book,
        /// A signed checkpoint that was published: the journal has to continue it
        #[arg(long = "checkpoint", value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// The seller's public keys, as a JWK set, instead of those of the configuration
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Sign what the journal is now: publish it, and nothing before it can be rewritten unnoticed
    Checkpoint {
        /// A gateway's configuration, with keys in `[receipts]`
        #[arg(short, long, default_value = "farthing.toml")]
        config: PathBuf,
    },
}

#[derive(Subcommand)]
pub(crate) enum Evidence {
    /// Write a part of the book with everything that proves it
    Export(Export),
    /// Check a pack, with nothing but the seller's public keys
    Verify {
        /// The pack
        file: PathBuf,
        /// The seller's public keys, as a JWK set
        #[arg(long, value_name = "FILE")]
        keys: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// `farthing evidence export`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("of").required(true).args(["payment", "from", "party"]))]
pub(crate) struct Export {
    /// A gateway's configuration, with keys in `[receipts]`
    #[arg(short, long, default_value = "farthing.toml")]
    pub(crate) config: PathBuf,
    /// One payment: a trace, a payment (`pay_…`) or a challenge
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub(crate) payment: Option<String>,
    /// A period, from this moment on, such as 2026-11-01T00:00:00Z
    #[arg(long, requires = "until", value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// To before this moment
    #[arg(long, requires = "from", value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// A payer, a payee or the holder of an account
    #[arg(long, value_name = "NAME")]
    pub(crate) party: Option<String>,
    /// A signed checkpoint that was published before: the pack proves that the journal continues it
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// Where to write the pack, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Receipt {
    /// Check a receipt of the header field `Farthing-Receipt`
    Verify {
        /// The receipt; `-` reads it from standard input
        receipt: String,
        /// The seller's public keys, as a JWK set
        #[arg(long, value_name = "FILE")]
        keys: PathBuf,
        /// The challenge it has to be for
        #[arg(long, allow_hyphen_values = true)]
        challenge: Option<String>,
        /// The realm that has to have issued it
        #[arg(long)]
        issuer: Option<String>,
    },
    /// Make a key for `[receipts]`, in a file that only its owner can read
    NewKey {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Print the public keys of a configuration, as a JWK set or for other tools
    Keys {
        /// A gateway's configuration, with keys in `[receipts]`
        #[arg(short, long, default_value = "farthing.toml")]
        config: PathBuf,
        /// As tools for C2SP signed notes read them, to check checkpoints with
        #[arg(long)]
        note: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Payments {
    /// What hangs, why, and what happens next
    Stuck {
        #[command(flatten)]
        book: Book,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Note what was found out about a payment that its rail does not know any more
    Resolve {
        /// A trace, a payment (`pay_…`) or a challenge
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// What was found
        #[arg(long)]
        note: String,
        #[command(flatten)]
        at: Gateway,
    },
}

/// `farthing refund`.
#[derive(Args)]
pub(crate) struct Refund {
    /// A trace, a payment (`pay_…`) or a challenge
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,
    /// How much, such as "0.10 usd"; all that is left, if it is not said
    #[arg(long)]
    pub(crate) amount: Option<String>,
    /// Your own name for it; the same one for the same payment is the same refund
    #[arg(long)]
    pub(crate) reference: String,
    /// Why
    #[arg(long)]
    pub(crate) reason: String,
    /// Credit the payer in the seller's book instead of sending it back
    #[arg(long)]
    pub(crate) credit: bool,
    #[command(flatten)]
    pub(crate) at: Gateway,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Payouts {
    /// Keep what was earned with a payment from being paid out
    Hold {
        /// A trace, a payment (`pay_…`) or a challenge
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        at: Gateway,
    },
    /// Let it be paid out again
    Release {
        /// A trace, a payment (`pay_…`) or a challenge
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        at: Gateway,
    },
    /// Note that it was paid out
    Paid {
        /// A trace, a payment (`pay_…`) or a challenge
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Your own name for it, such as a bank's reference
        #[arg(long)]
        reference: String,
        #[command(flatten)]
        at: Gateway,
    },
}

#[derive(Subcommand)]
pub(crate) enum Webhooks {
    /// Every endpoint: how far it has come, what is tried again, what was given up
    List {
        #[command(flatten)]
        at: Gateway,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The events that were given up for an endpoint
    Dead {
        /// The endpoint
        name: String,
        #[command(flatten)]
        at: Gateway,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell an endpoint once more what it was told, or should have been
    Replay {
        /// The endpoint
        name: String,
        #[command(flatten)]
        what: ReplayWhat,
        #[command(flatten)]
        at: Gateway,
    },
    /// Send to an endpoint again that has answered 410
    Enable {
        /// The endpoint
        name: String,
        #[command(flatten)]
        at: Gateway,
    },
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ReplayWhat {
    /// This event, `evt_…`
    #[arg(long, value_name = "ID")]
    pub(crate) event: Option<String>,
    /// Everything that was given up
    #[arg(long)]
    pub(crate) dead: bool,
    /// Everything from this record of the journal on
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: Option<u64>,
    /// Everything from this moment on, such as 2026-11-21T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
}

#[derive(Args)]
pub(crate) struct Trace {
    /// A trace, a payment (`pay_…`) or a challenge
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) book: Book,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whose book is read.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct Book {
    /// A gateway's book, by its configuration
    #[arg(short, long, default_value = "farthing.toml")]
    pub(crate) config: PathBuf,
    /// The wallet's own book
    #[arg(short, long)]
    pub(crate) wallet: bool,
}
