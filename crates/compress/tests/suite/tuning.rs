//! Networks trained further: distilled, pruned, grouped and trained for int8, on the embedded digits.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use compress::cluster::{ClusterConfig, cluster};
use compress::distill::{DistillConfig, DistillError, HintConfig, TeachingConfig, distill, teach};
use compress::finetune::{FinetuneConfig, FinetuneError, FinetuneHooks, Finetuned, Guidance, finetune};
use compress::magnitude::{MagnitudeConfig, Scope, prune, prune_at_once, zeros};
use compress::qat::{QatConfig, RangesRule, qat};
use network::{Network, Postprocess, RawInput, Tensor, Weights};
use predict::{DeviceSpec, Parts, Predictor};
use train::config::{EarlyStoppingConfig, Metric};
use train::data::{DataConfig, DataSet, SourceKind, fit_preprocess, load};
use train::evaluate::evaluate;
use train::fit::{EpochRecord, Finish};

fn digits() -> &'static DataSet {
    static DATA: OnceLock<DataSet> = OnceLock::new();
    DATA.get_or_init(|| load(&DataConfig::new(SourceKind::Digits), 1).unwrap())
}

fn fresh(preset: &str, seed: u64) -> Parts {
    crate::training::one_thread();
    let data = digits();
    let preprocess = fit_preprocess(data, &DataConfig::new(SourceKind::Digits)).unwrap();
    let network = Network::new(network::preset(preset, &preprocess.output_shape(), 10).unwrap()).unwrap();
    let weights = model::initial_weights(&network, seed);
    let postprocess = Postprocess::new(data.task, data.labels.clone());
    Parts { network, preprocess, postprocess, weights, quantization: None }
}

fn with_hooks<R>(work: impl FnOnce(&mut FinetuneHooks<'_>) -> R) -> R {
    let mut epoch = |_: &EpochRecord| ();
    let stop = Arc::new(AtomicBool::new(false));
    work(&mut FinetuneHooks { epoch: &mut epoch, stop, device: DeviceSpec::Cpu })
}

fn config(epochs: usize, learning_rate: f64) -> FinetuneConfig {
    let mut config = FinetuneConfig { epochs, batch_size: 32, ..FinetuneConfig::default() };
    config.optimizer.learning_rate = learning_rate;
    config
}

fn tuned(parts: &Parts, config: &FinetuneConfig) -> Finetuned {
    with_hooks(|hooks| finetune(parts, digits(), config, Guidance::default(), hooks)).unwrap()
}

/// A trained network of each preset.
fn trained(preset: &'static str) -> Parts {
    static CNN: OnceLock<Parts> = OnceLock::new();
    static MLP: OnceLock<Parts> = OnceLock::new();
    let cell = if preset == "digits-cnn" { &CNN } else { &MLP };
    let make = || {
        let parts = fresh(preset, 1);
        Parts { weights: tuned(&parts, &config(4, 3e-3)).weights, ..parts }
    };
    cell.get_or_init(make).clone()
}

fn accuracy(parts: &Parts, split: &[usize]) -> f64 {
    let predictor = Predictor::from_parts(parts.clone(), DeviceSpec::Cpu).unwrap();
    evaluate(&predictor, digits(), "part", split, &mut |_| ()).unwrap().metrics["accuracy"]
}

fn validation(parts: &Parts) -> f64 {
    accuracy(parts, &digits().splits.validation)
}

fn logits(parts: &Parts) -> Vec<f32> {
    let predictor = Predictor::from_parts(parts.clone(), DeviceSpec::Cpu).unwrap();
    let rows = &digits().splits.validation;
    let inputs: Vec<RawInput> = rows.iter().map(|&row| digits().source.read(row).unwrap()).collect();
    let prepared = predictor.prepare(&inputs).unwrap();
    predictor.infer(&[prepared]).unwrap()[0].tensor.as_f32().unwrap().to_vec()
}

fn values<'a>(weights: &'a Weights, key: &str) -> &'a [f32] {
    weights[key].as_f32().unwrap()
}

#[test]
fn a_network_is_trained_further_and_every_epoch_is_told() {
    let parts = fresh("mlp", 3);
    let mut told = Vec::new();
    let mut epoch = |record: &EpochRecord| told.push(record.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let mut hooks = FinetuneHooks { epoch: &mut epoch, stop, device: DeviceSpec::Cpu };
    let found = finetune(&parts, digits(), &config(3, 3e-3), Guidance::default(), &mut hooks).unwrap();
    assert_eq!((found.finish, found.epoch), (Finish::Completed, 3));
    assert_eq!(told, found.history);
    let score = found.history[2].valid_score.unwrap();
    let parts = Parts { weights: found.weights, ..parts };
    assert!(score > 0.9, "{score}");
    assert!((score - validation(&parts)).abs() < 1e-9, "what is served scores as what was trained");
    // The same again gives the same bits.
    assert!(tuned(&fresh("mlp", 3), &config(3, 3e-3)).weights == parts.weights);
}

#[test]
fn a_training_that_is_stopped_gives_what_there_is() {
    let parts = fresh("mlp", 3);
    let mut epoch = |_: &EpochRecord| panic!("no epoch ends");
    let stop = Arc::new(AtomicBool::new(true));
    let mut hooks = FinetuneHooks { epoch: &mut epoch, stop, device: DeviceSpec::Cpu };
    let found = finetune(&parts, digits(), &config(3, 3e-3), Guidance::default(), &mut hooks).unwrap();
    assert_eq!((found.finish, found.history.len()), (Finish::Interrupted, 0));
    assert!(found.weights != parts.weights);
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let parts = fresh("mlp", 3);
    let refusal = |parts: &Parts, config: &FinetuneConfig| {
        with_hooks(|hooks| finetune(parts, digits(), config, Guidance::default(), hooks)).unwrap_err()
    };
    let none = FinetuneConfig { epochs: 0, ..FinetuneConfig::default() };
    assert_eq!(refusal(&parts, &none).to_string(), "`finetune.epochs` must be at least 1");
    let metric = EarlyStoppingConfig { patience: 1, metric: Metric::Mae, min_delta: 0.0 };
    let other = FinetuneConfig { early_stopping: Some(metric), ..config(1, 1e-3) };
    let expected = "`finetune.early_stopping.metric` must be `loss` or `accuracy` for this task";
    assert_eq!(refusal(&parts, &other).to_string(), expected);
    let frozen = FinetuneConfig { freeze: vec!["conv9".to_owned()], ..config(1, 1e-3) };
    assert!(matches!(refusal(&parts, &frozen), FinetuneError::Freeze(_)));
    let mut broken = parts.clone();
    let mut bias = values(&broken.weights, "fc1.bias").to_vec();
    bias[2] = f32::NAN;
    broken.weights.insert("fc1.bias".to_owned(), Tensor::from_f32(vec![bias.len()], bias).unwrap());
    let error = refusal(&broken, &config(1, 1e-3)).to_string();
    assert_eq!(error, "the weight `fc1.bias` is NaN at index 2, and training needs numbers");
}

#[test]
fn pruning_reaches_its_sparsity_and_zeros_stay() {
    let parent = trained("mlp");
    let before = validation(&parent);
    for (scope, expected) in [(Scope::Global, 0.8), (Scope::Lamp, 0.8), (Scope::Layer, 0.8)] {
        let finetune = config(8, 5e-3);
        let mut config = MagnitudeConfig { sparsity: 0.8, scope, finetune, ..MagnitudeConfig::default() };
        config.schedule.every = 10;
        if scope == Scope::Layer {
            config.layers.insert("fc3".to_owned(), 0.25);
        }
        let pruned = with_hooks(|hooks| prune(&parent, digits(), &config, None, hooks)).unwrap();
        let (mut all, mut zero) = (0, 0);
        for layer in &pruned.layers {
            let share = layer.zeros as f64 / layer.weights as f64;
            if scope == Scope::Layer {
                let expected = if layer.layer == "fc3" { 0.25 } else { expected };
                assert!((share - expected).abs() < 0.01, "{layer:?}");
            }
            all += layer.weights;
            zero += layer.zeros;
        }
        let share = zero as f64 / all as f64;
        assert!(scope == Scope::Layer || (share - expected).abs() < 1e-3, "{scope:?}: {share}");
        let after = validation(&pruned.parts);
        println!("{scope:?}: {before} became {after} at {share}");
        assert!(after > before - 0.03, "{scope:?}: {before} became {after}");
        // What is not a weight is not touched.
        assert!(!values(&pruned.parts.weights, "fc1.bias").contains(&0.0));
    }
}

#[test]
fn an_unsettled_mask_is_never_the_best() {
    let parent = trained("mlp");
    let stopping = EarlyStoppingConfig { patience: 1, metric: Metric::Accuracy, min_delta: 0.0 };
    let finetune = FinetuneConfig { early_stopping: Some(stopping), ..config(4, 1e-3) };
    let mut config = MagnitudeConfig { sparsity: 0.97, finetune, ..MagnitudeConfig::default() };
    (config.schedule.end, config.schedule.every) = (0.75, 10);
    let pruned = with_hooks(|hooks| prune(&parent, digits(), &config, None, hooks)).unwrap();
    let (zeros, all) = pruned.layers.iter().fold((0, 0), |sum, l| (sum.0 + l.zeros, sum.1 + l.weights));
    assert!(zeros as f64 >= 0.969 * all as f64, "{zeros} of {all}");
    assert!(pruned.tuned.epoch >= 3 && pruned.tuned.history.len() >= 3);
}

#[test]
fn zeros_stay_through_training_for_int8() {
    let config = MagnitudeConfig { sparsity: 0.7, ..MagnitudeConfig::default() };
    for preset in ["mlp", "digits-cnn"] {
        let pruned = prune_at_once(&trained(preset), &config).unwrap();
        let tuning = QatConfig { finetune: self::config(2, 1e-3), ..QatConfig::default() };
        let aware = with_hooks(|hooks| qat(&pruned, digits(), &tuning, None, None, hooks)).unwrap();
        let (before, floats, after) = (zeros(&pruned), zeros(&aware.floats), zeros(&aware.parts));
        assert!(before.iter().any(|layer| layer.zeros > 0));
        for ((before, floats), after) in before.iter().zip(&floats).zip(&after) {
            assert_eq!(before.zeros, floats.zeros, "{}", before.layer);
            assert!(after.zeros >= before.zeros, "{}", before.layer);
        }
        let (was, is) = (validation(&pruned), validation(&aware.parts));
        println!("{preset}: {was} of the pruned network became {is} in int8");
        assert!(is > 0.9, "{preset}: {was} became {is}");
    }
}

#[test]
fn groups_keep_their_number_of_values_and_their_zeros() {
    let parent = trained("mlp");
    let sparse = MagnitudeConfig { sparsity: 0.6, ..MagnitudeConfig::default() };
    let parent = prune_at_once(&parent, &sparse).unwrap();
    let finetune = config(8, 5e-3);
    let mut config = ClusterConfig { clusters: 8, biases: 4, finetune, ..ClusterConfig::default() };
    config.layers.insert("fc3".to_owned(), 16);
    let found = with_hooks(|hooks| cluster(&parent, digits(), &config, None, hooks)).unwrap();
    for book in &found.codebooks {
        let expected = match book.key.as_str() {
            key if key.ends_with(".bias") => 4,
            "fc3.weight" => 16,
            _ => 8,
        };
        assert_eq!(book.values.len(), expected, "{}", book.key);
        let (was, is) = (values(&parent.weights, &book.key), values(&found.parts.weights, &book.key));
        assert!(was.iter().zip(is).all(|(was, is)| *was != 0.0 || *is == 0.0), "{}", book.key);
    }
    // The centroids moved, and to the better.
    let untrained = compress::cluster::cluster_at_once(&parent, &config).unwrap();
    assert!(values(&untrained.weights, "fc1.weight") != values(&found.parts.weights, "fc1.weight"));
    let (was, is) = (validation(&untrained), validation(&found.parts));
    println!("{was} of the grouped network became {is}");
    assert!(is >= was && is > 0.9, "{was} became {is}");
}

#[test]
fn a_student_comes_to_the_answers_of_its_teacher() {
    let teacher = trained("digits-cnn");
    let mut config = DistillConfig { finetune: self::config(6, 3e-3), ..DistillConfig::default() };
    config.teaching = TeachingConfig { alpha: 1.0, temperature: Some(2.0), hints: Vec::new() };
    let student = with_hooks(|hooks| distill(&teacher, digits(), &config, hooks)).unwrap();
    let distance = |parts: &Parts| {
        let probabilities = |logits: &[f32]| {
            let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
            logits.iter().map(|logit| logit.exp() / sum).collect::<Vec<f32>>()
        };
        let (a, b) = (logits(&teacher), logits(parts));
        let rows = a.chunks(10).zip(b.chunks(10));
        let apart = |(a, b): (&[f32], &[f32])| {
            let pairs = probabilities(a).into_iter().zip(probabilities(b)).collect::<Vec<_>>();
            pairs.into_iter().map(|(a, b)| (a - b).abs()).sum::<f32>()
        };
        rows.map(apart).sum::<f32>() / (a.len() / 10) as f32
    };
    let (before, after) = (distance(&fresh("mlp", 1)), distance(&student.parts));
    println!("{before} apart at first, {after} at the end");
    assert!(after < before / 5.0 && after < 0.25, "{before} {after}");
    assert!(validation(&student.parts) > 0.9);
}

#[test]
fn hints_bring_layers_together_and_shapes_are_checked() {
    let teacher = trained("mlp");
    let hint = |teacher: &str, student: &str| HintConfig {
        teacher: teacher.to_owned(),
        student: student.to_owned(),
        weight: 0.5,
    };
    let mut config = DistillConfig { finetune: self::config(3, 3e-3), ..DistillConfig::default() };
    config.student.preset = Some("lenet-300-100".to_owned());
    config.teaching.hints = vec![hint("relu1", "relu1"), hint("relu2", "relu2")];
    let student = with_hooks(|hooks| distill(&teacher, digits(), &config, hooks)).unwrap();
    assert!(validation(&student.parts) > 0.9);
    assert_eq!(student.parts.network.spec().outputs.len(), 1, "the hints are gone");
    assert!(student.parts.weights.keys().all(|key| key.starts_with("fc")));
    let losses: Vec<f64> = student.tuned.history.iter().map(|epoch| epoch.train_loss).collect();
    assert!(losses[2] < losses[0] / 2.0, "{losses:?}");

    config.teaching.hints = vec![hint("relu9", "relu1")];
    let refusal = |teacher: &Parts, config: &DistillConfig| {
        with_hooks(|hooks| distill(teacher, digits(), config, hooks)).unwrap_err()
    };
    assert!(matches!(refusal(&teacher, &config), DistillError::Hint { .. }));
    config.teaching.hints = vec![hint("relu1", "nothing")];
    let error = format!("{:?}", refusal(&teacher, &config));
    assert!(error.contains("hint.0") && error.contains("nothing"), "{error}");
    // An image cannot be learned by a row.
    let cnn = trained("digits-cnn");
    config.teaching.hints = vec![hint("conv1", "relu1")];
    assert!(format!("{:?}", refusal(&cnn, &config)).contains("all but the first number"));
    // Convolutions of other widths learn from each other, through a 1×1 convolution.
    config.student = toml::from_str(
        "layers = [{ name = 'conv', type = 'conv2d', channels = 4, kernel = 3, padding = 1 }, { type = 'relu' }, \
         { type = 'flatten' }, { name = 'fc', type = 'dense', units = 10 }]",
    )
    .unwrap();
    config.teaching.hints = vec![hint("conv1", "conv")];
    let student = with_hooks(|hooks| distill(&cnn, digits(), &config, hooks)).unwrap();
    assert!(validation(&student.parts) > 0.85);
}

#[test]
fn teacher_and_student_must_see_and_tell_the_same() {
    let teacher = trained("mlp");
    let student = fresh("mlp", 1);
    let mut other = student.clone();
    other.postprocess.labels.reverse();
    let refusal = |student: &Parts| teach(&teacher, student, &TeachingConfig::default()).unwrap_err();
    assert!(matches!(refusal(&other), DistillError::Answers { .. }));
    let mut other = student.clone();
    if let network::Preprocess::Image(image) = &mut other.preprocess {
        image.mean[0] += 1.0;
    }
    assert!(matches!(refusal(&other), DistillError::Preprocess));
}

#[test]
fn int8_runs_with_the_accuracy_that_training_saw() {
    for preset in ["mlp", "digits-cnn"] {
        let parent = trained(preset);
        let before = validation(&parent);
        for rule in [RangesRule::MovingAverage, RangesRule::Learned] {
            let mut config = QatConfig { finetune: self::config(2, 5e-4), ..QatConfig::default() };
            config.ranges.rule = rule;
            let aware = with_hooks(|hooks| qat(&parent, digits(), &config, None, None, hooks)).unwrap();
            let seen = aware.tuned.history.last().unwrap().valid_score.unwrap();
            let served = validation(&aware.parts);
            println!("{preset}, {rule:?}: {before} became {seen}, served {served}; {:?}", aware.agreement);
            assert!(aware.agreement.same >= 0.99, "{preset}, {rule:?}: {:?}", aware.agreement);
            assert!(aware.agreement.difference < 0.05, "{preset}, {rule:?}: {:?}", aware.agreement);
            let samples = digits().splits.validation.len() as f64;
            assert!((seen - served).abs() <= 1.5 / samples, "{preset}, {rule:?}: {seen} {served}");
            assert!(served >= before - 0.02, "{preset}, {rule:?}: {before} became {served}");
            let plan = aware.parts.quantization.as_ref().unwrap();
            assert!(plan.check(&aware.parts.network).is_ok());
            assert!(plan.activations.contains_key("input"));
        }
    }
}

/// Additions read bytes where the layer that adds is int8, and floats where it is not.
#[test]
fn residual_blocks_agree_whatever_is_int8() {
    let parent = fresh("resnet20", 1);
    let parent = Parts { weights: tuned(&parent, &config(1, 3e-3)).weights, ..parent };
    for float in [
        vec![],
        vec![
            "stage1.block2.conv2".to_owned(),
            "stage2.block2.conv1".to_owned(),
            "stage3.block2.conv2".to_owned(),
        ],
    ] {
        let mut config = QatConfig { finetune: self::config(1, 1e-4), ..QatConfig::default() };
        config.float.clone_from(&float);
        let aware = with_hooks(|hooks| qat(&parent, digits(), &config, None, None, hooks)).unwrap();
        let seen = aware.tuned.history.last().unwrap().valid_score.unwrap();
        let served = validation(&aware.parts);
        println!("{float:?}: {seen}, served {served}; {:?}", aware.agreement);
        assert!(aware.agreement.same >= 0.98 && aware.agreement.difference < 0.03, "{:?}", aware.agreement);
    }
}

#[test]
fn a_plan_to_begin_with_gives_layers_and_ranges() {
    let parent = trained("mlp");
    let mut config = QatConfig { finetune: self::config(1, 1e-6), ..QatConfig::default() };
    config.ranges.freeze_after = 0.0;
    config.float = vec!["fc1".to_owned()];
    let run = |config: &QatConfig, start: Option<&network::Quantization>| {
        with_hooks(|hooks| qat(&parent, digits(), config, start, None, hooks)).unwrap()
    };
    let first = run(&config, None).parts.quantization.unwrap();
    assert_eq!(first.layers, ["fc2", "fc3"]);
    assert!(!first.activations.contains_key("input"), "{:?}", first.activations);
    let mut start = first.clone();
    start.activations.values_mut().for_each(|affine| affine.scale *= 2.0);
    config.float.clear();
    let second = run(&config, Some(&start)).parts.quantization.unwrap();
    assert_eq!((second.layers, second.activations), (start.layers, start.activations));
    config.float = vec!["fc*".to_owned()];
    let error = with_hooks(|hooks| qat(&parent, digits(), &config, None, None, hooks)).unwrap_err();
    assert_eq!(error.to_string(), "no layer can run in int8: `float` keeps all that could in floats");
}

#[test]
fn the_committed_files_are_the_defaults() {
    fn check<C>(name: &str, fault: impl Fn(&C) -> Option<(String, String)>)
    where
        C: serde::de::DeserializeOwned + Default + PartialEq + std::fmt::Debug,
    {
        let path = format!("{}/../../configs/compress/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(toml::from_str::<C>(&text).unwrap(), C::default(), "{name}");
        assert_eq!(fault(&C::default()), None, "{name}");
    }
    check("distill", DistillConfig::fault);
    check("prune-magnitude", MagnitudeConfig::fault);
    check("qat", QatConfig::fault);
    check("cluster", ClusterConfig::fault);
    // This one is an experiment, and sound.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/compress/mnist-student.toml");
    let student: DistillConfig = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!((student.fault(), student.student.preset.as_deref()), (None, Some("mlp")));
}

#[test]
fn what_cannot_be_is_named() {
    let magnitude = |text: &str| toml::from_str::<MagnitudeConfig>(text).unwrap().fault().unwrap().0;
    assert_eq!(magnitude("sparsity = 1.0"), "sparsity");
    assert_eq!(magnitude("layers = { fc1 = 0.5 }"), "layers");
    assert_eq!(magnitude("schedule = { begin = 0.6 }"), "schedule.end");
    assert_eq!(magnitude("schedule = { initial = 0.95 }"), "schedule.initial");
    assert_eq!(magnitude("teaching = { alpha = 1.5 }"), "teaching.alpha");
    assert_eq!(magnitude("finetune = { batch_size = 0 }"), "finetune.batch_size");
    let optimizer = "finetune.optimizer = { kind = 'adam', learning_rate = 0.1, momentum = 0.9 }";
    assert_eq!(magnitude(optimizer), "finetune.optimizer.momentum");
    let qat = |text: &str| toml::from_str::<QatConfig>(text).unwrap().fault().unwrap().0;
    assert_eq!(qat("ranges.momentum = 1.0"), "ranges.momentum");
    assert_eq!(qat("gate.max_drop = nan"), "gate.max_drop");
    let distill = |text: &str| toml::from_str::<DistillConfig>(text).unwrap().fault().unwrap().0;
    assert_eq!(distill("student = { preset = 'mlp', layers = [] }"), "student");
    assert_eq!(distill("teaching.temperature = 0.0"), "teaching.temperature");
    let cluster = |text: &str| toml::from_str::<ClusterConfig>(text).unwrap().fault().unwrap().0;
    assert_eq!(cluster("clusters = 1"), "clusters");
    assert!(toml::from_str::<QatConfig>("ranges.method = 'min-max'").is_err());
}
