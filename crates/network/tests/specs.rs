//! Specifications as people write them: presets, TOML and JSON, and everything that is refused.

use network::{Network, NetworkSpec, PRESETS, preset, summary};

fn spec(toml: &str) -> NetworkSpec {
    toml::from_str(toml).expect("the case is valid TOML")
}

/// A network over 3×8×8 pictures with the given layers.
fn network(layers: &str) -> Result<Network, String> {
    let text = format!("inputs = [{{ name = \"input\", shape = [3, 8, 8] }}]\n{layers}");
    let spec: NetworkSpec = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
    Network::new(spec).map_err(|error| error.to_string())
}

#[test]
fn presets_have_the_published_sizes() {
    // Parameters without running statistics. LeNets: LeCun et al. 1998 and Caffe; ResNets: He et al. 2015,
    // table 6, 0.27 M, 0.46 M, 0.85 M (theirs have no projections: ours add 2 × (1×1 convolution + norm)).
    let cases: &[(&str, &[usize], u64)] = &[
        ("mlp", &[30], 30 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10),
        ("lenet-300-100", &[1, 28, 28], 266_610),
        ("lenet5", &[1, 28, 28], 431_080),
        ("keras-cnn", &[3, 32, 32], 167_562),
        ("resnet20", &[3, 32, 32], 269_722 + 16 * 32 + 64 + 32 * 64 + 128),
        ("resnet32", &[3, 32, 32], 464_154 + 16 * 32 + 64 + 32 * 64 + 128),
        ("resnet56", &[3, 32, 32], 853_018 + 16 * 32 + 64 + 32 * 64 + 128),
    ];
    for &(name, input, parameters) in cases {
        let network = Network::new(preset(name, input, 10).unwrap()).unwrap();
        assert_eq!(network.parameter_count(), parameters, "{name}");
        assert_eq!(network.output_shape(), [10], "{name}");
    }
}

#[test]
fn every_preset_survives_toml_and_json() {
    for name in PRESETS {
        let input: &[usize] = if *name == "digits-cnn" { &[1, 8, 8] } else { &[3, 32, 32] };
        let network = Network::new(preset(name, input, 10).unwrap()).unwrap();
        let text = toml::to_string(network.spec()).unwrap();
        assert_eq!(&spec(&text), network.spec(), "{name} through TOML");
        let json = serde_json::to_string(network.spec()).unwrap();
        assert_eq!(
            &serde_json::from_str::<NetworkSpec>(&json).unwrap(),
            network.spec(),
            "{name} through JSON"
        );
    }
}

#[test]
fn lenet5_as_a_table() {
    let network = Network::new(preset("lenet5", &[1, 28, 28], 10).unwrap()).unwrap();
    insta::assert_snapshot!(summary(&network), @r"
    layer    type        output    parameters       MACs
    input    input       1×28×28
    conv1    conv2d      20×24×24         520    288 000
    pool1    max_pool2d  20×12×12
    conv2    conv2d      50×8×8        25 050  1 600 000
    pool2    max_pool2d  50×4×4
    flatten  flatten     800
    fc1      dense       500          400 500    400 000
    relu1    relu        500
    fc2      dense       10             5 010      5 000
    total                             431 080  2 293 000
    ");
}

#[test]
fn the_empty_list_is_the_identity() {
    let network = network("").unwrap();
    assert_eq!((network.output_shape(), network.macs()), ([3, 8, 8].as_slice(), 0));
    assert_eq!(network.signature().outputs[0].to_string(), "FP32 [batch, 3, 8, 8]");
}

#[test]
fn layers_without_a_name_get_a_stable_one() {
    let network = network(
        "layers = [{ type = \"relu\" }, { type = \"relu\", name = \"relu1\" }, { type = \"residual\", body = [{ type = \"relu\" }] }]",
    )
    .unwrap();
    let names: Vec<&str> = network.layers().iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["relu2", "relu1", "residual1", "relu3"]);
}

#[test]
fn a_layer_may_read_an_earlier_one() {
    let network = network(
        "outputs = [{ name = \"a\", from = \"wide\" }, { name = \"b\", from = \"narrow\" }]
         [[layers]]
         name = \"flat\"
         type = \"flatten\"
         [[layers]]
         name = \"wide\"
         type = \"dense\"
         units = 7
         [[layers]]
         name = \"narrow\"
         type = \"dense\"
         units = 2
         from = [\"flat\"]",
    )
    .unwrap();
    let outputs: Vec<String> = network.signature().outputs.iter().map(ToString::to_string).collect();
    assert_eq!(outputs, ["FP32 [batch, 7]", "FP32 [batch, 2]"]);
    assert_eq!(network.parameters().find(|p| p.key == "narrow.weight").unwrap().shape, [192, 2]);
}

#[test]
fn what_cannot_run_is_refused_with_layer_shape_and_need() {
    let cases = [
        (
            "name = \"fc\"\ntype = \"dense\"\nunits = 5",
            "layer `fc` (dense) needs a flat input [features]; put a `flatten` layer before it, but [3, 8, 8] reaches it",
        ),
        (
            "name = \"c\"\ntype = \"conv2d\"\nchannels = 4\nkernel = 9",
            "layer `c` (conv2d) needs an image of at least 9×9 (kernel 9×9, padding 0×0, dilation 1×1), but [3, 8, 8] reaches it",
        ),
        (
            "name = \"c\"\ntype = \"conv2d\"\nchannels = 4\nkernel = 3\ngroups = 2",
            "layer `c` (conv2d): `groups` = 2 must divide the 3 channels that reach it and the 4 that it gives",
        ),
        (
            "name = \"c\"\ntype = \"conv2d\"\nchannels = 4\nkernel = 3\nstride = [0, 1]",
            "layer `c` (conv2d): `stride` must be at least 1",
        ),
        // With a kernel of 1 any of these would give an image of some size.
        (
            "name = \"c\"\ntype = \"conv2d\"\nchannels = 3\ngroups = 3\nkernel = 1\npadding = 3\ndilation = 9223372036854775807",
            "layer `c` (conv2d): `dilation` must be at most 65536",
        ),
        (
            "name = \"c\"\ntype = \"conv2d\"\nchannels = 1\nkernel = 1\npadding = [0, 2305843009213693953]\nstride = [1, 60000]",
            "layer `c` (conv2d): `padding` must be at most 65536",
        ),
        (
            "name = \"c\"\ntype = \"conv2d\"\nchannels = 1\nkernel = 1\nstride = [1, 65537]",
            "layer `c` (conv2d): `stride` must be at most 65536",
        ),
        (
            "name = \"p\"\ntype = \"max_pool2d\"\nkernel = 2\npadding = 2",
            "layer `p` (max_pool2d): `padding` must be at most half of `kernel`",
        ),
        (
            "name = \"d\"\ntype = \"dropout\"\nprobability = 1.0",
            "layer `d` (dropout): `probability` must be in [0, 1), but is 1",
        ),
        (
            "name = \"r\"\ntype = \"residual\"\nbody = [{ type = \"conv2d\", channels = 4, kernel = 3, padding = 1 }]",
            "residual block `r`: the body gives [4, 8, 8], the shortcut [3, 8, 8]; they must be equal: add a projection (a 1×1 convolution) to `shortcut`, or change the body",
        ),
        (
            "name = \"x\"\ntype = \"relu\"\nfrom = [\"nowhere\"]",
            "layer `x` reads `nowhere`, which is no input and no earlier layer of the same list; known: `input`",
        ),
        (
            "name = \"x\"\ntype = \"relu\"\nfrom = [\"input\", \"input\"]",
            "layer `x` (relu) reads one tensor, but `from` names 2",
        ),
        (
            "name = \"input\"\ntype = \"relu\"",
            "the name `input` is given twice; names are unique in the whole network, inside residual blocks too",
        ),
        (
            "name = \"a/b\"\ntype = \"relu\"",
            "`a/b` is not a name: use letters, digits, `_`, `-` and `.`, beginning with a letter, at most 128 characters",
        ),
        (
            "name = \"c\"\ntype = \"conv2d\"\nchannels = 4000000000\nkernel = 3",
            "the network is too large: layer `c` (conv2d) has over 2147483648 values",
        ),
        (
            "name = \"x\"\ntype = \"dense\"\nunits = 1\nunit = 2",
            "unknown field `unit`, expected `units` or `bias`",
        ),
    ];
    for (layer, message) in cases {
        assert_eq!(network(&format!("[[layers]]\n{layer}")).unwrap_err(), message);
    }
}

#[test]
fn macs_are_counted_per_layer() {
    // A grouped, strided convolution: 8 × (6/2) × 3 × 3 taps at 4 × 4 positions.
    let spec = spec(
        "inputs = [{ name = \"input\", shape = [6, 8, 8] }]
         layers = [{ name = \"c\", type = \"conv2d\", channels = 8, kernel = 3, stride = 2, padding = 1, groups = 2 }]",
    );
    let network = Network::new(spec).unwrap();
    assert_eq!((network.macs(), network.output_shape()), (8 * 3 * 9 * 16, [8, 4, 4].as_slice()));
}
