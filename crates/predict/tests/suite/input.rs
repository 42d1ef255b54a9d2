//! Inputs from JSON, CSV and images.

use base64::Engine as _;
use network::{Preprocess, RawInput};
use predict::input::{from_csv, from_image, from_json, is_image};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{images, table};

fn numbers(shape: &[usize]) -> Preprocess {
    Preprocess::Numbers { shape: shape.to_vec() }
}

fn ramp(count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32 / 2.0).collect()
}

#[test]
fn images_are_flat_or_rows_of_numbers() {
    let values = ramp(24);
    let rows: Vec<&[f32]> = values.chunks(6).collect();
    let pixels: Vec<Vec<[f32; 1]>> =
        rows.iter().map(|row| row.iter().map(|&value| [value]).collect()).collect();
    for value in [json!(values), json!(rows), json!(pixels)] {
        assert_eq!(from_json(&value, &images()).unwrap(), RawInput::Numbers(values.clone()), "{value}");
    }
    let Preprocess::Image(mut colour) = images() else { unreachable!() };
    colour.channels = 3;
    let values = ramp(72);
    let rows: Vec<Vec<&[f32]>> = values.chunks(18).map(|row| row.chunks(3).collect()).collect();
    for value in [json!(values), json!(rows)] {
        let read = from_json(&value, &Preprocess::Image(colour.clone())).unwrap();
        assert_eq!(read, RawInput::Numbers(values.clone()));
    }
}

#[test]
fn images_are_base64_of_files() {
    let mut png = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(2, 3).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = png.into_inner();
    let text = base64::engine::general_purpose::STANDARD.encode(&png);
    for value in [json!(text), json!(format!("data:image/png;base64,{text}")), json!(format!(" {text}\n"))] {
        assert_eq!(from_json(&value, &images()).unwrap(), from_image(&png));
    }
    assert!(is_image(&png) && !is_image(b"GIF89a") && !is_image(b""));
}

#[test]
fn rows_are_objects_or_arrays() {
    let cells = |input: RawInput| match input {
        RawInput::Row(row) => (row.columns().to_vec(), format!("{:?}", row.cells())),
        other => panic!("{other:?}"),
    };
    let (columns, found) =
        cells(from_json(&json!({"weight": 70, "age": null, "colour": "red"}), &table()).unwrap());
    assert_eq!(columns.len(), 3);
    for part in ["Number(70.0)", "Missing", "Text(\"red\")"] {
        assert!(found.contains(part), "{found}");
    }
    let (columns, found) = cells(from_json(&json!(["51.5", 70, true]), &table()).unwrap());
    assert_eq!(columns, ["age", "weight", "colour"]);
    assert_eq!(found, "[Number(51.5), Number(70.0), Text(\"true\")]");
}

#[test]
fn refusals_of_json_say_what_was_expected() {
    let mut ragged = json!([[0, 1, 2, 3, 4, 5], [0, 1, 2], [0], []]);
    ragged[0][1] = json!(1.5);
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let cases: &[(Value, Preprocess, &str)] = &[
        (
            json!([1, 2, 3]),
            images(),
            "the array has 3 elements; expected 24: 4 × 6 nested arrays, or one array, of 24 pixels",
        ),
        (ragged, images(), "element [1] has 3 elements; expected 6: 4 × 6 nested arrays"),
        (json!([[[[[1]]]]]), images(), "the array has 1 elements; expected 4"),
        (deep.clone(), numbers(&[1]), "element [0] is an array; expected a number"),
        (deep, table(), "the array has 1 elements; expected one value per column: age, weight, colour"),
        (json!(["NaN", 1]), numbers(&[2]), "element [0] is a text; expected a number: an array of 2 numbers"),
        (json!([null, 1]), numbers(&[2]), "element [0] is null; expected a number"),
        (json!([1, [2]]), numbers(&[2]), "element [1] is an array; expected a number"),
        (json!([[1, 2], 3]), numbers(&[2, 2]), "element [1] is a single number; expected an array"),
        (
            json!([1e300, 1]),
            numbers(&[2]),
            "element [0] is 1e+300, which is too large; expected a finite 32-bit number",
        ),
        (json!([]), numbers(&[2]), "the array has 0 elements; expected 2"),
        (json!({"a": 1}), images(), "the model takes an image (PNG or JPEG), or 4 rows × 6 columns"),
        (json!({"a": 1}), numbers(&[2]), "not an object"),
        (
            json!(5),
            table(),
            "the model takes an object {\"column\": value} with the columns \"age\", \"weight\", \"colour\", not a single number",
        ),
        (json!("abc"), numbers(&[2]), "not a text"),
        (json!("a?b"), images(), "the text is not base64 of an image file"),
        (json!("AAAA"), images(), "its 3 bytes begin as neither PNG nor JPEG does"),
        (json!("data:image/png,xyz"), images(), "its 0 bytes"),
        (
            json!({"age": [1], "weight": 2, "colour": "red"}),
            table(),
            "column `age` is an array; expected a number, a text or null",
        ),
        (
            json!({"age": 1, "wieght": 2, "colour": "red"}),
            table(),
            "there is no column `wieght` (did you mean `weight`?); the model takes the columns age, weight, colour",
        ),
        (
            json!({"age": 1, "weight": 2, "colour": "red", "zzz": 3}),
            table(),
            "there is no column `zzz`; the model takes the columns age, weight, colour",
        ),
    ];
    for (value, preprocess, expected) in cases {
        let message = from_json(value, preprocess).unwrap_err().to_string();
        assert!(message.contains(expected), "{value}: {message}");
    }
}

#[test]
fn csv_of_tables_has_a_header() {
    let rows =
        from_csv(b"\xef\xbb\xbfage, weight,colour\n50,80,red\n\"NA\",70.5,\"blue\"\n", &table()).unwrap();
    assert_eq!(rows.len(), 2);
    assert!(format!("{:?}", rows[1]).contains("[Missing, Number(70.5), Text(\"blue\")]"), "{:?}", rows[1]);
    // Other separators, the columns in another order, line ends of Windows.
    let tabs = from_csv(b"colour\tage\tweight\r\nred\t50\t80\r\n", &table()).unwrap();
    assert!(format!("{tabs:?}").contains("[Text(\"red\"), Number(50.0), Number(80.0)]"), "{tabs:?}");
    assert_eq!(from_csv(b"age;weight;colour\n50;80;red\n", &table()).unwrap(), rows[..1]);
    // The label may stand beside them.
    let labelled = from_csv(b"age,weight,colour,label\n50,80,red,yes\n", &table()).unwrap();
    assert_eq!(table().prepare(&labelled[0]).unwrap(), table().prepare(&rows[0]).unwrap());
}

#[test]
fn csv_of_numbers_has_one_sample_a_row() {
    let expected = [RawInput::Numbers(vec![1.0, 2.5]), RawInput::Numbers(vec![-3.0, 4e-2])];
    for text in ["1,2.5\n-3,4e-2\n", "a,b\n1,2.5\n-3,4e-2", "1\t2.5\n-3\t4e-2\n"] {
        assert_eq!(from_csv(text.as_bytes(), &numbers(&[2])).unwrap(), expected, "{text}");
    }
}

#[test]
fn refusals_of_csv_say_what_was_expected() {
    let cases: &[(&[u8], Preprocess, &str)] = &[
        (b"", table(), "the CSV text has no rows; expected a header and at least one row"),
        (b"age,weight,colour\n", table(), "expected a header and at least one row"),
        (
            b"age,weight,colour, age\n1,2,red,3\n",
            table(),
            "the column `age` occurs twice in the header of the CSV text",
        ),
        (b"a,b\n", numbers(&[2]), "expected at least one row of numbers"),
        (b"age,weight,colour\n1,2\n", table(), "the CSV text cannot be read"),
        (b"age,weight\n1,\xff\xfe\n", table(), "the CSV text cannot be read"),
        (b"a,b\n1,2\n3,x\n", numbers(&[2]), "line 3 of the CSV text, column 2: `x` is not a finite number"),
        (b"1,NaN\n", numbers(&[2]), "column 2: `NaN` is not a finite number"),
        (b"1,1e99\n", numbers(&[2]), "column 2: `1e99` is not a finite number"),
    ];
    for (text, preprocess, expected) in cases {
        let message = from_csv(text, preprocess).unwrap_err().to_string();
        assert!(message.contains(expected), "{}: {message}", String::from_utf8_lossy(text));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing that can be sent makes the readers panic, and what they accept has the right size.
    #[test]
    fn any_json_is_read_or_refused(value in any_json()) {
        for preprocess in [images(), table(), numbers(&[2]), numbers(&[2, 2])] {
            match from_json(&value, &preprocess) {
                Ok(RawInput::Numbers(values)) => {
                    prop_assert_eq!(values.len(), preprocess.output_shape().iter().product::<usize>());
                    prop_assert!(values.iter().all(|value| value.is_finite()));
                }
                Ok(_) => {}
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[0-9a-c,;\t\n\". -]{0,60}") {
        for preprocess in [images(), table(), numbers(&[2])] {
            let _ = from_csv(&bytes, &preprocess);
            let _ = from_csv(text.as_bytes(), &preprocess);
        }
    }

    #[test]
    fn numbers_come_back(values in proptest::collection::vec(-1e6f32..1e6, 6)) {
        let nested: Vec<&[f32]> = values.chunks(3).collect();
        let expected = RawInput::Numbers(values.clone());
        prop_assert_eq!(&from_json(&json!(values), &numbers(&[2, 3])).unwrap(), &expected);
        prop_assert_eq!(&from_json(&json!(nested), &numbers(&[2, 3])).unwrap(), &expected);
        let line = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        prop_assert_eq!(from_csv(line.as_bytes(), &numbers(&[6])).unwrap(), vec![expected]);
    }
}
