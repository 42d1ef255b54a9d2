//! `compress prune`, `cluster`, `distill` and `quantize --method qat` as a person runs them: what they write, what they
//! refuse, and their exit codes.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use predict::DeviceSpec;
use serde_json::Value;

use crate::compare::shape;
use crate::place::{Place, data, open, text};

/// Every command, on a model that it can do something with.
const EVERY: [&[&str]; 5] = [
    &["prune", "digits@1", "--set", "sensitivity.curves=false"],
    &["prune", "pixels@1", "--method", "magnitude"],
    &["cluster", "pixels@1"],
    &["distill", "--teacher", "digits@1"],
    &["quantize", "pixels@1", "--method", "qat"],
];

const QUICK: [&str; 4] = ["--set", "finetune.epochs=1", "--set", "gate.max_drop=100"];

/// A training that undoes what there was.
const RUINOUS: [&str; 6] = [
    "--set",
    "finetune.epochs=1",
    "--set",
    "finetune.optimizer.learning_rate=0.9",
    "--set",
    "gate.max_drop=0.5",
];

#[test]
fn each_command_packs_the_next_version_with_its_story() {
    let place = Place::trained();
    let expected = [
        ("digits@2", "prune", "channels: "),
        ("pixels@2", "prune", "90.0 % of the weights zero"),
        ("pixels@3", "cluster", "at most 32 values per layer"),
        ("digits-student@1", "distill", "mlp, taught by digits@1"),
        ("pixels@4", "quantize", "3 layers trained for int8"),
    ];
    for (arguments, (name, method, summary)) in EVERY.iter().zip(expected) {
        let result = place.made(&[*arguments, &QUICK].concat());
        assert_eq!(result["model"], name, "{result}");
        assert_eq!((&result["method"], &result["after"]["model"]), (&method.into(), &name.into()));
        let package = place.package(name);
        let parent = arguments.iter().find(|argument| argument.ends_with("@1")).unwrap();
        let manifest = package.manifest();
        assert_eq!(manifest.lineage.parent.as_deref(), Some(*parent));
        let steps = serde_json::to_value(&manifest.lineage.steps).unwrap();
        assert_eq!((steps.as_array().unwrap().len(), &steps), (1, &result["steps"]));
        assert_eq!(steps[0]["method"], method);
        let told = steps[0]["summary"].as_str().unwrap();
        assert!(told.starts_with(summary), "{told}");

        // What is packed is what was told, and what answers.
        let folder = place.path("models").join(name.replace('@', "/"));
        let report = std::fs::read_to_string(folder.join("compression.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        for (key, value) in report.as_object().unwrap().iter().filter(|(key, _)| *key != "after") {
            assert_eq!(value, &result[key], "{name}: {key}");
        }
        let bytes = std::fs::metadata(folder.join("weights.bpk")).unwrap().len();
        assert_eq!(result["after"]["record_bytes"], bytes, "{name}");
        let packed = manifest.metrics["accuracy"];
        assert!((result["after"]["score"].as_f64().unwrap() - packed).abs() < 1e-9, "{name}");
        let predictor = open(&package, DeviceSpec::Cpu);
        assert_eq!(predictor.self_check().unwrap().samples, 16, "{name}");
        let data = data(&package);
        let again =
            train::evaluate::evaluate(&predictor, &data, "test", &data.splits.test, &mut |_| ()).unwrap();
        assert!((again.metrics["accuracy"] - packed).abs() < 1e-9, "{name}");
        let coded = matches!(name, "pixels@2" | "pixels@3");
        let weights = manifest.files.iter().find(|file| file.path == "weights.bpk").unwrap();
        assert_eq!(!weights.encoding.is_empty(), coded, "{name}");
    }
    assert!(place.registry().verify().unwrap().is_sound());
}

/// Fields that programs may rely on.
#[test]
fn json_has_the_same_fields_for_every_command() {
    let place = Place::trained();
    let before = place.files();
    for arguments in EVERY {
        let mut result = place.made(&[arguments, &QUICK, &["--no-pack"]].concat());
        let fields = result.as_object_mut().unwrap();
        assert_eq!((&fields["model"], &fields["package"]), (&Value::Null, &Value::Null));
        // Methods have findings of their own.
        let own = [
            "config",
            "groups",
            "fixed",
            "costs",
            "sensitivity",
            "epochs",
            "zeros",
            "codebooks",
            "agreement",
        ];
        own.iter().for_each(|key| drop(fields.remove(*key)));
        let mut lines = Vec::new();
        shape(&result, "", &mut lines);
        let side = |name: &str| {
            let fields = [
                "int8_macs number",
                "interval[0] number",
                "interval[1] number",
                "kernels string",
                "latency[0].batch number",
                "latency[0].least_us number",
                "latency[0].median_us number",
                "latency[1].batch number",
                "latency[1].least_us number",
                "latency[1].median_us number",
                "macs number",
                "metric string",
                "model string",
                "nonzero number",
                "parameters number",
                "precision string",
                "record_bytes number",
                "score number",
            ];
            fields.map(|field| format!(".{name}.{field}"))
        };
        let last = [
            ".chosen_on string",
            ".drop_choosing number",
            ".drop_test number",
            ".json_version number",
            ".method string",
            ".model null",
            ".package null",
            ".steps[0].method string",
            ".steps[0].summary string",
        ];
        lines.sort();
        let expected: Vec<String> =
            side("after").into_iter().chain(side("before")).chain(last.map(str::to_owned)).collect();
        assert_eq!(lines, expected, "{arguments:?}");
        assert_eq!(result["chosen_on"], "validation");
    }
    assert!(place.files() == before, "--no-pack wrote something");
}

#[test]
fn what_misses_its_gate_is_not_packed() {
    let place = Place::trained();
    let before = place.files();
    for arguments in EVERY {
        let output = place.command(&[arguments, &RUINOUS].concat()).output().unwrap();
        let (said, message) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}{message}");
        assert!(said.contains("nothing is packed: on the test split"), "{arguments:?}: {said}");
        assert!(said.contains("0.5 is allowed") && said.contains("weights file"), "{arguments:?}: {said}");
        assert!(place.files() == before, "{arguments:?}: a failed gate wrote something");
    }
}

#[test]
fn refusals_name_the_place_and_what_would_be_right() {
    let place = Place::quantized();
    let before = place.files();
    std::fs::write(place.path("wrong.toml"), "version = 1\nsparsty = 0.5\n").unwrap();
    std::fs::write(place.path("two.toml"), "version = 2\n").unwrap();
    let prune = |model, rest: &[&'static str]| [&["prune", model], rest].concat();
    let magnitude = |rest: &[&'static str]| [&["prune", "pixels@1", "--method", "magnitude"], rest].concat();
    let cluster = |model, rest: &[&'static str]| [&["cluster", model], rest].concat();
    let distill = |teacher, rest: &[&'static str]| [&["distill", "--teacher", teacher], rest].concat();
    let qat = |model, rest: &[&'static str]| [&["quantize", model, "--method", "qat"], rest].concat();
    let auto = |model, rest: &[&'static str]| [&["auto", model], rest].concat();
    let cases: &[(Vec<&str>, &[&str])] = &[
        // The model.
        (prune("moon@1", &[]), &["moon", "models ls"]),
        (cluster("digits@9", &[]), &["digits", "version 9", "models ls"]),
        (distill("moon", &[]), &["moon", "models ls"]),
        // What is integers already.
        (prune("digits@2", &[]), &["is quantized already", "the package that it was made from"]),
        (
            prune("digits@2", &["--method", "magnitude"]),
            &["is quantized already", "the package that it was made from"],
        ),
        (cluster("digits@2", &[]), &["is quantized already", "the package that it was made from"]),
        (qat("digits@2", &[]), &["digits@2 is quantized already", "digits@1"]),
        (auto("digits@2", &[]), &["is quantized already", "the package that it was made from"]),
        // Layers and groups.
        (
            prune("digits@1", &["--set", "groups.exclude=['conv9']"]),
            &["`conv9`", "`groups.exclude`", "there are `conv1`, `conv2`"],
        ),
        (magnitude(&["--set", "dense=['conv*']"]), &["`conv*` in `dense`", "there are `fc1`, `fc2`"]),
        (
            magnitude(&["--set", "scope='layer'", "--set", "layers={ fc9 = 0.5 }"]),
            &["`fc9` in `layers`", "there are `fc1`"],
        ),
        (magnitude(&["--set", "dense=['*']"]), &["`dense` leaves no layer"]),
        (cluster("pixels@1", &["--set", "floats=['fc9']"]), &["`fc9` in `floats`", "there are `fc1`"]),
        (
            cluster("pixels@1", &["--set", "floats=['fc1']", "--set", "layers={ fc1 = 4 }"]),
            &["`fc1` is in `floats`", "in `layers`"],
        ),
        (qat("digits@1", &["--set", "float=['conv9']"]), &["`conv9` in `float`", "there are `conv1`"]),
        (qat("digits@1", &["--set", "float=['*']"]), &["no layer can run in int8", "`float`"]),
        (
            prune("digits@1", &["--set", "finetune.freeze=['conv9']"]),
            &["`finetune.freeze`", "`conv9`", "`conv1`"],
        ),
        // Budgets that cannot be.
        (
            prune("digits@1", &["--set", "budget.share=0.001"]),
            &["a share of 0.001 cannot be reached", "at its smallest size 0.", "raise `budget.share`"],
        ),
        (
            prune("digits@1", &["--set", "groups.exclude=['*']"]),
            &["nothing can be pruned", "excluded by `*`"],
        ),
        // Values.
        (
            prune("digits@1", &["--set", "budget.share=1.5"]),
            &["`budget.share` from `--set", "above 0 and below 1"],
        ),
        (prune("digits@1", &["--set", "budget.metric='flops'"]), &["`budget.metric`", "flops", "`macs`"]),
        (prune("digits@1", &["--set", "budget"]), &["--set budget", "key=value"]),
        (prune("digits@1", &["--set", "finetune.epochs=0"]), &["`finetune.epochs`", "at least 1"]),
        (prune("digits@1", &["--set", "sparsity=0.5"]), &["`sparsity`", "unknown key"]),
        (prune("digits@1", &["--config", "two.toml"]), &["two.toml", "`version`", "must be 1"]),
        (magnitude(&["--set", "sparsity=1"]), &["`sparsity` from `--set", "must be in [0, 1)"]),
        (magnitude(&["--config", "wrong.toml"]), &["wrong.toml:2", "did you mean `sparsity`?"]),
        (magnitude(&["--config", "missing.toml"]), &["missing.toml"]),
        (magnitude(&["--set", "gate.max_drop=101"]), &["`gate.max_drop`", "from 0 to 100"]),
        (cluster("pixels@1", &["--set", "clusters=1"]), &["`clusters` from `--set", "from 2 to 4096"]),
        (qat("digits@1", &["--set", "ranges.momentum=1"]), &["`ranges.momentum`", "must be in [0, 1)"]),
        (prune("digits@1", &["--method", "channels"]), &["--method", "channels", "structured", "magnitude"]),
        (
            prune("numbers@1", &["--set", "finetune.label_smoothing=0.1"]),
            &["`finetune.label_smoothing`", "classes"],
        ),
        (prune("digits@1", &["--device", "tpu"]), &["--device", "tpu", "cpu"]),
        // Students.
        (
            distill("digits@1", &["--set", "student.preset='lenet6'"]),
            &["the student cannot be built", "`lenet6`", "lenet-300-100, lenet5"],
        ),
        (
            distill("digits@1", &["--set", "student.preset='mlp'", "--set", "student.layers=[]"]),
            &["`student`", "`preset` or `layers`, not both"],
        ),
        (
            distill("digits@1", &["--set", "student.layers=[{ type = 'dense', units = 3 }]"]),
            &["the student cannot be built", "put a `flatten` layer before it"],
        ),
        (distill("digits@1", &["--name", "Small Digits"]), &["--name", "`Small Digits`", "a-z"]),
        (distill("digits@1", &["--set", "teaching.alpha=2"]), &["`teaching.alpha`", "from 0 to 1"]),
        (
            distill("digits@1", &["--set", "teaching.hints=[{ teacher = 'relu9', student = 'relu1' }]"]),
            &["`teaching.hints`", "`relu9`"],
        ),
        (
            distill("numbers@1", &["--set", "teaching.temperature=2"]),
            &["`teaching.temperature`", "regression"],
        ),
        (vec!["distill"], &["--teacher"]),
        // The search.
        (auto("digits@1", &["--target", "speed"]), &["--target", "speed", "latency or size"]),
        (auto("digits@1", &["--time", "10"]), &["--time", "s, m or h", "10m"]),
        (auto("digits@1", &["--time", "0m"]), &["--time", "10m"]),
        (auto("digits@1", &["--max-drop", "-1"]), &["`max_drop`", "from 0 to 100"]),
        (auto("digits@1", &["--max-drop=-1"]), &["`max_drop`", "from 0 to 100"]),
        (auto("digits@1", &["--max-drop", "nan"]), &["max_drop"]),
        (auto("digits@1", &["--set", "shares=[0.5, 1]"]), &["`shares`", "above 0 and below 1"]),
        (auto("digits@1", &["--set", "share=0.5"]), &["unknown key", "did you mean `shares`?"]),
        (auto("digits@1", &["--report", "models"]), &["--report models is a folder", "report.html"]),
        (auto("digits@1", &["--device", "tpu"]), &["--device", "tpu", "cpu"]),
    ];
    let mut wrong = Vec::new();
    for (arguments, parts) in cases {
        let output = place.run(arguments);
        let message = text(&output.stderr);
        let told = parts.iter().all(|part| message.contains(part));
        if output.status.code() != Some(2) || !told || !output.stdout.is_empty() {
            wrong.push(format!("{arguments:?} {parts:?}: {:?} {message}", output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(place.files() == before, "a refusal wrote something");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_training_and_packs_nothing() {
    let place = Place::trained();
    let before = place.files();
    let long = ["--set", "finetune.epochs=100000", "--set", "gate.max_drop=100"];
    let search =
        ["auto", "pixels@1", "--max-drop", "100", "--time", "10h", "--set", "finetune.epochs=100000"];
    let commands = EVERY.iter().map(|arguments| [*arguments, &long].concat());
    for arguments in commands.chain([search.to_vec()]) {
        let mut child =
            place.command(&arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while !lines.next().unwrap().unwrap().trim_start().starts_with("epoch") {}
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let rest = std::thread::spawn(move || lines.map(Result::unwrap).collect::<Vec<_>>().join("\n"));
        let output = child.wait_with_output().unwrap();
        let message = rest.join().unwrap();
        assert_eq!(output.status.code(), Some(130), "{arguments:?}: {message}");
        assert!(message.contains("nothing is packed"), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
        assert!(place.files() == before, "{arguments:?} wrote something");
    }
}
