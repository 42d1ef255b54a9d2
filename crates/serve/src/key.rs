//! `serve key …`: makes, lists and revokes the keys that clients need.

use std::path::Path;

use clap::Subcommand;
use cli::{ErrorExt as _, ExitStatus, Printer, Table};
use serde_json::json;
use serve::access::keys::{KeyEntry, Keys};
use serve::access::principal::Scope;
use serve::access::{files, keyring};

/// What to do with the keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key, print it once, and add its digest to the file of the keys.
    New {
        /// What it is called in logs.
        #[arg(long)]
        name: String,
        /// What it may do: read, infer, admin (which includes both).
        #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',')]
        scopes: Vec<Scope>,
        /// On which models; an entry that ends with * means all that begin so [default: *]
        #[arg(long = "model", value_name = "NAME", value_delimiter = ',')]
        models: Vec<String>,
        /// Until when, such as 2030-12-31T00:00:00Z [default: for ever]
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// How many requests a second it may make [default: any number]
        #[arg(long, value_name = "N")]
        rate: Option<f64>,
        /// How many of them at once [default: those of a second]
        #[arg(long, value_name = "N", requires = "rate")]
        burst: Option<u32>,
    },
    /// List the keys of the file, without the keys themselves, which it does not have.
    List,
    /// Take a key out of the file.
    Revoke {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

const TAKEN: &str =
    "a running server takes it on SIGHUP, or when it looks at the file again (`access.poll_s`)";

pub(crate) fn run(command: &Key, file: Option<&Path>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let Some(file) = file else {
        let error = cli::usage_error("no file of keys is named");
        return Err(error).hint("name it with --keys FILE, or `keys` of [access] in the configuration file");
    };
    match command {
        Key::New { name, scopes, models, expires, rate, burst } => {
            let models = if models.is_empty() { vec!["*".to_owned()] } else { models.clone() };
            let entry = KeyEntry {
                name: name.clone(),
                hash: String::new(),
                scopes: scopes.clone(),
                models,
                expires: expires.clone(),
                rate: *rate,
                burst: *burst,
                created: cli::now(),
            };
            let key = keyring::add(file, entry).usage()?;
            let view = json!({ "name": name, "key": key.expose(), "file": file });
            printer.result(&view, || {
                format!(
                    "{}\n\nKeep it: it is shown this once, and {} has its digest alone; {TAKEN}.",
                    key.expose(),
                    file.display()
                )
            })?;
        }
        Key::List => {
            let text = files::read_text(file).usage()?;
            let keys = Keys::parse(&text, std::time::Instant::now());
            let keys = keys.map_err(|why| files::FileFault::new(file, why)).usage()?;
            let view: Vec<_> = keys.entries().iter().map(shown).collect();
            printer.result(&json!({ "keys": view }), || table(keys.entries()))?;
        }
        Key::Revoke { name } => {
            keyring::revoke(file, name).usage()?;
            let view = json!({ "revoked": name, "file": file });
            printer.result(&view, || format!("{name} is out of {}; {TAKEN}", file.display()))?;
        }
    }
    Ok(ExitStatus::Success)
}

fn shown(entry: &KeyEntry) -> serde_json::Value {
    let KeyEntry { name, scopes, models, expires, rate, burst, created, .. } = entry;
    json!({
        "name": name, "scopes": scopes, "models": models, "expires": expires, "rate": rate, "burst": burst,
        "created": created,
    })
}

fn table(entries: &[KeyEntry]) -> String {
    let mut table = Table::new(["name", "scopes", "models", "expires", "rate", "created"]);
    for entry in entries {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let scopes: Vec<&str> = entry.scopes.iter().map(|scope| scope.name()).collect();
        let rate = entry.rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate}/s"));
        table.row([
            entry.name.clone(),
            scopes.join(" "),
            entry.models.join(" "),
            or_dash(&entry.expires),
            rate,
            or_dash(&entry.created),
        ]);
    }
    table.to_string()
}
