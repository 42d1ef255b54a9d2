//! Tables from files: types, tasks, parts, and every refusal.

use network::{Cell, RawInput, Task};
use proptest::prelude::*;

use crate::data::config::DataConfig;
use crate::data::{DataError, DataSet, Target, load};

fn config(extra: &str) -> DataConfig {
    toml::from_str(&format!("source = \"csv\"\n{extra}")).unwrap()
}

fn open(text: &[u8], extra: &str) -> Result<DataSet, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, text).unwrap();
    let mut config = config(extra);
    config.path = Some(path);
    load(&config, 1)
}

/// `lines` after a header, often enough to be split.
fn repeated(header: &str, lines: &[&str]) -> Vec<u8> {
    let body: String = lines.iter().cycle().take(lines.len() * 20).map(|line| format!("{line}\n")).collect();
    format!("{header}\n{body}").into_bytes()
}

fn cells(data: &DataSet, row: usize) -> Vec<Cell> {
    let RawInput::Row(row) = data.source.read(row).unwrap() else { panic!("a row") };
    row.cells().to_vec()
}

#[test]
fn types_quotes_and_missing_values() {
    let text = repeated("\u{feff}size, town ,label", &["1.5,\"São Paulo, \"\"centre\"\"\",a", "?,Oslo,b"]);
    let data = open(&text, "label = \"label\"").unwrap();
    assert_eq!(cells(&data, 0), [Cell::Number(1.5), Cell::Text("São Paulo, \"centre\"".into())]);
    assert_eq!(cells(&data, 1), [Cell::Missing, Cell::Text("Oslo".into())]);
    assert_eq!((data.task, data.labels.clone()), (Task::Binary, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(data.source.target(1).unwrap(), Target::Class(1));
    assert!(data.source.describe(1).starts_with("line 3 of "));
    let kind = serde_json::to_value(&data.kind).unwrap();
    assert_eq!(kind["columns"][1], serde_json::json!({ "name": "town", "kind": "categorical" }));
}

#[test]
fn tasks_follow_from_the_label() {
    type Case<'a> = (&'a str, &'a [&'a str], &'a str, Task, &'a [&'a str]);
    let cases: [Case<'_>; 9] = [
        (
            "x,y",
            &["1,red", "2,blue", "3,green"],
            "label = \"y\"",
            Task::MultiClass,
            &["blue", "green", "red"],
        ),
        ("x,y", &["1,10", "2,9"], "label = \"y\"", Task::Binary, &["9", "10"]),
        ("x,y", &["1,10", "2,9"], "label = \"y\"\npositive = \"9\"", Task::Binary, &["10", "9"]),
        ("x,y", &["1,10", "2,9"], "label = \"y\"\ntask = \"multi_class\"", Task::MultiClass, &["9", "10"]),
        ("x,y", &["1,10", "2,9"], "label = \"y\"\ntask = \"regression\"", Task::Regression, &["y"]),
        ("x,y", &["1,1.5", "2,2.5"], "label = \"y\"", Task::Regression, &["y"]),
        ("x,y,z", &["1,0,1", "2,1,1"], "label = [\"y\", \"z\"]", Task::MultiLabel, &["y", "z"]),
        ("x,y,z", &["1,0,1", "2,1,3"], "label = [\"y\", \"z\"]", Task::Regression, &["y", "z"]),
        ("x;y", &["1,5;a", "2,5;b"], "label = \"y\"", Task::Binary, &["a", "b"]),
    ];
    for (header, lines, extra, task, labels) in cases {
        let data = open(&repeated(header, lines), extra).unwrap();
        assert_eq!(
            (data.task, data.labels.as_slice()),
            (task, &labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>()[..]),
            "{extra}"
        );
    }
    let data = open(&repeated("x,y,z", &["1,0,1", "2,1,1"]), "label = [\"y\", \"z\"]").unwrap();
    assert_eq!(data.source.target(0).unwrap(), Target::Labels(vec![false, true]));
    let swapped = open(&repeated("x,y", &["1,10", "2,9"]), "label = \"y\"\npositive = \"9\"").unwrap();
    assert_eq!(swapped.source.target(1).unwrap(), Target::Class(1));
}

#[test]
fn a_column_tells_the_parts() {
    let text = repeated("x,y,part", &["1,a,train", "2,b,train", "3,a,Test", "4,b,val"]);
    let data = open(&text, "label = \"y\"\nsplit.column = \"part\"").unwrap();
    assert_eq!((data.splits.train.len(), data.splits.validation.len(), data.splits.test.len()), (40, 20, 20));
    assert_eq!(data.splits.test[0], 2);
    assert_eq!(cells(&data, 0).len(), 1, "the column is no feature");
    let error =
        open(&repeated("x,y,part", &["1,a,later"]), "label = \"y\"\nsplit.column = \"part\"").unwrap_err();
    assert!(
        error.to_string().ends_with("line 2: `later` is no part; expected `train`, `validation` or `test`")
    );
}

#[test]
fn a_second_file_is_the_test_part() {
    let folder = tempfile::tempdir().unwrap();
    let (train, test) = (folder.path().join("train.tsv"), folder.path().join("test.tsv"));
    std::fs::write(&train, repeated("x\ty", &["1\ta", "2\tb"])).unwrap();
    std::fs::write(&test, "x\ty\n7\ta\n8\tb\n").unwrap();
    let mut config = config("label = \"y\"");
    (config.path, config.test_path) = (Some(train), Some(test.clone()));
    let data = load(&config, 0).unwrap();
    assert_eq!(data.splits.test, [40, 41]);
    assert_eq!(data.source.describe(41), format!("line 3 of {}", test.display()));
    std::fs::write(&test, "x\tz\n7\ta\n").unwrap();
    let error = load(&config, 0).unwrap_err().to_string();
    assert!(error.contains("line 1: its columns are `x`, `z`, but"), "{error}");
}

#[test]
fn cleaning_leaves_rows_out() {
    let text = repeated("x,y", &["1,a", ",b", "3,b", "4,"]);
    let data = open(&text, "label = \"y\"\ntable.missing = \"drop\"").unwrap();
    let all = [data.splits.train.clone(), data.splits.validation.clone(), data.splits.test.clone()].concat();
    assert_eq!(all.len(), 40, "rows with a missing value or label are left out");
    let text = repeated("x,y", &["1,a", "3,b"]);
    let data = open(&text, "label = \"y\"\ndrop_duplicates = true\nsplit.validation = 0.5");
    let data = data.unwrap();
    assert_eq!((data.splits.train.len(), data.splits.validation.len(), data.splits.test.len()), (1, 1, 8));
}

#[test]
fn refusals_name_file_and_line() {
    let cases: [(&[u8], &str, &str); 20] = [
        (
            b"5.1,setosa\n4.9,setosa\n",
            "label = \"setosa\"",
            "t.csv: line 1: `5.1` looks like a value; the first line must be a header",
        ),
        (b"", "label = \"y\"", "t.csv: the file is empty"),
        (b"x,y\n", "label = \"y\"", "t.csv: the column `x` has no value"),
        (b"x,y\n1,a\n", "", "`data.label`: say which column is to be predicted;"),
        (b"x,y\n1,a\n", "label = \"z\"", "has no column `z`; it has `x`, `y`"),
        (b"x,x\n1,a\n", "label = \"x\"", "t.csv: line 1: the column `x` occurs twice"),
        (b"x,,y\n1,2,a\n", "label = \"y\"", "t.csv: line 1: column 2 has no name"),
        (b"x,y\n1,a\n\n2\n", "label = \"y\"", "t.csv: line 4: 1 fields, but the header has 2 columns"),
        (
            b"x,y\n1,a\n2,\"b\n3,c\n",
            "label = \"y\"",
            "t.csv: line 3: a quote is opened in this record and never closed",
        ),
        (b"x,\"y\n1,a\n", "label = \"y\"", "t.csv: line 1: a quote is opened"),
        (b"x,y\n1,a\n2,\xff\n", "label = \"y\"", "t.csv: line 3: column `y` is not UTF-8"),
        (b"x,y\n1,a\n2,\n", "label = \"y\"", "t.csv: line 3: the label `y` is missing"),
        (
            b"x,y\n1,a\n?,b\nb,a",
            "label = \"y\"\ntypes.x = \"numeric\"",
            "t.csv: line 4: column `x` must be a number",
        ),
        (b"x,y\n1,a\n2,b\n", "label = \"y\"\ntypes.z = \"numeric\"", "`data.types`:"),
        (b"y\na\nb\n", "label = \"y\"", "t.csv: no column is left to learn from"),
        (b"x,y\n1,a\n2,a\n", "label = \"y\"", "one class alone (`a`) teaches nothing"),
        (
            b"x,y\n1,a\n2,b\n",
            "label = \"y\"\ntask = \"regression\"",
            "t.csv: line 2: column `y` is the target of a regression",
        ),
        (
            b"x,y\n1,a\n2,b\n3,c\n",
            "label = \"y\"\ntask = \"binary\"",
            "`binary` needs two classes, but column `y` has 3",
        ),
        (
            b"x,y\n1,a\n2,b\n",
            "label = \"y\"\npositive = \"c\"",
            "`data.positive`: `c` is no class of the data; it has a, b",
        ),
        (b"x,y\n1,a\n2,b\n", "label = \"y\"\ndelimiter = \"é\"", "`data.delimiter`:"),
    ];
    for (text, extra, message) in cases {
        let error = open(text, extra).unwrap_err().to_string();
        assert!(error.contains(message), "{error}\n{message}");
    }
    // Blank lines, line breaks in quotes and CR LF do not confuse the count.
    let text = b"x,y\r\n1,a\r\n\r\n2,\"b\r\nc\"\r\n\r\n3\r\n";
    assert!(open(text, "label = \"y\"").unwrap_err().to_string().contains("t.csv: line 7: 1 fields"));
    let mut text = repeated("x,y", &["1,a", "2,b"]);
    text.extend(b"abc,a\n");
    let error = open(&text, "label = \"y\"").unwrap_err().to_string();
    assert!(error.contains("line 42: column `x` is a number in 40 of 41 rows, but `abc` here;"), "{error}");
    let data = open(&text, "label = \"y\"\ntypes.x = \"categorical\"").unwrap();
    assert_eq!(cells(&data, 0), [Cell::Text("1".into())]);
}

#[cfg(unix)]
#[test]
fn devices_are_refused() {
    let mut config = config("label = \"y\"");
    config.path = Some("/dev/null".into());
    let error = load(&config, 1).unwrap_err().to_string();
    assert_eq!(error, "/dev/null: this is no regular file; expected a CSV or TSV file");
}

#[test]
fn a_record_without_end_is_refused_with_its_line() {
    let endless = vec![b'z'; 17 << 20];
    for (before, line) in [("", 1), ("x,y\n1,a\n2,b\n\n3,\"", 5), ("x,y\r\n1,a\r\n", 3)] {
        let error = open(&[before.as_bytes(), &endless].concat(), "label = \"y\"").unwrap_err().to_string();
        assert!(
            error.contains(&format!("t.csv: line {line}: this record is longer than 16 MiB")),
            "{line}: {error}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_give_data_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = open(&bytes, "label = \"y\"");
    }

    #[test]
    fn mutated_tables_give_data_or_an_error(changes in prop::collection::vec((0usize..200, any::<u8>()), 0..8)) {
        let mut text = repeated("x,y,\"z\"", &["1,a,\"q \"\"r\"\"\"", "2,b,s"]);
        for (position, byte) in changes {
            let position = position % text.len();
            text[position] = byte;
        }
        if let Ok(data) = open(&text, "label = \"y\"") {
            for index in 0..data.source.len() {
                data.source.read(index).unwrap();
            }
        }
    }
}
