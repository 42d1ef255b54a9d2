//! A run that was stopped and resumed, after every single step, ends with the bits of one that was not.

use train::fit::Finish;
use train::pipeline::{Request, Stage, TrainError};
use train::run::RunDirectory;

use super::support::{package, request, train, train_observed};

/// Dropout, batch norm, shifts, shuffling, early stopping, clipping, L1, decay and a schedule: everything
/// that has a state or draws at random.
fn config(optimizer: &str, data: &str, layers: &str) -> String {
    format!(
        "version = 1\nname = 'x'\n[data]\n{data}\n[network]\nlayers = [{layers}]\n\
         [optimizer]\n{optimizer}\nl1 = 1e-4\nweight_decay = 0.01\nclip_norm = 0.5\n\
         [schedule]\nkind = 'cosine'\nwarmup_steps = 3\n\
         [train]\nepochs = 3\nbatch_size = 48\nseed = 7\ndevice = 'cpu'\naugment = {{ shift = 1 }}\n\
         label_smoothing = 0.1\nclass_weights = 'balanced'\n\
         early_stopping = {{ patience = 2, metric = 'label_accuracy' }}\n"
    )
}

const SHAPES: &str = "source = 'generated'\ngenerate = { kind = 'shapes', samples = 240 }";
const LAYERS: &str = "{ type = 'conv2d', channels = 4, kernel = 3 }, { type = 'batch_norm' }, { type = 'relu' }, \
    { type = 'max_pool2d', kernel = 2 }, { type = 'flatten' }, { type = 'dropout', probability = 0.3 }, \
    { type = 'dense', units = 4 }";

#[test]
fn a_resumed_run_is_the_uninterrupted_run() {
    let optimizers = [
        "kind = 'sgd'\nlearning_rate = 0.05\nmomentum = 0.9\nnesterov = true",
        "kind = 'adam'\nlearning_rate = 0.01",
        "kind = 'adamw'\nlearning_rate = 0.01",
        "kind = 'adagrad'\nlearning_rate = 0.05",
        "kind = 'rmsprop'\nlearning_rate = 0.005\nmomentum = 0.5",
    ];
    for optimizer in optimizers {
        let config = config(optimizer, SHAPES, LAYERS);
        let whole = tempfile::tempdir().unwrap();
        let straight = train(&request(&config, whole.path(), None), false).unwrap();
        assert_ne!(straight.finish, Finish::Interrupted);

        let parts = tempfile::tempdir().unwrap();
        let mut stopped = train(&request(&config, parts.path(), None), true).unwrap();
        let mut times = 0;
        while stopped.finish == Finish::Interrupted {
            let run = RunDirectory::open(&parts.path().join("runs"), "x-1").unwrap();
            times += 1;
            assert!(times < 100, "the run does not move");
            stopped = train(&request(&config, parts.path(), Some(run)), true).unwrap();
        }
        assert!(times >= 9, "{optimizer}: only {times} stops");

        let weights = |root| std::fs::read(package(root, "x@1").path().join("weights.bpk")).unwrap();
        assert!(weights(whole.path()) == weights(parts.path()), "{optimizer}: the weights differ");
        assert_eq!(straight.evaluation, stopped.evaluation, "{optimizer}");
        assert_eq!(straight.record.best_epoch, stopped.record.best_epoch, "{optimizer}");
        assert_eq!(history(&straight.run), history(&stopped.run), "{optimizer}");
    }
}

/// The text of the epochs' files without what is measured in seconds; text, because parsing could round.
fn history(run: &RunDirectory) -> Vec<String> {
    let read = |name| std::fs::read_to_string(run.path().join(name)).unwrap();
    let timed = |field: &str| field.starts_with("\"seconds\"") || field.starts_with("\"samples_per_second\"");
    let lines = read("metrics.jsonl");
    let lines = lines.lines().map(|line| {
        let kept: Vec<&str> = line.split(',').filter(|field| !timed(field)).collect();
        assert_eq!(kept.len(), line.split(',').count() - 2, "{line}");
        kept.join(",")
    });
    let table = read("metrics.csv");
    let rows = table.lines().map(|row| {
        let mut fields: Vec<&str> = row.split(',').collect();
        fields.drain(7..9);
        fields.join(",")
    });
    lines.chain(rows).collect()
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_does_not() {
    let config = config("kind = 'adamw'\nlearning_rate = 0.01", SHAPES, LAYERS);
    let root = tempfile::tempdir().unwrap();
    for seed in [7, 7, 8] {
        let config = config.replace("seed = 7", &format!("seed = {seed}"));
        train(&request(&config, root.path(), None), false).unwrap();
    }
    let weights = |reference| package(root.path(), reference).weights().unwrap();
    assert!(weights("x@1") == weights("x@2"));
    assert!(weights("x@1") != weights("x@3"));
}

#[test]
fn a_finished_run_and_other_data_are_refused() {
    let config = config("kind = 'adamw'\nlearning_rate = 0.01", SHAPES, LAYERS);
    let root = tempfile::tempdir().unwrap();
    let unpacked = Request { publish: None, ..request(&config, root.path(), None) };
    let trained = train(&unpacked, false).unwrap();
    let again = Request { resume: Some(trained.run), ..unpacked };
    let error = train(&again, false).unwrap_err();
    assert!(error.to_string().starts_with("the run x-1 is over"), "{error}");
    let trained = train(&request(&config, root.path(), None), false).unwrap();
    let error = train(&request(&config, root.path(), Some(trained.run)), false).unwrap_err();
    assert!(error.to_string().starts_with("the run x-2 is over"), "{error}");

    let stopped = train(&request(&config, root.path(), None), true).unwrap();
    let other = config.replace("samples = 240", "samples = 250");
    let error = train(&request(&other, root.path(), Some(stopped.run.clone())), false).unwrap_err();
    assert!(error.to_string().contains("was on other data"), "{error}");

    // A damaged checkpoint is not believed.
    let folder =
        std::fs::read_dir(stopped.run.path().join("checkpoint")).unwrap().next().unwrap().unwrap().path();
    let file = folder.join("optimizer.bpk");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = train(&request(&config, root.path(), Some(stopped.run)), false).unwrap_err();
    assert!(error.to_string().contains("has no whole checkpoint"), "{error}");
    assert!(error.to_string().contains("digest"), "{error}");
}

#[test]
fn a_trained_run_without_a_package_goes_on_to_its_package() {
    let config = config("kind = 'adamw'\nlearning_rate = 0.01", SHAPES, LAYERS);
    let root = tempfile::tempdir().unwrap();
    let whole = train(&request(&config, root.path(), None), false).unwrap();
    let weights = |reference| package(root.path(), reference).weights().unwrap();

    // Left unpacked on purpose.
    let unpacked = Request { publish: None, ..request(&config, root.path(), None) };
    let trained = train(&unpacked, false).unwrap();
    let packed = train(&request(&config, root.path(), Some(trained.run)), false).unwrap();
    assert_eq!((packed.finish, packed.record.model.as_deref()), (whole.finish, Some("x@2")));
    assert!(weights("x@1") == weights("x@2"));

    // The registry is gone when the training is over.
    let (models, aside) = (root.path().join("models"), root.path().join("aside"));
    let mut vanish = |stage: Stage<'_>| {
        if matches!(stage, Stage::Fitted(_)) {
            std::fs::rename(&models, &aside).unwrap();
            std::fs::write(&models, "").unwrap();
        }
    };
    let error = train_observed(&request(&config, root.path(), None), false, &mut vanish).unwrap_err();
    assert!(matches!(&error, TrainError::Publish { run, .. } if run == "x-3"), "{error}");
    let run = RunDirectory::open(&root.path().join("runs"), "x-3").unwrap();
    assert_eq!(run.record().unwrap().finish, None);

    // Nothing is begun while it is not there.
    let other = request(&config, root.path(), Some(run.clone()));
    let error = train(&other, false).unwrap_err();
    assert!(!matches!(error, TrainError::Publish { .. }), "{error}");

    std::fs::remove_file(&models).unwrap();
    std::fs::rename(&aside, &models).unwrap();
    let packed = train(&request(&config, root.path(), Some(run.clone())), false).unwrap();
    assert_eq!(packed.record.model.as_deref(), Some("x@3"));
    assert_eq!(packed.evaluation, whole.evaluation);
    assert!(run.path().join("report.html").is_file());
    assert_eq!(run.record().unwrap().finish, Some(whole.finish));
    assert!(weights("x@1") == weights("x@3"));
}
