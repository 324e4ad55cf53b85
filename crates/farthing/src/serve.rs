//! `farthing serve`.

use std::path::Path;

use farthing_gateway::{Config, Gateway};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{LogFormat, Serve};
use crate::failure::{Done, Failure};

/// Runs a gateway until it is told to stop: SIGTERM or SIGINT. SIGHUP reads the configuration
/// again; one that does not work leaves the old one in force and says where it is wrong.
pub(crate) async fn run(args: Serve) -> Done {
    let config = read_config(&args.config)?;
    if args.check {
        println!("{}: can be started", args.config.display());
        return Ok(());
    }
    log_to_stderr(args.log_format, &args.log)?;
    // Whoever reads that it listens may signal at once.
    let mut hang_up = signal(SignalKind::hangup()).map_err(Failure::other)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::other)?;
    let gateway = Gateway::start(&config).await.map_err(Failure::other)?;
    let admin = gateway.admin_address().map(|address| address.to_string());
    tracing::info!(address = %gateway.address(), admin, realm = config.realm, "listening");
    let store = gateway.store().clone();
    let ended = loop {
        tokio::select! {
            _ = hang_up.recv() => reload(&gateway, &args.config),
            _ = terminate.recv() => break Ok(()),
            _ = tokio::signal::ctrl_c() => break Ok(()),
            () = store.stopped() => {
                break Err(Failure::other("the book cannot be written any more; see the log above"));
            }
        }
    };
    drop(store);
    tracing::info!("stopping");
    gateway.stop().await;
    tracing::info!("stopped");
    ended
}

fn reload(gateway: &Gateway, path: &Path) {
    let reloaded = read_config(path)
        .map_err(|failure| failure.to_string())
        .and_then(|config| gateway.reload(&config).map_err(|error| error.to_string()));
    match reloaded {
        Ok(()) => tracing::info!("configuration reloaded"),
        Err(error) => tracing::error!(error, "configuration not reloaded; the old one stays"),
    }
}

/// Reads a whole configuration, secrets included.
pub(crate) fn read_config(path: &Path) -> Result<Config, Failure> {
    let named =
        |error: &dyn std::fmt::Display| Failure::usage(format_args!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    Config::parse(&text, folder, &|name| std::env::var(name).ok()).map_err(|error| named(&error))
}

pub(crate) fn log_to_stderr(format: LogFormat, log: &str) -> Done {
    let levels: Targets =
        log.parse().map_err(|error| Failure::usage(format_args!("--log {log}: {error}")))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_target(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(levels)).init();
    Ok(())
}
