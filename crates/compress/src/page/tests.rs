//! The page holds every model, is whole, and nothing of it is outside.

use super::*;
use crate::compare::tests::side;
use crate::significance::Term;

fn page<'a>(entries: Vec<Entry<'a>>, pairs: &'a [Pair], sensitivity: Option<&'a Sensitivity>) -> Page<'a> {
    Page {
        title: "Steps of x@1",
        about: vec!["360 samples <of> digits".to_owned()],
        entries,
        pairs,
        sensitivity,
    }
}

fn entry<'a>(name: &'a str, side: &'a Side, mark: Mark) -> Entry<'a> {
    Entry { name, side, mark, note: "" }
}

#[test]
fn the_page_tells_everything_and_is_self_contained() {
    let (a, b) = (side("a@1", 0.98, 400_000, 40.0), side("b@2", 0.975, 104_000, 20.0));
    let right = |every: usize| -> Vec<Term> {
        (0..60).map(|n| Term { part: f64::from(u8::from(n % every > 0)), whole: 1.0 }).collect()
    };
    let pairs = crate::compare::pairs(network::Task::MultiClass, &[("a@1", &right(7)), ("b@2", &right(5))]);
    let sensitivity = Sensitivity {
        metric: "accuracy".to_owned(),
        full: 0.98,
        split: "validation".to_owned(),
        curves: vec![
            Curve { name: "conv1, bn1".to_owned(), points: vec![(1.0, 0.98), (0.5, 0.9), (0.25, 0.6)] },
            Curve { name: "<fc1>".to_owned(), points: vec![(1.0, 0.98), (0.5, 0.97)] },
            Curve { name: "nothing".to_owned(), points: vec![] },
        ],
    };
    let dropped = Entry { note: "left out: it gained nothing", ..entry("<prune>", &b, Mark::Hollow) };
    let entries = vec![entry("a@1", &a, Mark::Reference), entry("b@2", &b, Mark::Other), dropped];
    let html = render(&page(entries, &pairs, Some(&sensitivity)));
    for part in [
        "<h1>Steps of x@1</h1>",
        "360 samples &lt;of&gt; digits",
        "<h2>Accuracy against what it costs</h2>",
        "bytes of the weights file",
        "latency at batch 1<",
        "latency at batch 64",
        "multiplications (MACs)",
        "<h2>Every quantity</h2>",
        "3.85× smaller",
        "2.00× faster",
        "3 &lt;prune&gt;: left out: it gained nothing",
        "Hollow points were tried and not taken.",
        "<h2>Do they really differ?</h2>",
        "McNemar&#39;s exact test",
        "<h2>What each group of channels is worth</h2>",
        "<h3>conv1, bn1</h3>",
        "<h3>&lt;fc1&gt;</h3>",
        "channels kept",
        "&lt;prune&gt;",
    ] {
        // The notes are written by hand, with an apostrophe as it is.
        assert!(html.contains(part) || html.contains(&part.replace("&#39;", "'")), "{part}");
    }
    assert!(!html.contains("<h3>nothing</h3>"));
    for outside in ["src=", "href=", "<link", "<script", "@import", "url(", "<prune>", "<fc1>", "NaN"] {
        assert!(!html.contains(outside), "{outside}");
    }
    // Four charts of three models, and two curves.
    assert_eq!((html.matches("<svg").count(), html.matches("class=\"point").count()), (6, 12));
    for tag in ["section", "div", "svg", "table", "p"] {
        let [open, close] = [format!("<{tag}"), format!("</{tag}>")];
        let opened = html.matches(&format!("{open}>")).count() + html.matches(&format!("{open} ")).count();
        assert_eq!(opened, html.matches(&close).count(), "{tag}");
    }
}

#[test]
fn what_is_not_there_leaves_no_trace() {
    let a = side("a@1", 0.98, 400_000, 40.0);
    let html = render(&page(vec![entry("a@1", &a, Mark::Reference)], &[], None));
    assert!(html.contains("Every quantity"));
    for absent in ["Do they really differ?", "What each group", "Hollow"] {
        assert!(!html.contains(absent), "{absent}");
    }
}

/// An error is better when it is small, and its axis has no per cent.
#[test]
fn errors_are_drawn_as_errors() {
    let mae = |name| Side { metric: "mae", interval: None, ..side(name, 1.5, 1000, 3.0) };
    let (a, b) = (mae("a@1"), mae("b@1"));
    let html =
        render(&page(vec![entry("a@1", &a, Mark::Reference), entry("b@1", &b, Mark::Other)], &[], None));
    assert!(html.contains("Mean absolute error against what it costs"));
    assert!(html.contains("Down and to the left is better."));
    assert!(!html.contains("95 % intervals"));
}
