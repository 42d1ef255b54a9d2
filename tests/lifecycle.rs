//! Signals: a training that is stopped and goes on, a server that drains.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Place, Server, command};

const CONFIG: [&str; 8] = [
    "--config",
    "configs/train/quickstart.toml",
    "--threads",
    "1",
    "--set",
    "train.epochs=4",
    "--progress",
    "plain",
];

#[test]
fn a_stopped_training_goes_on_to_the_same_bits() {
    let whole = Place::new();
    whole.train(&CONFIG).ok();

    let stopped = Place::new();
    let (runs, models) = (stopped.path("runs"), stopped.path("models"));
    let mut command = command("train");
    command.args(["train", "--runs", &runs, "--models", &models]).args(CONFIG);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Interrupted in the middle of the second epoch, whichever stream shows the progress.
    let (sender, receiver) = std::sync::mpsc::channel();
    let streams: [Box<dyn Read + Send>; 2] =
        [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    for stream in streams {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
    }
    drop(sender);
    let mut said = String::new();
    let mut sent = false;
    for line in receiver {
        if !sent && line.contains("epoch") && line.contains("1/4") {
            std::thread::sleep(Duration::from_millis(150));
            assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
            sent = true;
        }
        said += &line;
        said.push('\n');
    }
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("--resume"), "it says how to go on: {said}");
    assert!(std::fs::metadata(stopped.path("models/digits/1")).is_err(), "nothing is packed yet");

    stopped.train(&["--resume", "digits-1", "--threads", "1"]).ok();
    let read = |place: &Place, file: &str| std::fs::read(place.path(file)).unwrap();
    assert!(
        read(&whole, "models/digits/1/weights.bpk") == read(&stopped, "models/digits/1/weights.bpk"),
        "the resumed run has the bits of the run that was never stopped"
    );
    let refused = stopped.train(&["--resume", "digits-1", "--set", "train.epochs=9"]).refused(2);
    assert!(refused.contains("epochs"), "{refused}");
}

#[test]
fn a_second_training_and_a_second_server_do_not_trip_over_the_first() {
    let place = Place::new();
    for version in 1..=2 {
        place.train(&["--config", "configs/train/breast-cancer.toml", "--set", "train.epochs=1"]).ok();
        assert!(
            std::fs::metadata(place.path(&format!("models/breast-cancer/{version}/manifest.json"))).is_ok()
        );
    }
    let models = place.path("models");
    let first = Server::start(&["--models", &models]);
    let port = first.address.rsplit(':').next().unwrap().to_owned();
    let second = command("serve").args(["--models", &models, "--port", &port]).output().unwrap();
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(3), "{error}");
    assert!(error.contains(&port), "{error}");
    assert_eq!(first.get("/v2/health/live").0, 200);
}

#[test]
fn sigterm_lets_a_request_under_way_finish() {
    let server = Server::of_trained();
    let host = server.address.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let body = format!("{{\"input\": [{}]}}", ["0"; 64].join(","));
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // Half of the request, then the signal, then the rest.
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body.as_bytes()[..20]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let waiting = std::thread::spawn(move || server.terminate());
    std::thread::sleep(Duration::from_millis(200));
    stream.write_all(&body.as_bytes()[20..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(waiting.join().unwrap(), Some(0));
}
