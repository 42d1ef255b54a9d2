//! The page as a whole: complete, self-contained, and safe against what data and configuration may hold.

use network::{Postprocess, Task};

use super::*;
use crate::config::TrainConfig;
use crate::evaluate::{Outcome, score};
use crate::fit::Objective;

fn page_of(config: &str, mut change: impl FnMut(&mut Prepared, &mut RunRecord)) -> String {
    let config: TrainConfig = toml::from_str(config).unwrap();
    let models = tempfile::tempdir().unwrap();
    let mut prepared =
        crate::prepare::prepare(&config, &artifact::Registry::open(models.path()).unwrap()).unwrap();
    let mut record = RunRecord { id: "run-1".to_owned(), best_epoch: 1, ..RunRecord::default() };
    change(&mut prepared, &mut record);
    let post = prepared.postprocess.clone();
    let outcome = |&index: &usize| Outcome {
        index,
        target: prepared.data.source.target(index).unwrap(),
        prediction: post.apply(&vec![1.0; post.output_width()]).unwrap(),
    };
    let outcomes: Vec<Outcome> = prepared.data.splits.test.iter().take(40).map(outcome).collect();
    let evaluation = score(&post, "test", &outcomes).unwrap();
    let history = [1, 2].map(|epoch| EpochRecord { epoch, valid_loss: Some(0.5), ..EpochRecord::default() });
    let page = Page {
        record: &record,
        config_text: "name = \"<x>\" # </pre><script>",
        prepared: &prepared,
        history: &history,
        evaluation: &evaluation,
    };
    render(&page).unwrap()
}

const DIGITS: &str = "version = 1\nname = 'x'\ndata = { source = 'digits' }\nnetwork = { preset = 'mlp' }\n\
    optimizer = { kind = 'sgd', learning_rate = 0.1 }\nschedule = { kind = 'constant' }\n\
    train = { epochs = 1, batch_size = 8, seed = 1, device = 'cpu' }\n";

#[test]
fn every_section_is_there_and_nothing_is_outside() {
    let page = page_of(DIGITS, |_, _| {});
    for title in [
        "Learning curves",
        "Per class",
        "Confusion matrix",
        "Calibration",
        "Worst mistakes",
        "Network",
        "Timings",
        "Configuration",
    ] {
        assert!(page.contains(&format!("<h2>{title}")), "{title}");
    }
    assert!(page.contains("data:image/png;base64,"));
    for outside in ["src=\"http", "href=", "<link", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<section>").count(), page.matches("</section>").count());
}

#[test]
fn what_data_and_configuration_hold_is_escaped() {
    let page = page_of(DIGITS, |prepared, record| {
        record.id = "<img src=x onerror=alert(1)>".to_owned();
        let labels: Vec<String> = (0..10).map(|class| format!("\"><script>{class}")).collect();
        prepared.data.labels.clone_from(&labels);
        prepared.postprocess = Postprocess::new(Task::MultiClass, labels);
        prepared.objective = Objective::new(prepared.postprocess.clone(), 0.0, Vec::new());
    });
    assert!(!page.contains("<script"));
    assert!(!page.contains("<img src=x"));
    assert!(page.contains("&quot;&gt;&lt;script&gt;3"));
}

#[test]
fn tables_show_rows_and_many_classes_show_colours() {
    let page = page_of(&DIGITS.replace("'digits'", "'breast-cancer'"), |_, _| {});
    assert!(page.contains("figure") && !page.contains("data:image/png"));
    let labels: Vec<String> = (0..40).map(|class| class.to_string()).collect();
    let post = Postprocess::new(Task::MultiClass, labels);
    let target = crate::data::Target::Class(3);
    let prediction = post.apply(&[0.0; 40]).unwrap();
    let evaluation = score(&post, "test", &[Outcome { index: 0, target, prediction }]).unwrap();
    assert!(super::confusion::section(&evaluation).contains("<svg"));
}
