//! The quickstart from its first step to its Ctrl-C, with programs that act their parts: what is tested is the
//! tour itself. The end-to-end tests take it with the real programs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Stage, spawn, text};
use artifact::{Draft, Manifest, Registry};
use network::{Network, Postprocess, Task};
use serde_json::{Value, json};

/// `train` publishes a version by copying a package, `predict` says seven, and `serve` waits for its end.
const PARTS: &str = r#"
echo "$(basename "$0") $*" >> "$STAGE/calls"
case "$(basename "$0") $1" in
  "train train")
    while [ "$1" != --models ]; do shift; done
    mkdir -p "$2/digits"
    version=1
    while [ -e "$2/digits/$version" ]; do version=$((version + 1)); done
    cp -r "$STAGE/fixture/digits/1" "$2/digits/$version"
    echo "trained" ;;
  "train evaluate") echo "evaluated" ;;
  predict*) echo '{"predictions":[{"class":"7","probability":0.98}]}' ;;
  serve*)
    trap 'touch "$STAGE/stopped"; exit 0' TERM
    touch "$STAGE/started"
    while :; do sleep 0.02; done ;;
esac"#;

fn stage() -> Stage {
    let stage = Stage::new(PARTS);
    let spec = json!({
        "inputs": [{"name": "input", "shape": [1, 8, 8]}],
        "layers": [{"name": "flatten", "type": "flatten"}, {"name": "dense", "type": "dense", "units": 10}],
    });
    let network = Network::new(serde_json::from_value(spec).unwrap()).unwrap();
    let preprocess = json!({
        "kind": "image", "channels": 1, "height": 8, "width": 8, "max_value": 16.0,
        "mean": [0.3], "std": [0.3], "fit": {"kind": "stretch"},
    });
    let labels = (0..10).map(|digit: u8| digit.to_string()).collect();
    let postprocess = Postprocess::new(Task::MultiClass, labels);
    let manifest =
        Manifest::new("digits", &network, serde_json::from_value(preprocess).unwrap(), postprocess);
    let weights = network
        .parameters()
        .map(|parameter| {
            let values = vec![0.0; parameter.shape.iter().product()];
            (parameter.key.clone(), network::Tensor::from_f32(parameter.shape.clone(), values).unwrap())
        })
        .collect();
    let draft = Draft {
        manifest,
        weights,
        evaluation: json!({}),
        card: "A digit.".to_owned(),
        reports: Default::default(),
    };
    Registry::open(stage.path("fixture")).unwrap().publish("digits", draft).unwrap();
    stage
}

fn production(models: &Path) -> u64 {
    Registry::open(models).unwrap().aliases("digits").unwrap()["production"]
}

#[test]
fn without_a_server_it_ends_after_the_prediction_and_a_second_run_goes_as_well() {
    let stage = stage();
    let models = stage.path("models");
    for version in [1, 2] {
        let arguments = ["--no-build", "quickstart", "--no-serve", "--models", models.to_str().unwrap()];
        let output = stage.run(&arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        for expected in ["[1/5] ", "[5/5] ", "predicted 7 with 98.0 %, labelled 7: right", "all 5 steps: "] {
            assert!(stderr.contains(expected), "{expected:?} is not in {stderr}");
        }
        let stdout = text(&output.stdout);
        assert!(stdout.starts_with("trained\nevaluated\n"), "{stdout}");
        assert!(stdout.ends_with("Serve it: cargo xtask serve\n"), "{stdout}");
        assert_eq!(production(&models), version);
    }
    assert!(!stage.path("started").exists());
}

#[test]
fn json_is_one_object_and_quiet_is_quiet() {
    let stage = stage();
    let models = stage.path("models");
    let arguments =
        ["--no-build", "quickstart", "--no-serve", "--json", "--models", models.to_str().unwrap()];
    let output = stage.run(&arguments);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["version"], 1);
    assert_eq!(result["predicted"], "7");
    assert_eq!(result["labelled"], "7");
    let calls = fs::read_to_string(stage.path("calls")).unwrap();
    assert_eq!(calls.lines().filter(|call| call.contains("--quiet")).count(), 3, "{calls}");
}

/// Answers as the server would, on a port, and returns the body that `/predict` got.
fn act_as_server(port: u16, started: &Path, class: &str) -> String {
    while !started.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    loop {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut head = Vec::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let answer = json!({ "class": class }).to_string();
        write!(stream.get_mut(), "HTTP/1.0 200 OK\r\n\r\n{answer}").unwrap();
        if head[0].starts_with("POST /predict ") {
            return String::from_utf8(body).unwrap();
        }
    }
}

/// Runs the whole tour against a server that answers `class`; asks it to stop once it serves.
fn serve(class: &'static str) -> (Stage, Option<i32>, String, String) {
    let stage = stage();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = stage.path("started");
    let server = std::thread::spawn(move || act_as_server(port, &started, class));
    let models = stage.path("models");
    let port = port.to_string();
    let arguments = ["--no-build", "quickstart", "--port", &port, "--models", models.to_str().unwrap()];
    let mut xtask = spawn(stage.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut stdout = BufReader::new(xtask.stdout.take().unwrap());
    let mut output = String::new();
    while stdout.read_line(&mut output).unwrap() > 0 {
        if output.contains("Ctrl-C") {
            let kill = format!("kill -TERM {}", xtask.id());
            assert!(spawn(Command::new("/bin/sh").args(["-c", &kill])).wait().unwrap().success());
            break;
        }
    }
    let code = xtask.wait().unwrap().code();
    let asked = server.join().unwrap();
    (stage, code, output, asked)
}

#[test]
fn it_serves_until_it_is_asked_to_stop_and_leaves_no_server_behind() {
    let (stage, code, output, asked) = serve("7");
    assert_eq!(code, Some(0), "{output}");
    assert!(stage.path("stopped").exists());
    let input: Value = serde_json::from_str(&asked).unwrap();
    assert_eq!(input["input"].as_array().unwrap().len(), 8);
    // The line to paste sends what was sent.
    assert!(
        output.contains(&format!("/predict -H 'content-type: application/json' -d '{asked}'")),
        "{output}"
    );
    assert!(output.contains("Playground:  http://127.0.0.1:"), "{output}");
    let calls = fs::read_to_string(stage.path("calls")).unwrap();
    assert!(calls.contains("--default-model digits@production"), "{calls}");
}

#[test]
fn a_server_that_answers_otherwise_than_the_library_is_an_error_and_is_stopped() {
    let (stage, code, output, _) = serve("1");
    assert_eq!(code, Some(3), "{output}");
    assert!(stage.path("stopped").exists());
}
