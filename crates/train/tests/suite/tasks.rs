//! Every task kind learns what there is to learn, and its package says so.

use artifact::manifest::Distribution;
use network::Task;

use super::support::{package, request, train};

fn config(name: &str, data: &str, network: &str, train: &str) -> String {
    format!(
        "version = 1\nname = '{name}'\n[data]\n{data}\n[network]\n{network}\n\
         [optimizer]\nkind = 'adamw'\nlearning_rate = 0.005\n[schedule]\nkind = 'cosine'\n\
         [train]\nseed = 1\ndevice = 'cpu'\n{train}\n"
    )
}

#[test]
fn every_task_learns() {
    let cases = [
        (
            "classes",
            "source = 'digits'",
            "preset = 'mlp'",
            "epochs = 6\nbatch_size = 32",
            "accuracy",
            0.93,
            Task::MultiClass,
        ),
        (
            "binary",
            "source = 'breast-cancer'",
            "preset = 'mlp'",
            "epochs = 12\nbatch_size = 32",
            "auroc",
            0.97,
            Task::Binary,
        ),
        (
            "numbers",
            "source = 'generated'\ngenerate = { kind = 'friedman1', samples = 1200 }",
            "preset = 'mlp'",
            "epochs = 30\nbatch_size = 32\nearly_stopping = { patience = 10, metric = 'mae' }",
            "r2",
            0.85,
            Task::Regression,
        ),
        (
            "labels",
            "source = 'generated'\ngenerate = { kind = 'shapes', samples = 1200 }",
            "preset = 'mlp'",
            "epochs = 15\nbatch_size = 32",
            "label_accuracy",
            0.8,
            Task::MultiLabel,
        ),
    ];
    for (name, data, network, fit, metric, least, task) in cases {
        let root = tempfile::tempdir().unwrap();
        let trained = train(&request(&config(name, data, network, fit), root.path(), None), false).unwrap();
        let value = trained.record.metrics[metric];
        assert!(value >= least, "{name}: {metric} is {value}");
        let package = package(root.path(), &format!("{name}@1"));
        let manifest = package.manifest();
        assert_eq!(manifest.postprocess.task, task, "{name}");
        assert_eq!(manifest.samples.len(), 16, "{name}");
        assert_eq!(manifest.lineage.run.as_deref(), Some(format!("{name}-1").as_str()));
        assert!(!manifest.reference.features.is_empty(), "{name}");
        let observed = manifest.reference.observed.as_ref().unwrap();
        let counted = |features: &[Distribution]| features.iter().map(Distribution::total).min();
        assert_eq!(counted(&observed.inputs), Some(manifest.reference.samples), "{name}");
        assert!(counted(&observed.outputs) >= Some(100), "{name}");
        let predictor = predict::Predictor::from_package(&package, model::DeviceSpec::Cpu).unwrap();
        assert_eq!(predictor.self_check().unwrap().samples, 16, "{name}");
        for file in [
            "config.resolved.toml",
            "run.json",
            "metrics.csv",
            "metrics.jsonl",
            "evaluation.json",
            "report.html",
        ] {
            assert!(trained.run.path().join(file).is_file(), "{name}: {file}");
        }
    }
}

#[test]
fn fine_tuning_loads_what_fits_and_keeps_what_is_frozen() {
    let root = tempfile::tempdir().unwrap();
    let first = config("base", "source = 'digits'", "preset = 'mlp'", "epochs = 2\nbatch_size = 64");
    train(&request(&first, root.path(), None), false).unwrap();
    let before = package(root.path(), "base@1").weights().unwrap();

    // The same classes: everything is loaded, also without a [network] table, and frozen layers stay.
    let tuned = config("tuned", "source = 'digits'", "", "epochs = 1\nbatch_size = 64");
    let tuned = tuned
        .replace("name = 'tuned'", "name = 'tuned'\ninit = 'base@1'\nfreeze = ['fc1']")
        .replace("[network]\n", "");
    let trained = train(&request(&tuned, root.path(), None), false).unwrap();
    assert_eq!(trained.record.parent.as_deref(), Some("base@1"));
    let after = package(root.path(), "tuned@1");
    assert_eq!(after.manifest().lineage.parent.as_deref(), Some("base@1"));
    let after = after.weights().unwrap();
    assert!(after["fc1.weight"] == before["fc1.weight"] && after["fc1.bias"] == before["fc1.bias"]);
    assert!(after["fc2.weight"] != before["fc2.weight"]);

    // Other classes of pictures of the same size: a new head.
    let folder = root.path().join("pictures");
    for (class, shade) in [("dark", 20u8), ("light", 200)] {
        std::fs::create_dir_all(folder.join(class)).unwrap();
        for index in 0..30u8 {
            let pixel = image::Luma([shade + index]);
            image::GrayImage::from_pixel(8, 8, pixel)
                .save(folder.join(class).join(format!("{index}.png")))
                .unwrap();
        }
    }
    let data = format!(
        "source = 'folder'\npath = '{}'\nimage = {{ channels = 1, size = [8, 8] }}",
        folder.display()
    );
    let headed = config("headed", &data, "", "epochs = 1\nbatch_size = 16");
    let headed =
        headed.replace("name = 'headed'", "name = 'headed'\ninit = 'base@1'").replace("[network]\n", "");
    let models = artifact::Registry::open(root.path().join("models")).unwrap();
    let prepared = train::prepare::prepare(&toml::from_str(&headed).unwrap(), &models).unwrap();
    let report = prepared.init.unwrap();
    assert_eq!(report.loaded, ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
    assert_eq!(
        report.fresh.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["fc3.weight", "fc3.bias"]
    );
    train(&request(&headed, root.path(), None), false).unwrap();

    let frozen = headed.replace("init = 'base@1'", "init = 'base@1'\nfreeze = ['fc3']");
    let message = train(&request(&frozen, root.path(), None), false).unwrap_err().to_string();
    assert!(message.contains("`freeze`: the layer `fc3` cannot stay as it is"), "{message}");
    let unknown = headed.replace("init = 'base@1'", "init = 'base@1'\nfreeze = ['conv*']");
    let message = train(&request(&unknown, root.path(), None), false).unwrap_err().to_string();
    assert!(message.contains("`freeze`: no layer is called `conv*`"), "{message}");
}
