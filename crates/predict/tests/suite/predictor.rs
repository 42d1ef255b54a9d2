//! The library.

use artifact::Registry;
use network::{Cell, NamedTensor, Postprocess, Prediction, RawInput, Task, Tensor};
use predict::{DeviceSpec, Placement, Precision, PredictError, Predictor};

use crate::{image_input, image_parts, labels, parts, publish, row_input, table, table_parts};

fn open(parts: predict::Parts) -> Predictor {
    Predictor::from_parts(parts, DeviceSpec::Cpu).unwrap()
}

#[test]
fn it_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    let predictor = open(image_parts());
    shared(&predictor);
    let expected = predictor.predict(&[image_input(1)]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(predictor.predict(&[image_input(1)]).unwrap(), expected));
        }
    });
}

/// However a batch is cut, the answers are those of the inputs one by one.
#[test]
fn batched_is_unbatched() {
    let inputs: Vec<RawInput> = (0..37).map(image_input).collect();
    let single = open(image_parts());
    let alone: Vec<Prediction> =
        inputs.iter().map(|input| single.predict(std::slice::from_ref(input)).unwrap().remove(0)).collect();
    assert_ne!(alone[0], alone[1]);
    for rows in [1, 2, 5, 36, 37, 1000] {
        let predictor = open(image_parts()).with_pass_rows(rows);
        let together = predictor.predict(&inputs).unwrap();
        assert_eq!(together.len(), inputs.len());
        for (index, (a, b)) in alone.iter().zip(&together).enumerate() {
            let (
                Prediction::Class { logits: a, class: x, .. },
                Prediction::Class { logits: b, class: y, .. },
            ) = (a, b)
            else {
                panic!("not classes: {a:?}, {b:?}");
            };
            assert_eq!(x, y);
            for (a, b) in a.iter().zip(b) {
                // The order of a sum may depend on the size of the batch.
                assert!((a - b).abs() <= 1e-5 * a.abs().max(1.0), "rows {rows}, input {index}: {a} and {b}");
            }
        }
    }
}

#[test]
fn prepared_tensors_give_the_answers_of_raw_inputs() {
    let predictor = open(image_parts());
    let inputs = [image_input(3), image_input(4)];
    let prepared = predictor.prepare(&inputs).unwrap();
    assert_eq!((prepared.name.as_str(), prepared.tensor.shape()), ("input", &[2, 1, 4, 6][..]));
    let outputs = predictor.infer(std::slice::from_ref(&prepared)).unwrap();
    assert_eq!((outputs[0].name.as_str(), outputs[0].tensor.shape()), ("logits", &[2, 3][..]));
    assert_eq!(predictor.finish(&outputs).unwrap(), predictor.predict(&inputs).unwrap());
    // The same sample as a prepared raw input.
    let values = prepared.tensor.as_f32().unwrap()[..24].to_vec();
    let sample = RawInput::Prepared(Tensor::from_f32(vec![1, 4, 6], values).unwrap());
    assert_eq!(predictor.predict(&[sample]).unwrap(), predictor.predict(&inputs[..1]).unwrap());
}

#[test]
fn an_empty_batch_is_answered_with_nothing() {
    let predictor = open(image_parts());
    assert_eq!(predictor.predict(&[]).unwrap(), []);
    let prepared = predictor.prepare(&[]).unwrap();
    assert_eq!(predictor.infer(&[prepared]).unwrap()[0].tensor.shape(), [0, 3]);
}

#[test]
fn every_task_has_its_answer() {
    let row = row_input(Cell::Number(50.0), Cell::Number(80.0), Cell::Text("red".to_owned()));
    let dense = |units: usize| format!(r#"{{"type": "dense", "units": {units}}}"#);

    let predictions = open(table_parts()).predict(std::slice::from_ref(&row)).unwrap();
    assert!(matches!(&predictions[0], Prediction::Class { probabilities, .. } if probabilities.len() == 2));

    let several = parts(table(), Postprocess::new(Task::MultiLabel, labels(&["x", "y"])), &dense(2));
    let predictions = open(several).predict(std::slice::from_ref(&row)).unwrap();
    assert!(matches!(&predictions[0], Prediction::Labels { probabilities, .. } if probabilities.len() == 2));

    let numbers = parts(table(), Postprocess::new(Task::Regression, labels(&["price"])), &dense(1));
    let predictions = open(numbers).predict(&[row]).unwrap();
    assert!(matches!(&predictions[0], Prediction::Values { values } if values.len() == 1));
}

#[test]
fn refused_inputs_are_named_by_their_index() {
    let good = || row_input(Cell::Missing, Cell::Number(80.0), Cell::Text("red".to_owned()));
    let bad = row_input(Cell::Missing, Cell::Missing, Cell::Text("red".to_owned()));
    // Past the first pass, in small batches and in those that are prepared in parallel.
    for (count, index) in [(3, 1), (40, 38)] {
        let mut inputs: Vec<RawInput> = (0..count).map(|_| good()).collect();
        inputs[index] = bad.clone();
        for rows in [4, 100] {
            let predictor = open(table_parts()).with_pass_rows(rows);
            let error = predictor.predict(&inputs).unwrap_err();
            let PredictError::Input(refused) = &error else { panic!("{error}") };
            assert_eq!(refused.index, index);
            assert_eq!(
                error.to_string(),
                format!(
                    "input {index}: column `weight` has no value, and the model was trained without missing values there"
                )
            );
        }
    }
}

#[test]
fn prepared_inputs_that_do_not_fit_are_refused() {
    let predictor = open(image_parts());
    let named = |name: &str, shape: &[usize]| NamedTensor {
        name: name.to_owned(),
        tensor: Tensor::from_f32(shape.to_vec(), vec![0.0; shape.iter().product()]).unwrap(),
    };
    let cases = [
        (named("input", &[2, 4, 6]), "input `input` must be FP32 [batch, 1, 4, 6], but is FP32 [2, 4, 6]"),
        (
            named("pixels", &[2, 1, 4, 6]),
            "there is no input `pixels`; the model takes `input` FP32 [batch, 1, 4, 6]",
        ),
    ];
    for (input, expected) in cases {
        assert_eq!(predictor.infer(&[input]).unwrap_err().to_string(), expected);
    }
    let message = predictor.finish(&[named("logits", &[2, 4])]).unwrap_err().to_string();
    assert!(message.contains("FP32 [batch, 3]"), "{message}");
}

#[test]
fn parts_that_do_not_fit_each_other_are_refused() {
    let mut wrong = image_parts();
    wrong.preprocess = table();
    let message = Predictor::from_parts(wrong, DeviceSpec::Cpu).unwrap_err().to_string();
    assert_eq!(message, "the preprocessing gives [4], but the network takes [1, 4, 6]");

    let mut wrong = image_parts();
    wrong.postprocess.labels.pop();
    let message = Predictor::from_parts(wrong, DeviceSpec::Cpu).unwrap_err().to_string();
    assert!(message.contains("3"), "{message}");

    let message = Predictor::from_parts(image_parts(), DeviceSpec::Cuda(77)).unwrap_err().to_string();
    assert!(message.contains("the device `cuda:77` is not"), "{message}");
}

#[test]
fn packages_answer_and_check_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path()).unwrap();
    let samples = [image_input(0), image_input(1), image_input(2)];
    publish(&registry, "animals", image_parts(), &samples);
    let predictor = Predictor::open(&registry, &"animals@1".parse().unwrap(), DeviceSpec::Cpu).unwrap();
    assert_eq!((predictor.name(), predictor.version()), ("animals", 1));
    assert!(predictor.manifest().is_some());
    assert_eq!(predictor.predict(&samples).unwrap(), open(image_parts()).predict(&samples).unwrap());
    let check = predictor.self_check().unwrap();
    assert_eq!(check.samples, 3);
    assert!(check.largest_difference < 1e-5);

    // Without samples it runs zeros.
    assert_eq!(open(image_parts()).self_check().unwrap().samples, 0);
}

/// A model that computes something else than when it was packed is found out.
#[test]
fn the_self_check_fails_when_answers_differ() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path()).unwrap();
    let mut changed = image_parts();
    let predictor = open(image_parts());
    let prepared = predictor.prepare(&[image_input(0)]).unwrap();
    let mut logits = predictor.infer(&[prepared]).unwrap()[0].tensor.as_f32().unwrap().to_vec();
    logits[2] += 0.01;
    // The weights of one seed with the answers of another computation.
    let mut manifest = artifact::Manifest::new(
        "animals",
        &changed.network,
        changed.preprocess.clone(),
        changed.postprocess.clone(),
    );
    let input = artifact::SampleInput::from_raw(&image_input(0)).unwrap();
    manifest.samples.push(artifact::Sample { input, logits });
    let weights = std::mem::take(&mut changed.weights);
    registry.publish("animals", artifact::Draft::new(manifest, weights)).unwrap();
    let predictor = Predictor::open(&registry, &"animals".parse().unwrap(), DeviceSpec::Cpu).unwrap();
    let message = predictor.self_check().unwrap_err().to_string();
    assert!(message.contains("output 2 of sample 0"), "{message}");
    assert!(message.contains("the device `cpu`"), "{message}");
}

#[test]
fn half_precision_answers_nearly_the_same() {
    let inputs = [image_input(0), image_input(1)];
    let exact = open(image_parts()).predict(&inputs).unwrap();
    for precision in [Precision::F16, Precision::Bf16] {
        let placement = Placement { device: DeviceSpec::Cpu, precision };
        let predictor = Predictor::from_parts(image_parts(), placement).unwrap();
        assert_eq!((predictor.device(), predictor.precision()), (DeviceSpec::Cpu, precision));
        // Without samples it is compared with 32 bits, and has not the same answers to the bit.
        let check = predictor.self_check().unwrap();
        assert_eq!((check.samples, check.made_up), (0, 4));
        assert!(check.largest_difference > 0.0);
        for (exact, half) in exact.iter().zip(predictor.predict(&inputs).unwrap()) {
            let (
                Prediction::Class { class: a, logits: x, .. },
                Prediction::Class { class: b, logits: y, .. },
            ) = (exact, &half)
            else {
                panic!("not classes");
            };
            assert_eq!(a, b);
            assert_ne!(x, y, "computed in {precision}");
        }
    }
}

/// What 16 bits cannot hold is an error, not an answer.
#[test]
fn an_overflow_in_half_precision_is_refused() {
    let numbers = || network::Preprocess::Numbers { shape: vec![2] };
    let postprocess = || Postprocess::new(Task::Regression, labels(&["price"]));
    let parts = || parts(numbers(), postprocess(), r#"{"type": "dense", "units": 1}"#);
    let rows = [RawInput::Numbers(vec![1.0, 1.0]), RawInput::Numbers(vec![1e30, 1.0])];
    assert!(open(parts()).predict(&rows).is_ok());
    let half = |precision| Predictor::from_parts(parts(), Placement { device: DeviceSpec::Cpu, precision });
    assert!(half(Precision::Bf16).unwrap().predict(&rows).is_ok(), "bf16 has the range of f32");
    let message = half(Precision::F16).unwrap().predict(&rows).unwrap_err().to_string();
    assert!(message.starts_with("the answer to row 1 is not a finite number in f16"), "{message}");
}

/// Callers name the input by the row, so it must be theirs, not that of a pass.
#[test]
fn an_overflow_is_named_by_its_row_in_the_whole_batch() {
    let numbers = network::Preprocess::Numbers { shape: vec![2] };
    let postprocess = Postprocess::new(Task::Regression, labels(&["price"]));
    let parts = parts(numbers, postprocess, r#"{"type": "dense", "units": 1}"#);
    let placement = Placement { device: DeviceSpec::Cpu, precision: Precision::F16 };
    let mut rows = vec![RawInput::Numbers(vec![1.0, 1.0]); 7];
    rows[5] = RawInput::Numbers(vec![1e30, 1.0]);
    let any_size = Predictor::from_parts(parts.clone(), placement).unwrap();
    let small = Predictor::from_parts(parts.clone(), placement).unwrap().with_pass_rows(2);
    let sizes = Predictor::from_parts(parts, placement).unwrap().with_batch_sizes(&[1, 4]);
    for predictor in [any_size, small, sizes] {
        let prepared = predictor.prepare(&rows).unwrap();
        for error in [predictor.predict(&rows).unwrap_err(), predictor.infer(&[prepared]).unwrap_err()] {
            assert!(matches!(error, PredictError::Overflow { row: 5, .. }), "{error}");
        }
    }
}

#[test]
fn warming_up_runs_every_size_that_is_needed() {
    let predictor = open(image_parts());
    assert_eq!(predictor.batch_sizes(), [0; 0]);
    let warm = predictor.warm_up().unwrap();
    assert_eq!((warm.len(), warm[0].rows, warm[0].again), (1, 1, None));

    let predictor = predictor.with_batch_sizes(&[2, 8, 32]);
    assert_eq!((predictor.batch_sizes(), predictor.pass_rows()), (&[2, 8, 32][..], 32));
    let rows = |warm: Vec<predict::WarmUp>| warm.iter().map(|warm| warm.rows).collect::<Vec<_>>();
    let warm = predictor.warm_up().unwrap();
    assert!(warm.iter().all(|warm| warm.again.is_some()));
    assert_eq!(rows(warm), [2, 8, 32]);
    assert_eq!(rows(predictor.warm_up_for(3).unwrap()), [8]);
    assert_eq!(rows(predictor.warm_up_for(33).unwrap()), [2, 32]);
    assert_eq!(rows(predictor.warm_up_for(0).unwrap()), [0; 0]);
}
