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

/// `train` and `compress` publish a version by copying a package, `predict` says seven, and `serve` waits for its
/// end. With a file `refusal` on the stage, `compress` ends with the code in it instead; with a file `slow`, it takes
/// half a minute.
const PARTS: &str = r#"
echo "$(basename "$0") $*" >> "$STAGE/calls"
publish() {
    while [ "$1" != --models ]; do shift; done
    mkdir -p "$2/digits"
    version=1
    while [ -e "$2/digits/$version" ]; do version=$((version + 1)); done
    cp -r "$STAGE/fixture/digits/1" "$2/digits/$version"
}
case "$(basename "$0") $1" in
  "train train") publish "$@"; echo "trained" ;;
  "train evaluate") echo "evaluated" ;;
  "compress quantize")
    if [ -e "$STAGE/refusal" ]; then echo "nothing is packed"; exit "$(cat "$STAGE/refusal")"; fi
    if [ -e "$STAGE/slow" ]; then touch "$STAGE/started"; exec sleep 30; fi
    publish "$@"; echo "quantized" ;;
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
    let draft = Draft { evaluation: json!({}), card: "A digit.".to_owned(), ..Draft::new(manifest, weights) };
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
    for (version, int8) in [(1, 2), (3, 4)] {
        let arguments = ["--no-build", "quickstart", "--no-serve", "--models", models.to_str().unwrap()];
        let output = stage.run(&arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        for expected in [
            "[1/6] ",
            "[6/6] ",
            &format!("] quantize digits@{version} to int8"),
            &format!("$ cargo xtask quantize digits@{version} --config configs/compress/int8.toml"),
            "predicted 7 with 98.0 %, labelled 7: right",
            "predicted 7 with 98.0 %, in int8: the two agree",
            "all 6 steps: ",
        ] {
            assert!(stderr.contains(expected), "{expected:?} is not in {stderr}");
        }
        let stdout = text(&output.stdout);
        assert!(stdout.starts_with("trained\nevaluated\nquantized\n"), "{stdout}");
        assert!(stdout.contains(&format!("digits@{int8} in int8 in ")), "{stdout}");
        assert!(stdout.ends_with("Serve both: cargo xtask serve\n"), "{stdout}");
        assert_eq!(production(&models), version);
    }
    assert!(!stage.path("started").exists());
}

#[test]
fn without_an_int8_version_the_tour_goes_on_and_ends_with_the_status_of_that_step() {
    for code in [1, 3] {
        let stage = stage();
        fs::write(stage.path("refusal"), code.to_string()).unwrap();
        let models = stage.path("models");
        let arguments = ["--no-build", "quickstart", "--no-serve", "--models", models.to_str().unwrap()];
        let output = stage.run(&arguments);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        for expected in ["the tour goes on without digits@1 in int8", "labelled 7: right", "all 6 steps: "] {
            assert!(stderr.contains(expected), "{expected:?} is not in {stderr}");
        }
        assert!(!stderr.contains("agree"), "{stderr}");
        assert!(stdout.starts_with("trained\nevaluated\nnothing is packed\n"), "{stdout}");
        assert!(stdout.ends_with("Serve it: cargo xtask serve\n"), "{stdout}");
        let output = stage.run(&[&arguments[..], &["--json"]].concat());
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&result["version"], &result["int8"]), (&json!(2), &Value::Null));
    }
}

#[test]
fn an_interrupted_quantization_ends_the_tour() {
    let stage = stage();
    fs::write(stage.path("slow"), "").unwrap();
    let models = stage.path("models");
    let arguments = ["--no-build", "quickstart", "--no-serve", "--models", models.to_str().unwrap()];
    let mut command = stage.command(&arguments);
    let running = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    wait_for(&stage.path("started"));
    terminate(running.id());
    let output = running.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(!stderr.contains("goes on") && !stderr.contains("[6/6]"), "{stderr}");
}

fn wait_for(file: &Path) {
    while !file.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn terminate(id: u32) {
    let kill = format!("kill -TERM {id}");
    assert!(spawn(Command::new("/bin/sh").args(["-c", &kill])).wait().unwrap().success());
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
    let int8 = &result["int8"];
    assert_eq!(
        (&int8["version"], &int8["predicted"], &int8["agrees"]),
        (&json!(2), &json!("7"), &json!(true))
    );
    assert_eq!(int8["package"], json!(models.join("digits/2")));
    let calls = fs::read_to_string(stage.path("calls")).unwrap();
    assert_eq!(calls.lines().filter(|call| call.contains("--quiet")).count(), 5, "{calls}");
}

/// The paths that the tour asks, in order.
const ASKED: [&str; 2] = ["/predict", "/models/digits/versions/2/predict"];

/// Answers the paths of [`ASKED`] with these classes, on a port, until the tour has nothing more to ask; returns the
/// bodies that it sent.
fn act_as_server(port: u16, started: &Path, classes: [&str; 2]) -> Vec<String> {
    wait_for(started);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut bodies = Vec::new();
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
        let asked = ASKED.iter().position(|path| head[0].starts_with(&format!("POST {path} ")));
        let class = asked.map_or("", |index| classes[index]);
        let answer = json!({ "class": class }).to_string();
        write!(stream.get_mut(), "HTTP/1.0 200 OK\r\n\r\n{answer}").unwrap();
        if let Some(index) = asked {
            assert_eq!(index, bodies.len(), "out of turn: {head:?}");
            bodies.push(String::from_utf8(body).unwrap());
            // After an answer that is not the library's, nothing else is asked.
            if bodies.len() == ASKED.len() || class != "7" {
                return bodies;
            }
        }
    }
}

/// Runs the whole tour against a server that answers with these classes; asks it to stop once it serves.
fn serve(classes: [&'static str; 2]) -> (Stage, Option<i32>, String, Vec<String>) {
    let stage = stage();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = stage.path("started");
    let server = std::thread::spawn(move || act_as_server(port, &started, classes));
    let models = stage.path("models");
    let port = port.to_string();
    let arguments = ["--no-build", "quickstart", "--port", &port, "--models", models.to_str().unwrap()];
    let mut xtask = spawn(stage.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut stdout = BufReader::new(xtask.stdout.take().unwrap());
    let mut output = String::new();
    while stdout.read_line(&mut output).unwrap() > 0 {
        if output.contains("Ctrl-C") {
            terminate(xtask.id());
            break;
        }
    }
    let code = xtask.wait().unwrap().code();
    let asked = server.join().unwrap();
    (stage, code, output, asked)
}

#[test]
fn it_serves_until_it_is_asked_to_stop_and_leaves_no_server_behind() {
    let (stage, code, output, asked) = serve(["7", "7"]);
    assert_eq!(code, Some(0), "{output}");
    assert!(stage.path("stopped").exists());
    assert_eq!(asked[0], asked[1]);
    let asked = &asked[0];
    let input: Value = serde_json::from_str(asked).unwrap();
    assert_eq!(input["input"].as_array().unwrap().len(), 8);
    // The line to paste sends what was sent.
    assert!(
        output.contains(&format!("/predict -H 'content-type: application/json' -d '{asked}'")),
        "{output}"
    );
    assert!(output.contains("Playground:  http://127.0.0.1:"), "{output}");
    assert!(output.contains("as the library does: 7 from digits@1, 7 from digits@2.\n"), "{output}");
    assert!(output.contains("/#digits@1,2\n"), "{output}");
    let calls = fs::read_to_string(stage.path("calls")).unwrap();
    assert!(calls.contains("--default-model digits@production"), "{calls}");
}

#[test]
fn a_server_that_answers_otherwise_than_the_library_is_an_error_and_is_stopped() {
    for classes in [["1", "7"], ["7", "1"]] {
        let (stage, code, output, _) = serve(classes);
        assert_eq!(code, Some(3), "{output}");
        assert!(stage.path("stopped").exists());
    }
}
