//! `farthing rail`: how the rails of a gateway are.

use std::path::Path;

use farthing_gateway::{RailConfig, TempoConfig};
use farthing_rail_tempo::{NodeHealth, Nodes};
use serde_json::json;

use crate::cli::{RailCommand, TempoCommand};
use crate::failure::{Done, Exit, Failure};
use crate::serve::read_config;
use crate::wallet::print_json;

pub(crate) async fn run(command: RailCommand) -> Done {
    match command {
        RailCommand::Tempo(TempoCommand::Status { config, json }) => status(&config, json).await,
    }
}

async fn status(path: &Path, json: bool) -> Done {
    let config = read_config(path)?;
    let tempo = config.rails.iter().find_map(|rail| match rail {
        RailConfig::Tempo(tempo) => Some(tempo),
        RailConfig::Prepaid | RailConfig::Test => None,
    });
    let tempo: &TempoConfig = tempo.ok_or_else(|| Failure::usage("there is no [rails.tempo]"))?;
    let nodes = Nodes::new(tempo.chain_id, tempo.nodes.clone(), tempo.node_timeout);
    let nodes = nodes.map_err(Failure::usage)?.health().await;
    let serves = |node: &NodeHealth| node.chain_id == Some(tempo.chain_id) && node.block.is_some();
    if json {
        print_json(&json!({ "chain_id": tempo.chain_id, "nodes": nodes }))?;
    } else {
        println!("chain {}, paid to {}", tempo.chain_id, tempo.recipient);
        for node in &nodes {
            println!("  {}", described(node, tempo.chain_id));
        }
    }
    if nodes.iter().any(serves) {
        Ok(())
    } else {
        Err(Failure::new(
            Exit::Unreachable,
            "no node serves the chain; payments on it will not settle",
        ))
    }
}

/// A node in a line.
fn described(node: &NodeHealth, chain_id: u64) -> String {
    let port = node.port.map(|port| format!(":{port}")).unwrap_or_default();
    let how = match (node.chain_id, node.block) {
        (Some(other), _) if other != chain_id => format!("serves chain {other} and is not used"),
        (Some(_), Some(block)) => format!("at block {block}"),
        (Some(_), None) => "does not say at which block it is".to_owned(),
        (None, _) => "does not answer".to_owned(),
    };
    format!("{}{port} {how}", node.host)
}
