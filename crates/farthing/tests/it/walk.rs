//! The commands of `docs/wallet.md`, typed as they stand there, against a real gateway: so that they stay true.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::world::{World, free_address};

const PAGE: &str = include_str!("../../../../docs/wallet.md");

/// The part of the page that is walked through.
const PART: &str = "## Ten minutes to a safe agent";

/// A block of code of the page.
struct Block<'a> {
    language: &'a str,
    text: &'a str,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let (_, part) = page.split_once(PART).unwrap();
    let (part, _) = part.split_once("\n## ").unwrap();
    let mut blocks = Vec::new();
    let mut rest = part;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (language, after) = after.split_once('\n').unwrap();
        let (text, after) = after.split_once("```").unwrap();
        blocks.push(Block { language, text });
        rest = after;
    }
    blocks
}

/// The commands of a console's block, and what each is said to answer.
fn commands(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push((command, Vec::new())),
            None => commands.last_mut().expect("a block begins with a command").1.push(line),
        }
    }
    commands
}

/// Whether a line is what the page says, where `…` stands for anything.
fn fits(said: &str, line: &str) -> bool {
    let mut parts = said.split('…');
    let first = parts.next().unwrap();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Everything that is said is answered, in any order: standard output and standard error come as they like.
/// A line of `…` alone stands for any lines.
fn check(command: &str, said: &[String], answered: &str) {
    let mut lines: Vec<&str> = answered.lines().collect();
    for said in said.iter().filter(|said| *said != "…") {
        let at = lines.iter().position(|line| fits(said, line));
        let at = at.unwrap_or_else(|| panic!("{command}\nsaid {said:?}\nand answered\n{answered}"));
        lines.remove(at);
    }
}

#[test]
fn a_line_is_compared_as_the_page_means_it() {
    assert!(fits("sunny", "sunny") && !fits("sunny", "sunny!"));
    assert!(
        fits("apr_… is approved", "apr_4f is approved")
            && !fits("apr_… is approved", "apr_4f is denied")
    );
    assert!(fits("…frozen…", "the wallet is frozen now") && !fits("…frozen…", "it is not"));
    assert!(fits("a…b…", "a 1 b 2") && !fits("a…b…", "a 1 2"));
}

#[test]
fn the_page_is_walked_from_the_key_to_the_safe_agent() {
    let world = World::empty();
    let home = world.path("user");
    std::fs::create_dir_all(&home).unwrap();
    // Ports of this machine that are free, instead of those that the page names.
    let mut ports = BTreeMap::new();
    for port in ["4020", "4021", "4041", "4042"] {
        ports.insert(port, free_address().port().to_string());
    }
    let here = |text: &str| {
        ports.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
    };
    let mut script = String::from(
        "wait_for() { until (: </dev/tcp/127.0.0.1/$1) 2>/dev/null; do sleep 0.05; done; }\n",
    );
    let mut expected = Vec::new();
    for block in blocks(PAGE) {
        if block.language == "toml" {
            let (name, text) = block.text.split_once('\n').unwrap();
            let name = name.strip_prefix("# ").expect("a file's block begins with its name");
            let name = name.replace("~/", &format!("{}/", home.display()));
            let _ = writeln!(script, "cat > {name} <<'END'\n{}END", here(text));
            continue;
        }
        for (command, said) in commands(block.text) {
            // Installed it is: it is the one under test.
            if command.starts_with("cargo install") {
                continue;
            }
            let at = expected.len();
            let command = here(command);
            if let Some(server) = command.strip_suffix(" &") {
                let _ = writeln!(script, "{server} >log.{at} 2>&1 & pids=\"$pids $!\"");
                let config = ports["4021"].clone();
                let named = ports.values().filter(|port| server.contains(port.as_str())).cloned();
                let waited: Vec<String> = named.collect();
                let waited = if server == "farthing serve" { vec![config] } else { waited };
                assert!(!waited.is_empty(), "{server}");
                for port in waited {
                    let _ = writeln!(script, "wait_for {port}");
                }
            } else {
                let _ = writeln!(script, "{{ {command}\n}} >out.{at} 2>&1");
            }
            expected.push((command, said));
        }
    }
    // Stopped in good order, so that what they hold is on disk.
    script.push_str("kill $pids; wait; echo walked\n");
    let binary = Path::new(env!("CARGO_BIN_EXE_farthing")).parent().unwrap();
    let walked = Command::new("bash")
        .args(["-c", &script])
        .current_dir(world.path(""))
        .env_clear()
        .env("HOME", &home)
        .env("PATH", format!("{}:{}", binary.display(), std::env::var("PATH").unwrap()))
        .env("FARTHING_PASSPHRASE", "correct horse")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&walked.stdout);
    assert!(said.ends_with("walked\n"), "{said}{}", String::from_utf8_lossy(&walked.stderr));
    assert!(expected.len() > 20, "the page has its commands");
    for (at, (command, said)) in expected.iter().enumerate() {
        if !command.ends_with(" &") {
            let said: Vec<String> = said.iter().map(|said| here(said)).collect();
            check(command, &said, &world.read(&format!("out.{at}")));
        }
    }
    // The page's story, as the books tell it: two payments, and none that was too dear or frozen.
    let claimed = |args: &[&str], home: &Path| {
        let mut command = world.command(args);
        command.env("FARTHING_HOME", home);
        crate::world::run(command, "").json()["audit"]["claimed"].as_u64()
    };
    let wallet = home.join(".farthing");
    assert_eq!(claimed(&["ledger", "verify", "--wallet", "--json"], &wallet), Some(2));
}
