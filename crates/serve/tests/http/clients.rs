//! Clients as they are installed from the package index, against the server on real sockets: `tritonclient` over HTTP,
//! gRPC and their asynchronous forms, the SDK of KServe, and schemathesis, which tries what our OpenAPI document promises.
//!
//! They need Python with the packages of `tests/clients/requirements.txt`; `BRAZIER_CLIENTS_PYTHON` names it. Without
//! it the tests are skipped with a word; with `BRAZIER_REQUIRE_CLIENTS=1` that is a failure, so that a CI cannot skip
//! them unseen.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use actix_web::HttpServer;
use actix_web::web::Data;
use futures_util::future::BoxFuture;
use serve::error::{Result, ServeError};
use serve::executor::Executor;
use serve::front::{Control, Front};
use serve::served::Served;
use serve::state::{Model, State, Version};
use serve::{app, grpc};

use crate::access::write_keys;
use crate::executors::{self, DTYPES};
use crate::life::Server;
use crate::registry::{Models, digits, prices};

/// The Python with the clients, if there is one.
#[allow(clippy::print_stderr, reason = "a test that does nothing must say so")]
fn python() -> Option<PathBuf> {
    let found = std::env::var_os("BRAZIER_CLIENTS_PYTHON").map(PathBuf::from).filter(|path| path.is_file());
    if found.is_none() {
        let required = std::env::var("BRAZIER_REQUIRE_CLIENTS").is_ok_and(|value| value == "1");
        assert!(!required, "BRAZIER_REQUIRE_CLIENTS=1, but BRAZIER_CLIENTS_PYTHON names no Python");
        eprintln!("SKIPPED: BRAZIER_CLIENTS_PYTHON names no Python with the clients");
    }
    found
}

/// Loads and unloads toys, in place of a repository.
#[derive(Debug)]
struct Toys(std::sync::Weak<State>);

impl Toys {
    fn set(&self, name: &str, version: Version) -> Result<()> {
        if name != "loadable" {
            return Err(ServeError::not_found(format_args!("there is no model `{name}`")));
        }
        let state = self.0.upgrade().unwrap();
        state.update(|catalog| {
            drop(catalog.models.entry(name.to_owned()).or_default().versions.insert(1, version))
        });
        Ok(())
    }
}

impl Control for Toys {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        let state = self.0.upgrade().unwrap();
        let executor = executors::identity(network::DType::F32);
        let served = Served::new(name, 1, executor, &state.scheduler, &state.health);
        Box::pin(async move { self.set(name, Version::Ready(served)) })
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.set(name, Version::Failed) })
    }
}

/// The toys on a server that the clients share.
fn addresses() -> &'static (String, String) {
    static ADDRESSES: OnceLock<(String, String)> = OnceLock::new();
    ADDRESSES.get_or_init(start)
}

/// Starts the toys on a server of the process; it lives until the tests end.
fn start() -> (String, String) {
    let state = crate::server::empty_state(Front::default());
    let state = Arc::new(state);
    let mut toys: Vec<(String, Arc<dyn Executor>)> = vec![
        ("simple".to_owned(), executors::simple()),
        ("simple_string".to_owned(), executors::simple_string()),
        ("concatenate".to_owned(), executors::concatenate()),
        ("loadable".to_owned(), executors::identity(network::DType::F32)),
    ];
    let of = |dtype: network::DType| {
        (format!("identity_{}", dtype.name().to_lowercase()), executors::identity(dtype))
    };
    toys.extend(DTYPES.into_iter().map(of));
    for (name, executor) in toys {
        let served = Served::new(name.as_str(), 1, executor, &state.scheduler, &state.health);
        let model = Model { versions: [(1, Version::Ready(served))].into(), ..Model::default() };
        state.update(|catalog| drop(catalog.models.insert(name, model)));
    }
    state.front.control_by(Arc::new(Toys(Arc::downgrade(&state))));
    state.allow_changes(true);
    state.loaded();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = listener.local_addr().unwrap().to_string();
    let data = Data::from(Arc::clone(&state));
    std::thread::spawn(move || {
        let server = HttpServer::new(move || app::new(data.clone(), app::endpoints));
        let server = server.workers(2).listen(listener).unwrap();
        actix_web::rt::System::new().block_on(server.disable_signals().run())
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let running = grpc::server::start(state, listener).unwrap();
    let grpc = running.address().to_string();
    // It runs as long as the process.
    std::mem::forget(running);
    (http, grpc)
}

fn passes(script: &str, (http, grpc): &(String, String)) {
    let Some(python) = python() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut command = Command::new(python);
    // Proxies of whoever runs the tests are not for this machine.
    for (name, _) in std::env::vars().filter(|(name, _)| name.to_lowercase().ends_with("_proxy")) {
        command.env_remove(name);
    }
    let output = command
        .arg("-B")
        .arg(folder.join(script))
        .args(["--http", http, "--grpc", grpc])
        .env("PYTHONPATH", &folder)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{script}:\n{}\n{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn tritonclient_over_http() {
    passes("triton_http.py", addresses());
}

#[test]
fn tritonclient_over_grpc() {
    passes("triton_grpc.py", addresses());
}

#[test]
fn tritonclient_asynchronous() {
    passes("triton_aio.py", addresses());
}

#[test]
fn kserve_over_both() {
    passes("kserve_client.py", addresses());
}

/// Against the binary, with the key of an administrator, so that it can change whatever can be changed.
#[test]
fn schemathesis_finds_nothing() {
    if python().is_none() {
        return;
    }
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    models.publish("digits", &digits(), 1);
    let keys = models.path().with_extension("keys");
    write_keys(&keys, &[("brz_schema", "scopes = [\"admin\"]")]);
    let server = Server::start(&models, &format!("[access]\nkeys = {keys:?}\n"));
    passes("schema.py", &(server.address.clone(), server.grpc.clone()));
    std::fs::remove_file(keys).unwrap();
}
