//! Names, several inputs and outputs, and what is refused.

use engine::{CompileError, Options, Program, RunError};
use network::spec::{Dense, Empty, InputSpec, Layer, NetworkSpec, Op, OutputSpec};
use network::{Network, Tensor, Weights, preset};

use crate::{busy_weights, numbers};

fn named(name: &str, from: &[&str], op: Op) -> Layer {
    Layer { name: name.to_owned(), from: from.iter().map(|&name| name.to_owned()).collect(), op }
}

fn dense(units: usize) -> Op {
    Op::Dense(Dense { units, bias: true })
}

/// Two inputs, one of them unused by the first layers, a value read twice, an input given back as it came.
#[test]
fn branches_inputs_and_outputs_find_each_other() {
    let input = |name: &str, shape: &[usize]| InputSpec { name: name.to_owned(), shape: shape.to_vec() };
    let output = |name: &str, from: &str| OutputSpec { name: name.to_owned(), from: from.to_owned() };
    let spec = NetworkSpec {
        inputs: vec![input("a", &[5]), input("b", &[3, 4, 2])],
        layers: vec![
            named("one", &[], dense(7)),
            named("two", &[], Op::Tanh(Empty {})),
            named("flat", &["b"], Op::Flatten(Empty {})),
            named("three", &[], dense(4)),
            named("four", &["one"], Op::Relu(Empty {})),
        ],
        outputs: vec![
            output("x", "two"),
            output("y", "four"),
            output("z", "three"),
            output("raw", "b"),
            output("f", "flat"),
        ],
    };
    let network = Network::new(spec).unwrap();
    let weights = busy_weights(&network);
    let program = Program::compile(&network, &weights, Options::default()).unwrap();
    let (a, b) = (numbers(1, 2 * 5), numbers(2, 2 * 24));
    let mut outputs: Vec<Vec<f32>> =
        program.outputs().iter().map(|port| vec![0.0; 2 * port.values]).collect();
    let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    program.run_all(None, &mut program.scratch(), &[&a, &b], 2, &mut slices).unwrap();

    let get = |key: &str| weights[key].as_f32().unwrap();
    let product = |x: &[f32], layer: &str, units: usize| -> Vec<f32> {
        let (weight, bias) = (get(&format!("{layer}.weight")), get(&format!("{layer}.bias")));
        let unit =
            |u: usize| x.iter().enumerate().map(|(i, x)| x * weight[i * units + u]).sum::<f32>() + bias[u];
        (0..units).map(unit).collect()
    };
    let one: Vec<f32> = a.chunks(5).flat_map(|row| product(row, "one", 7)).collect();
    let three: Vec<f32> = b.chunks(24).flat_map(|row| product(row, "three", 4)).collect();
    let expected = [
        one.iter().map(|x| x.tanh()).collect(),
        one.iter().map(|x| x.max(0.0)).collect(),
        three,
        b.clone(),
        b.clone(),
    ];
    for (found, expected) in outputs.iter().zip(&expected) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    }
}

#[test]
fn an_empty_network_gives_its_input_back() {
    let inputs = vec![InputSpec { name: "x".to_owned(), shape: vec![2, 3, 4] }];
    let spec = NetworkSpec { inputs, layers: Vec::new(), outputs: Vec::new() };
    let network = Network::new(spec).unwrap();
    let program = Program::compile(&network, &Weights::new(), Options::default()).unwrap();
    let batch = numbers(3, 3 * 24);
    assert_eq!(crate::run(&program, &batch, 3), batch);
}

#[test]
fn wrong_weights_and_buffers_are_refused() {
    let network = Network::new(preset("mlp", &[4], 2).unwrap()).unwrap();
    let weights = busy_weights(&network);
    let compile = |weights: &Weights| Program::compile(&network, weights, Options::default());
    let mut missing = weights.clone();
    missing.remove("fc1.bias");
    assert!(matches!(compile(&missing), Err(CompileError::Missing { key, .. }) if key == "fc1.bias"));
    let mut over = weights.clone();
    over.insert("fc9.bias".to_owned(), Tensor::from_f32(vec![1], vec![0.0]).unwrap());
    assert!(matches!(compile(&over), Err(CompileError::Unused { key }) if key == "fc9.bias"));
    let mut wrong = weights.clone();
    wrong.insert("fc1.bias".to_owned(), Tensor::from_f32(vec![1], vec![0.0]).unwrap());
    assert!(matches!(compile(&wrong), Err(CompileError::Mismatch { key, .. }) if key == "fc1.bias"));

    let program = compile(&weights).unwrap();
    let mut scratch = program.scratch();
    let mut output = vec![0.0; 4];
    let error = program.run(&mut scratch, &[0.0; 7], 2, &mut output).unwrap_err();
    let message = "input `input` needs 2 rows of 4 values, so 8, but 7 were given";
    assert_eq!(error.to_string(), message);
    let error = program.run(&mut scratch, &[0.0; 8], 2, &mut [0.0; 3]).unwrap_err();
    assert!(matches!(error, RunError::Output { found: 3, expected: 4, .. }), "{error}");
    let mut other = compile(&weights).unwrap().scratch();
    assert_eq!(program.run(&mut other, &[0.0; 8], 2, &mut output), Err(RunError::Scratch));
    assert_eq!(program.run(&mut scratch, &[], 0, &mut []), Ok(()));
}
