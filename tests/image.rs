//! `cargo xtask image` from outside: its bytes, and a server that runs in the root file system of the image alone.
//!
//! The program is that of the test's own build, so that no other is compiled. Running needs user and mount namespaces;
//! where the system gives none, that part is skipped with a word, and with `BRAZIER_REQUIRE_CHROOT=1` that is a failure.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use sha2::{Digest as _, Sha256};

use crate::support::{binary, command, trained};

#[path = "../crates/serve/tests/http/h2.rs"]
mod h2;

fn image(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command("xtask");
    command.args(["image", "--max-mb", "1000"]).args(arguments);
    let output = command.env_remove("SOURCE_DATE_EPOCH").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn blob(image: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = fs::read(image.join("blobs").join(digest.replace(':', "/"))).unwrap();
    assert_eq!(descriptor["size"], bytes.len());
    assert_eq!(digest, format!("sha256:{}", hex(&bytes)), "a blob is its digest");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Manifest and configuration of an image.
fn parts(image: &Path) -> (Value, Value) {
    assert_eq!(
        json_of(&fs::read(image.join("oci-layout")).unwrap()),
        json!({ "imageLayoutVersion": "1.0.0" })
    );
    let index = json_of(&fs::read(image.join("index.json")).unwrap());
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "brazier:test");
    let manifest = json_of(&blob(image, &index["manifests"][0]));
    let config = json_of(&blob(image, &manifest["config"]));
    (manifest, config)
}

#[test]
fn what_cannot_be_an_image_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("script"), "#!/bin/sh\n").unwrap();
    let (code, _, said) = image(&["--binary", &path("script"), "--output", &path("image")]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("is no program for x86-64 or AArch64 Linux"), "{said}");
    let xtask = binary("xtask");
    let xtask = xtask.to_str().unwrap();
    fs::create_dir(path("other")).unwrap();
    let (code, _, said) = image(&["--binary", xtask, "--output", &path("other")]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is there and is no image"), "{said}");
    let (code, _, said) = image(&["--binary", xtask, "--output", &path("image"), "--models", "nothing@1"]);
    assert_eq!(code, Some(3), "{said}");
    let mut small = command("xtask");
    small.args(["image", "--max-mb", "1", "--binary", xtask, "--output", &path("image")]);
    let output = small.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("at most 1 MB are allowed"));
    assert!(!Path::new(&path("image")).exists());
}

#[test]
fn the_same_program_is_the_same_image_and_it_runs_by_itself() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let serve = text(&binary("serve"));
    let models = trained().path("models");
    let make = |output: &str| {
        let arguments = ["--binary", &serve, "--models", &models, "--tag", "brazier:test"];
        let (code, told, said) =
            image(&[&arguments[..], &["--output", &text(&path(output)), "--json"]].concat());
        assert_eq!(code, Some(0), "{said}");
        json_of(told.as_bytes())
    };
    let one = make("one");
    assert_eq!(make("one")["digest"], one["digest"], "an image is replaced by the same bytes");
    let archive = make("one.tar");
    assert_eq!(archive["digest"], one["digest"]);
    let listed = Command::new("tar").arg("-tf").arg(path("one.tar")).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == "index.json"));

    let (manifest, config) = parts(&path("one"));
    let run = &config["config"];
    assert_eq!((&run["User"], &run["Entrypoint"]), (&json!("65532:65532"), &json!(["/serve"])));
    assert_eq!(run["ExposedPorts"], json!({ "8080/tcp": {}, "9000/tcp": {} }));
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), layers.len());
    let root = path("root");
    fs::create_dir(&root).unwrap();
    for layer in layers {
        let packed = path("layer.tar.gz");
        fs::write(&packed, blob(&path("one"), layer)).unwrap();
        let tar = Command::new("tar")
            .arg("-xzf")
            .arg(&packed)
            .arg("-C")
            .arg(&root)
            .args(["--no-same-owner"])
            .status();
        assert!(tar.unwrap().success());
    }
    let Some(mut server) = contained(&root, run) else { return };
    let id = server.child.id();
    let map = fs::read_to_string(format!("/proc/{id}/uid_map")).unwrap();
    assert_eq!(map.split_whitespace().next(), Some("65532"), "{map}");
    let mounts = fs::read_to_string(format!("/proc/{id}/mounts")).unwrap();
    let root_mount = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    let options = root_mount.split(' ').nth(3).unwrap();
    assert!(options.split(',').any(|option| option == "ro"), "{mounts}");

    let input: Vec<u32> = (0..64).map(|value| value % 17).collect();
    let (status, answer) = server.ask("/models/digits", None);
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = server.ask("/v2/models/digits/ready", None);
    assert_eq!(status, 200, "{answer}");
    let (_, metadata) = server.ask("/v2/models/digits", None);
    let shape: Vec<u64> = metadata["inputs"][0]["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|size| size.as_u64().unwrap_or(1))
        .collect();
    let width = shape.iter().product::<u64>() as usize;
    let data: Vec<u32> = input.iter().copied().cycle().take(width).collect();
    let tensor =
        json!({ "name": metadata["inputs"][0]["name"], "datatype": "FP32", "shape": shape, "data": data });
    let (status, answer) = server.ask("/v2/models/digits/infer", Some(&json!({ "inputs": [tensor] })));
    assert_eq!(status, 200, "{answer}");
    assert!(answer["outputs"][0]["data"].as_array().is_some_and(|data| !data.is_empty()), "{answer}");
    assert!(h2::is_serving(&server.grpc));
    assert!(Command::new("kill").args(["-TERM", &id.to_string()]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

struct Server {
    child: Child,
    http: String,
    grpc: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn ask(&self, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (method, body) = body.map_or(("GET", String::new()), |body| ("POST", body.to_string()));
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap_or(Value::Null))
    }
}

/// Whether user and mount namespaces can be had.
#[expect(clippy::print_stderr, reason = "a test that does less must say so")]
fn can_contain() -> bool {
    let made = Command::new("unshare").args(["-r", "-m", "true"]).stderr(Stdio::null()).status();
    let can = made.is_ok_and(|status| status.success());
    if !can {
        let required = std::env::var("BRAZIER_REQUIRE_CHROOT").is_ok_and(|value| value == "1");
        assert!(!required, "BRAZIER_REQUIRE_CHROOT=1, but `unshare -r -m` does not work");
        eprintln!("SKIPPED: `unshare -r -m` does not work, so the image is not started");
    }
    can
}

/// Starts what the image says, as its user, in its root, which cannot be written to.
fn contained(root: &Path, run: &Value) -> Option<Server> {
    if !can_contain() {
        return None;
    }
    fs::create_dir(root.join("proc")).unwrap();
    // The outer namespace may mount; in the inner one the process is the image's user and nobody else.
    let script = "set -e; mount --bind \"$0\" \"$0\"; mount --rbind /proc \"$0/proc\"; \
                  mount -o remount,ro,bind \"$0\"; cd \"$0\"; \
                  exec unshare --user --map-user=65532 --map-group=65532 --root=\"$0\" --wd=/ \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-r", "-m", "sh", "-c", script]).arg(root);
    command.args(run["Entrypoint"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()));
    command.args(["--json", "--port", "0", "--grpc-port", "0"]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path);
    for variable in run["Env"].as_array().unwrap() {
        let (name, value) = variable.as_str().unwrap().split_once('=').unwrap();
        command.env(name, value);
    }
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
    let local = |address: &Value| {
        let port = address.as_str().and_then(|address| address.rsplit(':').next()).unwrap_or("");
        format!("127.0.0.1:{port}")
    };
    let server = Server { http: local(&told["listening"]), grpc: local(&told["grpc"]), child };
    assert!(told["listening"].is_string(), "it did not start after {:?}: {line}", began.elapsed());
    Some(server)
}
