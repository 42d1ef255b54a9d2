//! Encryption as clients meet it, on the sockets of the real program: what is let in, what is not, and what changes while
//! it runs. gRPC is spoken by hand, frame by frame, so that what is refused can be seen.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tonic::codegen::Bytes;
use tonic::codegen::http;

use crate::access::write_keys;
use crate::authority::{Authority, Pair};
use crate::registry::{Models, prices};

/// The program; it is killed when the test ends.
struct Server {
    child: Child,
    http: String,
    grpc: String,
}

fn command(models: &Models, config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serve"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BRAZIER_SERVE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").args(["--port", "0", "--grpc-port", "0", "--models"]).arg(models.path());
    command.arg("--config").arg(config).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Server {
    fn start(models: &Models, config: &Path) -> Self {
        let log = std::fs::File::create(config.with_extension("log")).unwrap();
        let mut child = command(models, config).arg("-vvv").stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let after = |word: &str| {
            line.split(word).nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
        };
        let (http, grpc) = (after("https://"), after("gRPC on "));
        let log = || std::fs::read_to_string(config.with_extension("log")).unwrap();
        Self { http: http.unwrap_or_else(|| panic!("{line}{}", log())), grpc: grpc.unwrap(), child }
    }

    fn hangup(&self) {
        assert!(
            Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap().success()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: &str, client: &Arc<ClientConfig>) -> Stream {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(client), name).unwrap(), tcp)
}

/// One request; the status, or why there is none. The connection stays open.
fn ask(stream: &mut Stream, path: &str, key: Option<&str>) -> Result<u16, String> {
    let key = key.map_or_else(String::new, |key| format!("X-API-Key: {key}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{key}\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("closed".to_owned());
        }
        seen.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split_whitespace().next());
        if body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0) {
            return text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(text);
        }
    }
}

fn status(address: &str, client: &Arc<ClientConfig>, key: Option<&str>) -> Result<u16, String> {
    ask(&mut connect(address, client), "/models", key)
}

/// The status of an empty call of gRPC.
fn call(
    address: &str,
    client: Option<&Arc<ClientConfig>>,
    path: &str,
    key: Option<&str>,
) -> Result<u32, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let text = |error: &dyn std::fmt::Display| error.to_string();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(address).await.map_err(|error| text(&error))?;
        match client {
            None => speak(tcp, path, key).await,
            Some(client) => {
                let mut config = ClientConfig::clone(client);
                config.alpn_protocols = vec![b"h2".to_vec()];
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                let name = ServerName::try_from("127.0.0.1").unwrap();
                speak(connector.connect(name, tcp).await.map_err(|error| text(&error))?, path, key).await
            }
        }
    })
}

async fn speak<T>(stream: T, path: &str, key: Option<&str>) -> Result<u32, String>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: h2::Error| error.to_string();
    let (sender, connection) = h2::client::handshake(stream).await.map_err(text)?;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.map_err(text)?;
    let mut request = http::Request::post(format!("http://127.0.0.1{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let (response, mut body) = sender.send_request(request.body(()).unwrap(), false).map_err(text)?;
    // One empty message.
    // Who is refused is refused before the message.
    let _ = body.send_data(Bytes::from_static(&[0; 5]), true);
    let response = response.await.map_err(text)?;
    let code = |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse::<u32>().ok();
    if let Some(code) = code(response.headers()) {
        return Ok(code);
    }
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        data.map_err(text)?;
    }
    let trailers = body.trailers().await.map_err(text)?;
    trailers.and_then(|trailers| code(&trailers)).ok_or_else(|| "no status".to_owned())
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const LIVE: &str = "/v2/health/live";
const SERVICE: &str = "/inference.GRPCInferenceService";

#[test]
fn encryption_and_keys_change_while_connections_are_open() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (first, second) = (Authority::new(), Authority::new());
    let own = first.sign(folder, "server", "server.example", 2040);
    let keys = folder.join("keys.toml");
    write_keys(
        &keys,
        &[
            ("brz_reader-of-the-tests", "scopes = [\"read\"]"),
            ("brz_user-of-the-tests", "scopes = [\"infer\"]"),
        ],
    );
    let config = folder.join("serve.toml");
    let text = format!(
        "[access]\nkeys = {keys:?}\npoll_s = 0\n[tls]\ncertificate = {:?}\nkey = {:?}\nhandshake_timeout_s = 1\n",
        own.certificate, own.key
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start(&models, &config);
    let (client, stranger) = (first.client(None), second.client(None));
    let (reader, user) = (Some("brz_reader-of-the-tests"), Some("brz_user-of-the-tests"));
    assert_eq!(status(&server.http, &client, reader), Ok(200));
    assert_eq!(status(&server.http, &client, user), Ok(403));
    assert_eq!(status(&server.http, &client, None), Ok(401));
    assert!(status(&server.http, &stranger, reader).is_err());
    // Every kind of call, with and without a key.
    for (path, key, expected) in [
        ("/ServerLive", None, 0),
        ("/ServerMetadata", None, 16),
        ("/ServerMetadata", Some("brz_wrong"), 16),
        ("/ServerMetadata", reader, 0),
        ("/ServerMetadata", user, 7),
        ("/ModelInfer", reader, 7),
        ("/ModelInfer", user, 5),
        ("/RepositoryModelLoad", reader, 7),
        ("/RepositoryIndex", None, 16),
        ("/LogSettings", None, 16),
        ("/Nothing", None, 16),
        ("/Nothing", reader, 12),
    ] {
        let got = call(&server.grpc, Some(&client), &format!("{SERVICE}{path}"), key);
        assert_eq!(got, Ok(expected), "{path} {key:?}");
    }
    assert_eq!(call(&server.grpc, Some(&client), "/grpc.health.v1.Health/Check", None), Ok(0));
    assert_eq!(call(&server.grpc, Some(&client), "/a.B/C", None), Ok(16));
    assert_eq!(
        call(&server.grpc, Some(&client), "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", None),
        Ok(16)
    );
    assert!(
        call(&server.grpc, None, "/grpc.health.v1.Health/Check", None).is_err(),
        "not without encryption"
    );
    // There is one HTTP, with one set of limits, whatever a client would speak.
    let mut offers = ClientConfig::clone(&client);
    offers.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut stream = connect(&server.http, &Arc::new(offers));
    assert_eq!(ask(&mut stream, "/v2/health/live", None), Ok(200));
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    // What is no handshake, or none that ends, is let go.
    for address in [&server.http, &server.grpc] {
        for bytes in [
            &b"GET /models HTTP/1.1\r\n\r\n"[..],
            &[0x16, 3, 1, 0xff, 0xff, 1],
            &[0; 64],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"",
        ] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.write_all(bytes).unwrap();
            let mut answer = Vec::new();
            // An alert, an end or a reset, but in time.
            let result = stream.read_to_end(&mut answer);
            assert!(
                !matches!(&result, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
                "{bytes:?}"
            );
            assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{bytes:?}");
        }
    }
    let mut open = connect(&server.http, &client);
    assert_eq!(ask(&mut open, "/models", reader), Ok(200));
    // Half of a new pair is no pair: the old one stays.
    let next = second.sign(folder, "next", "server.example", 2040);
    std::fs::copy(&next.certificate, &own.certificate).unwrap();
    std::fs::write(&keys, "version = 1\n[[key]]\nname = \"brz_reader-of-the-tests\"\n").unwrap();
    server.hangup();
    let log = || std::fs::read_to_string(config.with_extension("log")).unwrap();
    until("the log tells of both files", || {
        log().contains("it is not the key of the certificate") && log().contains("those before stay")
    });
    assert_eq!(status(&server.http, &client, reader), Ok(200));
    // Now the other half, and the keys without the reader.
    std::fs::copy(&next.key, &own.key).unwrap();
    write_keys(&keys, &[("brz_user-of-the-tests", "scopes = [\"read\"]")]);
    server.hangup();
    until("the next certificate", || status(&server.http, &stranger, user) == Ok(200));
    assert_eq!(call(&server.grpc, Some(&stranger), &format!("{SERVICE}/ServerMetadata"), user), Ok(0));
    assert!(status(&server.http, &client, user).is_err());
    assert_eq!(ask(&mut open, "/models", reader), Ok(401), "the connection goes on, the key does not");
    assert_eq!(ask(&mut open, "/models", user), Ok(200));
    assert_eq!(ask(&mut open, LIVE, None), Ok(200));
    let log = log();
    assert!(!log.contains("brz_"), "no key in the log: {log}");
}

#[test]
fn clients_show_certificates() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.sign(folder, "server", "server.example", 2040);
    let known = authority.sign(folder, "known", "billing.example", 2040);
    let unknown = authority.sign(folder, "unknown", "nobody.example", 2040);
    let expired = authority.sign(folder, "expired", "billing.example", 2021);
    let foreign = other.sign(folder, "foreign", "billing.example", 2040);
    authority.write(&folder.join("clients.pem"));
    let keys = folder.join("keys.toml");
    let entry =
        "version = 1\n[[certificate]]\nname = \"billing\"\nsan = \"billing.example\"\nscopes = [\"read\"]\n";
    std::fs::write(&keys, entry).unwrap();
    let config = folder.join("serve.toml");
    let text = format!(
        "[access]\nkeys = {keys:?}\n[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
        own.certificate,
        own.key,
        folder.join("clients.pem")
    );
    std::fs::write(&config, &text).unwrap();
    let server = Server::start(&models, &config);
    let status = |pair: Option<&Pair>| status(&server.http, &authority.client(pair), None);
    let grpc = |pair: Option<&Pair>| {
        call(&server.grpc, Some(&authority.client(pair)), &format!("{SERVICE}/ServerMetadata"), None)
    };
    assert_eq!((status(Some(&known)), grpc(Some(&known))), (Ok(200), Ok(0)));
    assert_eq!(
        (status(Some(&unknown)), grpc(Some(&unknown))),
        (Ok(401), Ok(16)),
        "of the authority, and not in the file"
    );
    for wrong in [None, Some(&expired), Some(&foreign)] {
        assert!(status(wrong).is_err() && grpc(wrong).is_err());
    }
    assert_eq!(status(Some(&known)), Ok(200), "the server lives");
    // Another authority, and no need to show anything.
    other.write(&folder.join("clients.pem"));
    std::fs::write(&config, format!("{text}client_auth = \"optional\"\n")).unwrap();
    server.hangup();
    until("the other authority", || status(Some(&foreign)) == Ok(200));
    assert!(status(Some(&known)).is_err());
    assert_eq!((status(None), grpc(None)), (Ok(401), Ok(16)));
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_start() {
    let models = Models::new();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    let own = authority.sign(folder, "server", "a.example", 2040);
    let other = authority.sign(folder, "other", "a.example", 2040);
    let expired = authority.sign(folder, "expired", "a.example", 2021);
    let empty = folder.join("empty");
    std::fs::write(&empty, "").unwrap();
    let tls =
        |certificate: &Path, key: &Path| format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    let cases = [
        (tls(&own.certificate, &other.key), "other.key: it is not the key of the certificate in"),
        (tls(&expired.certificate, &expired.key), "expired.pem: its certificate has expired"),
        (tls(&empty, &own.key), "empty: it holds no certificate"),
        (tls(&own.certificate, &empty), "empty: it holds no private key"),
        (tls(&own.key, &own.key), "server.key: it holds no certificate"),
        (tls(&folder.join("none"), &own.key), "none: it cannot be read"),
        (
            format!("{}client_ca = {empty:?}\n", tls(&own.certificate, &own.key)),
            "empty: it holds no certificate",
        ),
        (format!("[tls]\nkey = {empty:?}\n"), "must be given with `tls.key`"),
        ("[tls]\nhandshake_timeout_s = 0\n".to_owned(), "must be from 1 to 60"),
        ("[access]\nkeys = \"none.toml\"\n".to_owned(), "none.toml: it cannot be read"),
        (format!("[access]\nkeys = {empty:?}\n"), "empty: line 1: missing field `version`"),
        ("[access]\nanonymous = [\"admin\"]\n".to_owned(), "must not hold `admin`"),
        ("[access]\norigins = [\"*\"]\n".to_owned(), "must hold origins"),
        ("[access]\naudit = \"/nowhere/audit\"\n".to_owned(), "/nowhere/audit: it cannot be written to"),
        ("[repository]\nallow_changes = true\n".to_owned(), "allow_changes"),
    ];
    for (text, part) in cases {
        let config = folder.join("serve.toml");
        std::fs::write(&config, &text).unwrap();
        let output = command(&models, &config).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let models = Models::new();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("serve.toml");
    std::fs::write(&config, "").unwrap();
    let keys = folder.path().join("keys.toml");
    let run = |arguments: &[&str]| {
        let output =
            command(&models, &config).arg("key").args(arguments).arg("--keys").arg(&keys).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, said, _) =
        run(&["new", "--name", "ops", "--scope", "admin", "--model", "prices", "--rate", "5"]);
    assert_eq!(code, 0);
    let key = said.lines().next().unwrap().to_owned();
    assert!(key.starts_with("brz_") && key.len() == 47, "{said}");
    let (code, listed, _) = run(&["list"]);
    assert!(
        code == 0 && listed.contains("ops") && listed.contains("prices") && !listed.contains(&key[4..]),
        "{listed}"
    );
    for (arguments, part) in [
        (&["new", "--name", "ops", "--scope", "read"][..], "the same `name`"),
        (&["new", "--name", "a", "--scope", "root"], "is no scope"),
        (&["new", "--name", "a", "--scope", "read", "--expires", "soon"], "`expires` must be like"),
        (&["revoke", "nobody"], "no key `nobody`"),
    ] {
        let (code, _, said) = run(arguments);
        assert!(code == 2 && said.contains(part), "{arguments:?}: {code} {said}");
    }
    assert_eq!(run(&["revoke", "ops"]).0, 0);
    assert!(!std::fs::read_to_string(&keys).unwrap().contains("ops"));
    let output = command(&models, &config).args(["key", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--keys FILE"));
}

/// Connections beyond those that are served wait for their turn, encrypted or not: they are not taken, shaken hands with and
/// kept, as many as come.
#[test]
fn handshakes_beyond_the_connections_wait() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let own = authority.sign(folder.path(), "server", "server.example", 2040);
    let config = folder.path().join("serve.toml");
    let text = format!(
        "[limits]\nmax_connections = 1\n[tls]\ncertificate = {:?}\nkey = {:?}\n",
        own.certificate, own.key
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start(&models, &config);
    let mut client = ClientConfig::clone(&authority.client(None));
    client.alpn_protocols = vec![b"h2".to_vec()];
    let client = Arc::new(client);
    let mut open = Vec::new();
    // The last one is not answered; all others are kept open.
    while open.len() < 400 {
        let mut stream = connect(&server.grpc, &client);
        stream.sock.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        if stream.conn.complete_io(&mut stream.sock).is_err() {
            break;
        }
        open.push(stream);
    }
    assert!((1..350).contains(&open.len()), "{} connections", open.len());
}
