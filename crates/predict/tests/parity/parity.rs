//! The comparisons.

use model::{DeviceError, DeviceSpec};
use predict::{Kernels, Placement, Precision, PredictError, Predictor};

use crate::{CASES, Packed, Place, allowed, input, logits, parts, quantized, worst};

/// A test on a device that is not there would test nothing, so whoever runs this suite for a device says so:
/// `BRAZIER_REQUIRE_DEVICE=wgpu` (or several, with commas) makes its absence a failure.
#[test]
fn the_required_devices_are_here() {
    let required = std::env::var("BRAZIER_REQUIRE_DEVICE").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        let device: DeviceSpec = name.parse().unwrap();
        assert!(Place::all().iter().any(|place| place.device == device), "{:?}", device.resolve());
    }
}

#[test]
fn a_package_answers_alike_on_every_device_in_every_precision() {
    let places = Place::all();
    for case in CASES {
        let packed = Packed::new(case, 3, |_| ());
        let inputs: Vec<_> = (10..15).map(|seed| input(case, seed)).collect();
        let expected = logits(&packed.open(DeviceSpec::Cpu), &inputs);
        for place in places.iter().filter(|place| place.takes(case)) {
            for precision in Precision::ALL {
                let placement = Placement { device: place.device, precision };
                let what = format!("{} on {placement}", case.0);
                let opened = Predictor::open(&packed.registry, &"model".parse().unwrap(), placement);
                let predictor = match opened {
                    Err(PredictError::Device(DeviceError::Precision { .. }))
                        if precision != Precision::F32 =>
                    {
                        continue;
                    }
                    opened => opened.unwrap_or_else(|error| panic!("{what}: {error}")),
                };
                assert_eq!((predictor.device(), predictor.precision()), (place.device, precision));
                let predictor = if place.software { predictor.with_batch_sizes(&[4]) } else { predictor };
                let warm = predictor.warm_up().unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(warm.len(), predictor.batch_sizes().len().max(1));
                assert!(warm.iter().all(|warm| warm.check.samples == 3), "{warm:?}");
                let difference = worst(&logits(&predictor, &inputs), &expected);
                assert!(difference <= allowed(placement), "{what}: {difference}");
            }
        }
    }
}

/// Integers on the CPU; on every other device, and in half precision, the same weights as floats: those answers are
/// near, and the same as those of a package of such floats.
#[test]
fn an_int8_package_opens_and_answers_alike_on_every_device() {
    let places = Place::all();
    for case in CASES {
        let [int8, floats] = quantized(case);
        let packed = Packed::of(int8, case, 3, |_| ());
        let inputs: Vec<_> = (10..15).map(|seed| input(case, seed)).collect();
        let cpu = packed.open(DeviceSpec::Cpu);
        assert!(matches!(cpu.kernels(), Kernels::Engine { .. }), "{}: {:?}", case.0, cpu.kernels());
        assert_eq!(cpu.self_check().unwrap().samples, 3);
        let integers = logits(&cpu, &inputs);
        let floats = logits(&Predictor::from_parts(floats, DeviceSpec::Cpu).unwrap(), &inputs);
        // Ranges of random networks are narrow; seen were 0.11 (mlp) and 0.03 (lenet5).
        let apart = worst(&floats, &integers);
        assert!(apart > 0.0 && apart < 0.25, "{}: {apart}", case.0);
        for place in places.iter().filter(|place| place.takes(case)) {
            for precision in Precision::ALL {
                let placement = Placement { device: place.device, precision };
                let what = format!("{} in int8 on {placement}", case.0);
                let predictor = match Predictor::open(&packed.registry, &"model".parse().unwrap(), placement)
                {
                    Err(PredictError::Device(DeviceError::Precision { .. }))
                        if precision != Precision::F32 =>
                    {
                        continue;
                    }
                    opened => opened.unwrap_or_else(|error| panic!("{what}: {error}")),
                };
                let predictor = if place.software { predictor.with_batch_sizes(&[4]) } else { predictor };
                let warm = predictor.warm_up().unwrap_or_else(|error| panic!("{what}: {error}"));
                let on_engine = placement == Placement::from(DeviceSpec::Cpu);
                let compared = if on_engine { (3, 0) } else { (0, 4) };
                assert!(
                    warm.iter().all(|warm| (warm.check.samples, warm.check.made_up) == compared),
                    "{what}: {warm:?}"
                );
                let found = logits(&predictor, &inputs);
                if on_engine {
                    assert_eq!(found, integers, "{what}");
                } else {
                    let difference = worst(&found, &floats);
                    assert!(difference <= allowed(placement), "{what}: {difference}");
                }
            }
        }
    }
}

/// However many rows come, and however they are filled up: row by row the same answers.
#[test]
fn batches_of_all_sizes_answer_row_by_row_alike() {
    let case = CASES[3];
    let inputs: Vec<_> = (0..9).map(|seed| input(case, seed)).collect();
    let single = Predictor::from_parts(parts(case), DeviceSpec::Cpu).unwrap();
    let alone: Vec<f32> =
        inputs.iter().flat_map(|input| logits(&single, std::slice::from_ref(input))).collect();
    for place in Place::all() {
        let open = || Predictor::from_parts(parts(case), place.device).unwrap();
        // A CPU fills nothing up unless it is told to.
        let sizes: &[usize] = if place.software { &[8] } else { &[1, 2, 4, 8] };
        let mut predictors = vec![open().with_batch_sizes(sizes)];
        if !place.software {
            predictors.extend([open(), open().with_pass_rows(3)]);
        }
        for predictor in predictors {
            for rows in 1..=inputs.len() {
                let difference = worst(&logits(&predictor, &inputs[..rows]), &alone[..rows * 10]);
                let sizes = predictor.batch_sizes();
                assert!(
                    difference <= allowed(place.device.into()),
                    "{}, {rows} rows, {sizes:?}: {difference}",
                    place.device
                );
            }
        }
    }
}

/// A package whose answers are not those of its weights stands for a device that computes something else.
#[test]
fn a_disagreement_is_found_at_every_size() {
    let case = CASES[0];
    for place in Place::all() {
        for index in 0..3 {
            // One logit of one sample is wrong, by more than any tolerance.
            let turn = std::cell::Cell::new(0);
            let packed = Packed::new(case, 3, |logits| {
                if turn.replace(turn.get() + 1) == index {
                    logits[7] += 0.5;
                }
            });
            for size in [1, 2, 4] {
                let predictor = packed.open(place.device).with_batch_sizes(&[size]);
                let message = predictor.warm_up().unwrap_err().to_string();
                let expected = format!(
                    "the device `{}` computes something else in f32 with {size} rows at once",
                    place.device
                );
                assert!(message.contains(&format!("output 7 of sample {index}")), "{message}");
                assert!(message.contains(&expected), "{message}");
            }
        }
    }
}

/// Without samples there is the CPU to compare with, in 32 bits.
#[test]
fn a_model_without_samples_is_compared_with_the_cpu() {
    let case = CASES[0];
    let packed = Packed::new(case, 0, |_| ());
    for place in Place::all() {
        for precision in Precision::ALL {
            let placement = Placement { device: place.device, precision };
            let Ok(predictor) = Predictor::open(&packed.registry, &"model".parse().unwrap(), placement)
            else {
                continue;
            };
            let check = predictor.with_batch_sizes(&[4]).warm_up().unwrap()[0].check;
            let same = !place.device.is_gpu() && precision == Precision::F32;
            assert_eq!((check.samples, check.made_up), (0, if same { 0 } else { 4 }), "{placement}");
        }
    }
}
