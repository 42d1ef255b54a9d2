//! Every way to quantize: what it keeps of the accuracy, what it says, what it refuses.

use compress::config::{Method, Mode, QuantizeConfig, Scales};
use compress::finish::drop_between;
use compress::quantize::{QuantizeError, Quantized, Stage, quantize};
use engine::{Options, Program};
use export::Model;
use network::{DType, Tensor};
use predict::{DeviceSpec, Parts, Predictor};
use train::data::DataSet;
use train::evaluate::evaluate;

use crate::place::{DIGITS, PIXELS, Place, data, open, parts, text};
use crate::runtime::{self, Optimize};

/// A trained model of floats and its data.
fn trained(name: &str) -> (Parts, DataSet) {
    crate::training::one_thread();
    let place = Place::trained();
    let package = place.package(&format!("{name}@1"));
    (parts(&package), data(&package))
}

fn config(change: impl Fn(&mut QuantizeConfig)) -> QuantizeConfig {
    let mut config = QuantizeConfig::default();
    config.layers.faster_only = false;
    change(&mut config);
    assert_eq!(config.fault(), None);
    config
}

fn run(parts: &Parts, data: &DataSet, config: &QuantizeConfig) -> Result<Quantized, QuantizeError> {
    quantize(parts, data, config, &mut |_| ())
}

fn refusal(parts: &Parts, data: &DataSet, config: &QuantizeConfig) -> String {
    run(parts, data, config).expect_err("it must be refused").to_string()
}

/// How far the headline metric falls on the test split.
fn lost(parts: &Parts, quantized: &Quantized, data: &DataSet) -> f64 {
    let score = |parts: &Parts| {
        let predictor = Predictor::from_parts(parts.clone(), DeviceSpec::Cpu).unwrap();
        evaluate(&predictor, data, "test", &data.splits.test, &mut |_| ()).unwrap()
    };
    drop_between(&score(parts), &score(&quantized.parts))
}

fn set_method(method: Method) -> impl Fn(&mut QuantizeConfig) {
    move |config| config.calibration.method = method
}

/// A name for a change of the configuration.
type Case<'a> = (&'a str, Box<dyn Fn(&mut QuantizeConfig)>);

fn cases() -> Vec<Case<'static>> {
    let weight_only = |bits: u8, block: usize| {
        Box::new(move |config: &mut QuantizeConfig| {
            config.mode = Mode::WeightOnly;
            (config.weight_only.bits, config.weight_only.block) = (bits, block);
        })
    };
    vec![
        ("static, min-max", Box::new(set_method(Method::MinMax))),
        ("static, percentile", Box::new(set_method(Method::Percentile))),
        ("static, entropy", Box::new(set_method(Method::Entropy))),
        ("static, mse", Box::new(set_method(Method::Mse))),
        ("static, auto", Box::new(set_method(Method::Auto))),
        ("static, per tensor", Box::new(|config| config.weights = Scales::PerTensor)),
        (
            "static, per tensor, equalized",
            Box::new(|config| (config.weights, config.equalize) = (Scales::PerTensor, true)),
        ),
        ("static, corrected", Box::new(|config| config.bias_correction = true)),
        ("dynamic", Box::new(|config| config.mode = Mode::Dynamic)),
        (
            "dynamic, per tensor, corrected",
            Box::new(|config| {
                (config.mode, config.weights, config.bias_correction) =
                    (Mode::Dynamic, Scales::PerTensor, true);
            }),
        ),
        ("weights of 8 bits in blocks of 32", weight_only(8, 32)),
        ("weights of 4 bits in blocks of 32", weight_only(4, 32)),
        ("weights of 4 bits in blocks of 128", weight_only(4, 128)),
    ]
}

#[test]
fn every_method_keeps_the_accuracy() {
    for name in [DIGITS, PIXELS] {
        let (parts, data) = trained(name);
        let rows = rows(&parts, &data, &data.splits.test);
        let exact = outputs(&parts, &rows);
        for (what, change) in cases() {
            // Dense layers alone are asked about what is not done to the others.
            if name == PIXELS && what.starts_with("static") {
                continue;
            }
            let mut config = config(change);
            // No layer shall go back: it is the method that is looked at.
            config.gate.max_drop = 3.0;
            let quantized = run(&parts, &data, &config).unwrap();
            let lost = lost(&parts, &quantized, &data);
            let found = outputs(&quantized.parts, &rows);
            let power =
                |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
            let noise = power(&mut exact.iter().zip(&found).map(|(a, b)| a - b));
            let ratio = 10.0 * (power(&mut exact.iter().copied()) / noise).log10();
            assert!(ratio > 15.0, "{name}, {what}: {ratio} dB");
            println!(
                "{name}, {what}: {ratio:.1} dB, {lost:+.3} lost on the test split, {:+.3} on validation",
                quantized.drop
            );
            assert!(lost <= 1.0, "{name}, {what}: {lost} is lost");
            let plan = quantized.parts.quantization.as_ref().unwrap();
            plan.check(&quantized.parts.network).unwrap();
            plan.check_weights(&quantized.parts.network, &quantized.parts.weights).unwrap();
            for choice in &quantized.layers {
                assert_eq!(plan.precision(&choice.layer), choice.precision, "{name}, {what}");
                assert!(choice.precision != "f32" && choice.drop.is_some(), "{name}, {what}: {choice:?}");
            }
            assert!(quantized.warnings.is_empty(), "{:?}", quantized.warnings);
        }
    }
}

/// Prepared samples, row after row.
fn rows(parts: &Parts, data: &DataSet, indices: &[usize]) -> Vec<f32> {
    let predictor = Predictor::from_parts(parts.clone(), DeviceSpec::Cpu).unwrap();
    let inputs: Vec<_> = indices.iter().map(|&row| data.source.read(row).unwrap()).collect();
    predictor.prepare(&inputs).unwrap().tensor.as_f32().unwrap().to_vec()
}

fn outputs(parts: &Parts, rows: &[f32]) -> Vec<f32> {
    let plan = parts.quantization.as_ref();
    let program = Program::from_record(&parts.network, &parts.weights, plan, Options::default()).unwrap();
    let count = rows.len() / program.inputs()[0].values;
    let mut outputs = vec![0.0; count * program.outputs()[0].values];
    program.run_all(None, &mut program.scratch(), &[rows], count, &mut [&mut outputs]).unwrap();
    outputs
}

/// The mean error of each output over many samples, as a share of the largest output.
fn bias(parts: &Parts, quantized: &Quantized, data: &DataSet) -> f64 {
    let rows = rows(parts, data, &data.splits.train);
    let [exact, found] = [parts, &quantized.parts].map(|parts| outputs(parts, &rows));
    let largest = exact.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let mut errors = [0.0f64; 10];
    for (exact, found) in exact.chunks(10).zip(found.chunks(10)) {
        for (error, (exact, found)) in errors.iter_mut().zip(exact.iter().zip(found)) {
            *error += f64::from(found - exact);
        }
    }
    let mean = |error: &f64| (error / data.splits.train.len() as f64).abs() / f64::from(largest);
    errors.iter().map(mean).fold(0.0, f64::max)
}

#[test]
fn a_corrected_bias_takes_the_mean_error_out() {
    for mode in [Mode::Static, Mode::Dynamic, Mode::WeightOnly] {
        let (parts, data) = trained(DIGITS);
        let with = |correct: bool| {
            let config = config(|config| {
                config.mode = mode;
                config.bias_correction = correct;
                config.weight_only.bits = 4;
                config.calibration.samples = 4096;
                if mode != Mode::WeightOnly {
                    config.weights = Scales::PerTensor;
                }
            });
            bias(&parts, &run(&parts, &data, &config).unwrap(), &data)
        };
        let [before, after] = [with(false), with(true)];
        println!("{mode:?}: a mean error of {before:.2e} of the largest output became {after:.2e}");
        assert!(after < 0.5 * before, "{mode:?}: {before} became {after}");
    }
}

#[test]
fn weights_in_blocks_are_floats_for_everyone() {
    let place = Place::trained();
    for (bits, name) in [(8, DIGITS), (4, PIXELS)] {
        let flags = [
            "--set",
            "mode='weight-only'",
            "--set",
            &format!("weight_only.bits={bits}"),
            "--set",
            "gate.max_drop=1",
        ];
        let output = place.quantize(&format!("{name}@1"), &flags);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let package = place.package(&format!("{name}@2"));
        let plan = package.quantization().unwrap();
        assert!(plan.layers.is_empty() && plan.weight_only.len() >= 3, "{plan:?}");
        let weights = package.weights().unwrap();
        for layer in plan.weight_only.keys() {
            assert_eq!(weights[&format!("{layer}.weight")].dtype(), DType::I8);
            assert_eq!(weights[&format!("{layer}.scale")].shape().len(), 2);
        }
        let cpu = open(&package, DeviceSpec::Cpu);
        assert!(!cpu.runs_int8() && cpu.precision_name() == "f32" && cpu.kernels().is_engine());
        assert_eq!(cpu.self_check().unwrap().samples, 16);
        let flex = open(&package, DeviceSpec::Flex);
        assert_eq!(flex.self_check().unwrap().samples, 16);
        let batches = crate::referees::batches(&cpu, &data(&package));
        let file = export::onnx(&Model::open(&package).unwrap()).unwrap();
        for batch in &batches {
            let values = |predictor: &Predictor| {
                let outputs = predictor.infer(std::slice::from_ref(batch)).unwrap();
                outputs[0].tensor.as_f32().unwrap().to_vec()
            };
            let expected = values(&cpu);
            let mut others = vec![("burn", values(&flex))];
            if runtime::is_here() {
                let found = runtime::run(&file, std::slice::from_ref(batch), Optimize::Everything);
                others.push(("onnxruntime", found.into_iter().next().unwrap().1));
            }
            let most = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            for (who, found) in others {
                let off = expected.iter().zip(&found).fold(0.0f32, |off, (a, b)| off.max((a - b).abs()));
                assert!(off <= 1e-4 * most, "{name}, {who}: off by {off} of {most}");
            }
        }
    }
    assert!(place.registry().verify().unwrap().is_sound());
}

/// A standard runtime gets the floats that the integers stand for, which is near what the engine computes.
#[test]
fn a_dynamic_model_is_exported_as_floats() {
    let (parts, data) = trained(DIGITS);
    let quantized = run(&parts, &data, &config(|config| config.mode = Mode::Dynamic)).unwrap().parts;
    let (plan, network) = (quantized.quantization.clone(), quantized.network.clone());
    let model = Model::new("digits", 1, network, quantized.weights.clone(), plan);
    assert_eq!(model.layers_as_floats(), ["conv1", "conv2", "conv3", "fc1", "fc2"]);
    let file = export::onnx(&model).unwrap();
    if !runtime::is_here() {
        return;
    }
    let predictor = Predictor::from_parts(quantized, DeviceSpec::Cpu).unwrap();
    for batch in crate::referees::batches(&predictor, &data) {
        let outputs = predictor.infer(std::slice::from_ref(&batch)).unwrap();
        let expected = outputs[0].tensor.as_f32().unwrap();
        let found = runtime::run(&file, std::slice::from_ref(&batch), Optimize::Everything).remove(0).1;
        let most = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let off = expected.iter().zip(&found).fold(0.0f32, |off, (a, b)| off.max((a - b).abs()));
        assert!(off > 0.0 && off <= 0.05 * most, "off by {off} of {most}");
    }
}

fn put(parts: &mut Parts, key: &str, change: impl Fn(&mut Vec<f32>)) {
    let tensor = &parts.weights[key];
    let (shape, mut values) = (tensor.shape().to_vec(), tensor.as_f32().unwrap().to_vec());
    change(&mut values);
    parts.weights.insert(key.to_owned(), Tensor::from_f32(shape, values).unwrap());
}

#[test]
fn what_cannot_be_quantized_is_named() {
    let (parts, data) = trained(DIGITS);
    let usual = config(|_| ());
    let dynamic = config(|config| (config.mode, config.bias_correction) = (Mode::Dynamic, false));

    let mut broken = parts.clone();
    put(&mut broken, "conv2.weight", |values| values[3] = f32::NAN);
    let message = refusal(&broken, &data, &usual);
    assert!(message.starts_with("`conv2.weight` is NaN at index 3"), "{message}");

    let again = run(&parts, &data, &usual).unwrap().parts;
    let message = refusal(&again, &data, &usual);
    assert!(message.contains("is quantized already"), "{message}");

    let few = config(|config| config.calibration.samples = 9);
    let message = refusal(&parts, &data, &few);
    assert!(message.contains("10 classes") && message.contains("`calibration.samples` is 9"), "{message}");

    // Nothing to calibrate with: only what needs no calibration can be done.
    let mut empty = data.clone();
    empty.splits.train.clear();
    let message = refusal(&parts, &empty, &usual);
    assert!(message.contains("the training split has no samples"), "{message}");
    run(&parts, &empty, &dynamic).unwrap();
    let corrected = config(|config| (config.mode, config.bias_correction) = (Mode::Dynamic, true));
    assert!(refusal(&parts, &empty, &corrected).contains("the training split has no samples"));
}

#[test]
fn a_class_that_nobody_stands_for_is_told() {
    let (parts, mut data) = trained(DIGITS);
    let class = |data: &DataSet, index: usize| data.source.target(index).unwrap().class();
    let without: Vec<usize> =
        data.splits.train.iter().copied().filter(|&index| class(&data, index) != Some(4)).collect();
    data.splits.train = without;
    let quantized = run(&parts, &data, &config(|_| ())).unwrap();
    assert_eq!(quantized.warnings.len(), 1, "{:?}", quantized.warnings);
    assert!(quantized.warnings[0].contains("class `4`"), "{:?}", quantized.warnings);
}

#[test]
fn a_value_that_is_always_zero_has_no_range_and_its_reader_stays_in_floats() {
    let (mut parts, data) = trained(DIGITS);
    put(&mut parts, "norm2.gamma", |values| values.fill(0.0));
    put(&mut parts, "norm2.beta", |values| values.fill(-1.0));
    let quantized = run(&parts, &data, &config(|_| ())).unwrap();
    let choice = quantized.layers.iter().find(|choice| choice.layer == "conv3").unwrap();
    let reason = choice.reason.as_deref().unwrap_or_default();
    assert!(choice.precision == "f32" && reason.contains("was 0 in every calibration sample"), "{choice:?}");
    let others = quantized.layers.iter().filter(|choice| choice.layer != "conv3");
    assert!(others.clone().count() >= 4 && others.clone().all(|choice| choice.precision == "int8"));
}

#[test]
fn layers_go_back_to_floats_in_order_of_harm_until_the_gate_holds() {
    let (parts, data) = trained(PIXELS);
    // Half of the values outside the range: something must go.
    let coarse = |config: &mut QuantizeConfig| {
        (config.calibration.method, config.calibration.percentile) = (Method::Percentile, 80.0);
        config.bias_correction = false;
        config.gate.max_drop = 0.3;
    };
    let mut stages = Vec::new();
    let config = config(coarse);
    let quantized = quantize(&parts, &data, &config, &mut |stage: Stage<'_>| {
        if let Stage::Score { int8, .. } = stage {
            stages.push(int8);
        }
    });
    assert!(stages.windows(2).all(|pair| pair[1] + 1 == pair[0]) && stages[0] == 3, "{stages:?}");
    match quantized {
        Ok(quantized) => {
            assert!(quantized.drop <= 0.3 && stages.len() > 1, "{stages:?}, {}", quantized.drop);
            let harm = |precision: &str| {
                let layers = quantized
                    .layers
                    .iter()
                    .filter(|choice| (choice.precision == "f32") == (precision == "f32"));
                layers.map(|choice| choice.drop.unwrap().max(0.0)).collect::<Vec<_>>()
            };
            let least = harm("f32").into_iter().fold(f64::INFINITY, f64::min);
            assert!(harm("int8").into_iter().all(|drop| drop <= least), "{:?}", quantized.layers);
        }
        Err(error) => {
            assert!(matches!(error, QuantizeError::TooLossy { .. }) && stages.last() == Some(&1), "{error}");
        }
    }
}
