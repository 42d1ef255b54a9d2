//! Every command once with success, and its refusals: the exit code, what was wrong, what would be right.

use serde_json::json;

use crate::support::{Place, quantized, root, run, run_with_input, trained};

/// A zero of the optical digits, as JSON.
const ZERO: &str = "[0,0,5,13,9,1,0,0, 0,0,13,15,10,15,5,0, 0,3,15,2,0,11,8,0, 0,4,12,0,0,8,8,0,
    0,5,8,0,0,9,8,0, 0,4,11,0,1,12,7,0, 0,2,14,5,10,12,0,0, 0,0,6,13,10,0,0,0]";

#[test]
fn train_leaves_a_run_and_a_package() {
    let place = trained();
    for file in
        ["config.resolved.toml", "run.json", "metrics.jsonl", "metrics.csv", "evaluation.json", "report.html"]
    {
        let path = place.path(&format!("runs/digits-1/{file}"));
        assert!(std::fs::metadata(&path).is_ok_and(|file| file.len() > 0), "{path}");
    }
    for file in ["manifest.json", "weights.bpk", "evaluation.json", "card.md"] {
        let path = place.path(&format!("models/digits/1/{file}"));
        assert!(std::fs::metadata(&path).is_ok_and(|file| file.len() > 0), "{path}");
    }
    let read = |path: &str| std::fs::read_to_string(place.path(path)).expect("it was written");
    let resolved = read("runs/digits-1/config.resolved.toml");
    assert!(resolved.contains("quickstart.toml:"), "origins are noted: {resolved}");
    assert!(resolved.contains("--set"), "origins are noted: {resolved}");
    let report = read("runs/digits-1/report.html");
    assert!(!report.contains("http://") || !report.contains("<script src"), "the report needs no network");
    assert_eq!(read("runs/digits-1/metrics.csv").lines().count(), 7, "a header and six epochs");
    let evaluation: serde_json::Value = serde_json::from_str(&read("runs/digits-1/evaluation.json")).unwrap();
    assert!(evaluation.to_string().len() > 500);
}

#[test]
fn evaluate_reproduces_the_packed_score() {
    let models = trained().path("models");
    for model in ["digits@1", "cancer@1"] {
        let said = run("train", &["evaluate", model, "--models", &models]).ok();
        assert!(said.out.contains("the same as packed, to the last digit"), "{said:?}");
    }
}

#[test]
fn quantize_makes_the_next_version_and_says_what_it_costs() {
    let (place, told) = quantized();
    let models = place.path("models");
    assert_eq!(
        (&told["model"], &told["package"]),
        (&json!("digits@2"), &json!(place.path("models/digits/2")))
    );
    let (before, after) = (&told["before"], &told["after"]);
    assert_eq!((&before["model"], &after["model"]), (&json!("digits@1"), &json!("digits@2")));
    assert_eq!(before["precision"], "f32");
    let precision = after["precision"].as_str().unwrap_or_default();
    assert!(precision.starts_with("int8"), "{precision}");
    let number = |side: &serde_json::Value, field: &str| side[field].as_f64().expect("a number");
    // A byte for each weight in int8 and four for the others, which are few or none.
    assert!(number(after, "record_bytes") < 0.9 * number(before, "record_bytes"), "{told}");
    // The gate of the configuration, in percentage points.
    assert!(100.0 * (number(before, "score") - number(after, "score")) <= 0.5, "{told}");
    assert_eq!(after["latency"].as_array().map(Vec::len), before["latency"].as_array().map(Vec::len));
    // The new version is one like any other: its score repeats, and its answers are served.
    let said = run("train", &["evaluate", "digits@2", "--models", &models]).ok();
    assert!(said.out.contains("the same as packed, to the last digit"), "{said:?}");
    let said = run_with_input("predict", &["digits@2", "-", "--models", &models, "--json"], ZERO.as_bytes());
    assert_eq!(said.ok().json()["predictions"][0]["class"], "0");
    let shown = run("xtask", &["models", "show", "digits@2", "--models", &models]).ok().out;
    assert!(shown.contains("digits@1"), "its parent is named: {shown}");
    // What cannot be done is refused, and nothing more is packed.
    let refused = |arguments: &[&str]| {
        run("compress", &[&["quantize", "--models", &models], arguments].concat()).refused(2)
    };
    let error = refused(&["digits@2"]);
    assert!(error.contains("quantized already") && error.contains("digits@1"), "{error}");
    let error = refused(&["digits@1", "--set", "layers.float=[\"conv9\"]"]);
    assert!(error.contains("conv9") && error.contains("`conv1`"), "{error}");
    let error = refused(&["digits@1", "--set", "calibration.method=\"median\""]);
    assert!(error.contains("calibration.method") && error.contains("min-max"), "{error}");
    let quantize = ["quantize", "digits@1", "--models", &models, "--no-pack"];
    let floats = ["--set", "layers.float=[\"fc*\"]", "--set", "layers.faster_only=false"];
    let said = run("compress", &[&quantize[..], &floats].concat()).ok();
    assert!(said.out.contains("the configuration says so"), "{said:?}");
    assert!(std::fs::metadata(place.path("models/digits/3")).is_err(), "nothing is packed");
}

#[test]
fn a_package_whose_score_does_not_repeat_fails_the_gate() {
    let place = Place::new();
    place.train(&["--config", "configs/train/breast-cancer.toml", "--set", "train.epochs=2", "--quiet"]).ok();
    // Somebody improves the score in the manifest.
    let path = place.path("models/breast-cancer/1/manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["metrics"]["accuracy"] = json!(0.5);
    std::fs::write(&path, manifest.to_string()).unwrap();
    let said = run("train", &["evaluate", "breast-cancer@1", "--models", &place.path("models")]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(format!("{}{}", said.out, said.err).contains("accuracy"), "{said:?}");
}

#[test]
fn predict_reads_json_images_and_standard_input() {
    let models = trained().path("models");
    let place = Place::new();
    let json_file = place.write("zero.json", ZERO);
    let said = run("predict", &["digits@1", &json_file, "--models", &models, "--json"]).ok().json();
    assert_eq!(said["predictions"][0]["class"], "0", "{said}");
    let piped = run_with_input("predict", &["digits", "-", "--models", &models, "--json"], ZERO.as_bytes());
    assert_eq!(piped.ok().json()["predictions"][0]["class"], "0");
    // The same pixels as a picture: 16 grey levels become 255.
    let pixels: Vec<u8> =
        serde_json::from_str::<Vec<u8>>(ZERO).unwrap().iter().map(|value| value * 15).collect();
    let path = place.path("zero.png");
    image::save_buffer(&path, &pixels, 8, 8, image::ExtendedColorType::L8).unwrap();
    let said = run("predict", &["digits", &path, "--models", &models]).ok();
    assert!(said.out.contains("is 0"), "{said:?}");
}

#[test]
fn predict_answers_every_row_of_a_table() {
    let csv =
        std::fs::read_to_string(root().join("crates/train/data/breast-cancer/breast-cancer.csv")).unwrap();
    let rows: Vec<&str> = csv.lines().take(4).collect();
    let place = Place::new();
    let path = place.write("rows.csv", rows.join("\n"));
    let said =
        run("predict", &["cancer", &path, "--models", &trained().path("models"), "--json"]).ok().json();
    assert_eq!(said["predictions"].as_array().map(Vec::len), Some(3), "{said}");
}

#[test]
fn models_are_listed_promoted_rolled_back_compared_and_verified() {
    let place = Place::new();
    for seed in ["1", "2"] {
        place
            .train(&[
                "--config",
                "configs/train/breast-cancer.toml",
                "--set",
                "train.epochs=2",
                "--seed",
                seed,
            ])
            .ok();
    }
    let models = place.path("models");
    let xtask = |arguments: &[&str]| run("xtask", &[&["models"], arguments, &["--models", &models]].concat());
    xtask(&["promote", "breast-cancer@1", "production"]).ok();
    xtask(&["promote", "breast-cancer@2", "production"]).ok();
    let listed = xtask(&["ls"]).ok().out;
    assert!(listed.contains("breast-cancer") && listed.contains("production"), "{listed}");
    assert!(run("predict", &["breast-cancer@production", "-", "--models", &models]).code == Some(3));
    xtask(&["rollback", "breast-cancer", "production"]).ok();
    let shown = xtask(&["show", "breast-cancer@production"]).ok().out;
    assert!(shown.contains("breast-cancer@1"), "{shown}");
    xtask(&["diff", "breast-cancer@1", "breast-cancer@2"]).ok();
    xtask(&["verify"]).ok();
    // One flipped bit in the record is found and named, and the package is not used any more.
    let weights = place.path("models/breast-cancer/2/weights.bpk");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let said = xtask(&["verify"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(format!("{}{}", said.out, said.err).contains("weights.bpk"), "{said:?}");
    let error = run("train", &["evaluate", "breast-cancer@2", "--models", &models]).refused(3);
    assert!(error.contains("weights.bpk"), "{error}");
    xtask(&["rm", "breast-cancer@1"]).refused(2);
    xtask(&["rm", "breast-cancer@2"]).ok();
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let place = Place::new();
    let models = trained().path("models");
    let bad_toml =
        place.write("bad.toml", "version = 1\nname = \"x\"\n[data]\nsource = \"digits\"\n[train\n");
    let misspelt = place.write(
        "misspelt.toml",
        "version = 1\nname = \"x\"\n[data]\nsource = \"digits\"\n[network]\npreset = \"digits-cnn\"\n[optimizer]\nleraning_rate = 1.0\n",
    );
    let unfit = place.write(
        "unfit.toml",
        "version = 1\nname = \"x\"\n[data]\nsource = \"digits\"\n[[network.layers]]\ntype = \"dense\"\nname = \"fc\"\nunits = 10\n",
    );
    let text = place.write("text.png", "this is no picture");
    let quickstart = "configs/train/quickstart.toml";
    let cases: &[(&str, &[&str], i32, &[&str])] = &[
        ("train", &["train", "--config", "nowhere.toml"], 2, &["nowhere.toml"]),
        ("train", &["train", "--config", &bad_toml], 2, &["bad.toml:5"]),
        (
            "train",
            &["train", "--config", &misspelt],
            2,
            &["leraning_rate", "misspelt.toml:8", "learning_rate"],
        ),
        ("train", &["train", "--config", &unfit], 2, &["`fc`", "[1, 8, 8]", "flatten"]),
        ("train", &["train", "--config", quickstart, "--set", "train.epochs=many"], 2, &["train.epochs"]),
        ("train", &["train", "--config", quickstart, "--set", "train.batch_size=0"], 2, &["batch_size"]),
        (
            "train",
            &["train", "--config", quickstart, "--set", "optimizer.nesterov=true"],
            2,
            &["nesterov", "sgd"],
        ),
        (
            "train",
            &["train", "--config", quickstart, "--set", "network.preset=lenet6"],
            2,
            &["lenet6", "lenet5"],
        ),
        ("train", &["train", "--config", quickstart, "--device", "cuda"], 2, &["cuda"]),
        ("train", &["train", "--config", quickstart, "--device", "gpu"], 2, &["gpu"]),
        ("train", &["train", "--resume", "nowhere-7"], 2, &["nowhere-7"]),
        (
            "train",
            &["train", "--config", quickstart, "--set", "data.source=mnist", "--set", "data.path=/nowhere"],
            3,
            &["/nowhere"],
        ),
        ("train", &["evaluate", "digits@77", "--models", &models], 2, &["77"]),
        ("train", &["data", "inspect", "--source", "nonsense"], 2, &["nonsense"]),
        ("train", &["data", "fetch", "imagenet"], 2, &["imagenet"]),
        ("predict", &["digits@1", &text, "--models", &models], 3, &["text.png"]),
        ("predict", &["digits@1", "nowhere.png", "--models", &models], 2, &["nowhere.png"]),
        ("predict", &["digitz", &text, "--models", &models], 2, &["digitz", "digits"]),
        ("predict", &["digits@one@two", &text, "--models", &models], 2, &["one@two"]),
        ("serve", &["--models", "/nowhere"], 2, &["/nowhere"]),
        ("serve", &["--models", &models, "--port", "99999"], 2, &["99999"]),
        ("xtask", &["models", "promote", "digits@9", "production", "--models", &models], 2, &["9"]),
        ("xtask", &["models", "promote", "digits@1", "latest", "--models", &models], 2, &["latest"]),
        ("xtask", &["frobnicate"], 2, &["frobnicate"]),
    ];
    let mut wrong = Vec::new();
    for (name, arguments, code, parts) in cases {
        let said = run(name, arguments);
        let named = parts.iter().all(|part| said.err.contains(part));
        let error = said.err.contains("error: ") && !said.err.contains("panicked");
        if said.code != Some(*code) || !named || !error {
            wrong.push(format!("{name} {arguments:?} must end with {code} and name {parts:?}: {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn data_is_inspected_and_fetched_from_a_folder() {
    let said = run("train", &["data", "inspect", "--source", "breast-cancer", "--json"]).ok().json();
    assert!(said.to_string().contains("malignant") || said.to_string().contains("diagnosis"), "{said}");
    // Files that are not the real ones are refused by their digest.
    let place = Place::new();
    for name in ["train-images", "train-labels", "t10k-images", "t10k-labels"] {
        let kind = if name.ends_with("images") { "idx3" } else { "idx1" };
        place.write(&format!("from/{name}-{kind}-ubyte"), [0, 0, 8, 1, 0, 0, 0, 0]);
    }
    let (from, data) = (place.path("from"), place.path("data"));
    let error = run("train", &["data", "fetch", "mnist", "--from", &from, "--data", &data]).refused(3);
    assert!(error.to_lowercase().contains("sha-256"), "{error}");
}

/// The boards on digits, with few epochs: every seed trains, is made small or taught, and has its row.
#[test]
fn boards_repeat_an_experiment_over_seeds() {
    let place = Place::new();
    let folder = place.path("board");
    let board = |arguments: &[&str]| run("xtask", &[&["--no-build", "bench"], arguments].concat());
    let digits = ["data.source=digits", "data.split={ validation = 0.1, test = 0.2 }", "train.epochs=3"];
    let mut small = vec!["small", "lenet-300-100", "--seeds", "2", "--folder", &folder];
    small.extend(digits.iter().flat_map(|value| ["--train-set", *value]));
    let training =
        "finetune = { epochs = 3, batch_size = 32, optimizer = { kind = 'adam', learning_rate = 0.005 } }";
    let steps = format!(
        "steps=[{{ method = 'magnitude', sparsity = 0.8, {training} }}, {{ method = 'cluster', clusters = 16, {training} }}]"
    );
    small.extend(["--set", &steps, "--set", "gate.max_drop=100"]);
    let told = board(&[&small[..], &["--json"]].concat()).ok().json();
    let rows = told["seeds"].as_array().expect("a list");
    assert_eq!((rows.len(), &told["network"]), (2, &json!("lenet-300-100")), "{told}");
    for row in rows {
        let number = |field: &str| row[field].as_f64().expect("a number");
        // Not more than a few bits for each of 50,610 parameters, and classes are still told apart.
        assert!(number("times_smaller") > 10.0 && number("error_after") < 30.0, "{row}");
        let bytes = 4.0 * 50_610.0 / number("times_smaller");
        assert!((bytes - number("bytes")).abs() < 1.0, "{row}");
    }
    assert_ne!(rows[0], rows[1], "each seed is an experiment of its own");
    let mean = rows.iter().map(|row| row["bytes"].as_f64().unwrap_or_default()).sum::<f64>() / 2.0;
    assert_eq!(told["mean"]["bytes"].as_f64(), Some(mean));
    // Seeds that were trained are not trained again.
    let again = board(&[&small[..], &["--quiet"]].concat()).ok().out;
    assert!(again.contains("times smaller") && again.contains("mean"), "{again}");

    let models = trained().path("models");
    let distill = ["distill", "--teacher", "digits@1", "--models", &models, "--seeds", "2", "--json"];
    let student = ["--set", "student.preset=mlp", "--set", "finetune.epochs=2"];
    let told = board(&[&distill[..], &student].concat()).ok().json();
    let rows = told["seeds"].as_array().expect("a list");
    assert_eq!((rows.len(), &told["teacher"]), (2, &json!("digits@1")), "{told}");
    let difference = |row: &serde_json::Value| {
        row["alone"].as_f64().unwrap_or(f64::NAN) - row["taught"].as_f64().unwrap_or(f64::NAN)
    };
    let mean = rows.iter().map(difference).sum::<f64>() / 2.0;
    assert!((mean - told["difference"]["mean"].as_f64().expect("a number")).abs() < 1e-9, "{told}");
    assert!(told["difference"]["standard_error"].is_number(), "{told}");
}

#[test]
fn a_network_is_printed_so_that_it_can_be_used() {
    let place = Place::new();
    let arguments = ["train", "--config", "configs/train/quickstart.toml", "--print-network"];
    let printed = run("train", &arguments).ok().out;
    let config = format!("version = 1\nname = \"copy\"\n[data]\nsource = \"digits\"\n{printed}");
    let copied = place.write("copy.toml", config);
    let said = place.train(&["--config", &copied, "--dry-run"]);
    assert_eq!(said.code, Some(0), "{said:?}\n{printed}");
}

#[test]
fn results_as_json_are_one_object() {
    let models = trained().path("models");
    let listed = run("xtask", &["models", "ls", "--models", &models, "--json"]).ok().json();
    assert!(listed["json_version"].is_number(), "{listed}");
    let evaluated = run("train", &["evaluate", "digits@1", "--models", &models, "--json"]).ok().json();
    assert!(evaluated["json_version"].is_number(), "{evaluated}");
    assert_eq!(json!(evaluated).get("error"), None);
}
