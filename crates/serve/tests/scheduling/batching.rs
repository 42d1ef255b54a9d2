//! What is computed together.

use std::sync::Arc;
use std::time::Duration;

use network::{DType, Dim, Elements, NamedTensor, Signature, Tensor, TensorSpec};
use proptest::prelude::*;
use serve::executor::{ExecuteError, Executor};
use serve::scheduler::QueueSettings;
use serve::served::{AskError, Call, Served};

use crate::fake::{Echo, Server, assert_echo, call, rows, rows_of, scheduler};

#[actix_web::test]
async fn everything_that_waits_is_one_batch() {
    let server = Server::new(Echo::new(16).shut(), QueueSettings::default());
    let first = server.occupy().await;
    let others = [server.send(call(&[1])), server.send(call(&[2, 3])), server.send(call(&[4, 5, 6]))];
    server.wait_for(3).await;
    assert_eq!(server.served.waiting(), (3, 6));
    server.echo.open();
    assert_echo(&first.await.unwrap(), &[0]);
    for (sent, expected) in others.into_iter().zip([&[1][..], &[2, 3], &[4, 5, 6]]) {
        let answer = sent.await.unwrap();
        assert_echo(&answer, expected);
        assert_eq!(answer.unwrap().timing.batch_rows, 6);
    }
    assert_eq!(server.echo.calls(), [vec![0], vec![1, 2, 3, 4, 5, 6]]);
}

#[actix_web::test]
async fn a_batch_has_at_most_so_many_rows_and_short_requests_stay_whole() {
    let settings = QueueSettings { max_batch_rows: 4, ..QueueSettings::default() };
    let server = Server::new(Echo::new(16).shut(), settings);
    assert_eq!(server.served.batch_rows(), 4);
    let first = server.occupy().await;
    let requests: [&[i64]; 4] = [&[1, 2, 3], &[4, 5], &[6], &[7, 8, 9, 10]];
    let sent: Vec<_> = requests.iter().map(|firsts| server.send(call(firsts))).collect();
    server.wait_for(4).await;
    server.echo.open();
    first.await.unwrap().unwrap();
    for (sent, expected) in sent.into_iter().zip(requests) {
        assert_echo(&sent.await.unwrap(), expected);
    }
    assert_eq!(server.echo.calls()[1..], [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9, 10]]);
}

#[actix_web::test]
async fn a_long_request_is_split_and_joined_and_lets_others_in() {
    let server = Server::new(Echo::new(4).shut(), QueueSettings::default());
    let first = server.occupy().await;
    let (short, long): (Vec<i64>, Vec<i64>) = ((1..=3).collect(), (10..=19).collect());
    let sent = [server.send(call(&short)), server.send(call(&long)), server.send(call(&[4]))];
    server.wait_for(3).await;
    server.echo.open();
    first.await.unwrap().unwrap();
    for (sent, expected) in sent.into_iter().zip([&short[..], &long, &[4]]) {
        assert_echo(&sent.await.unwrap(), expected);
    }
    let calls = server.echo.calls();
    assert_eq!(calls[1..], [vec![1, 2, 3, 10], vec![11, 12, 13, 14], vec![15, 16, 17, 18], vec![19, 4]]);
}

#[actix_web::test]
async fn preferred_sizes_are_filled() {
    let settings = QueueSettings { preferred_batch_rows: vec![2, 4], ..QueueSettings::default() };
    let server = Server::new(Echo::new(16).shut(), settings);
    let first = server.occupy().await;
    let sent: Vec<_> = (1..=7).map(|first| server.send(call(&[first]))).collect();
    server.wait_for(7).await;
    server.echo.open();
    first.await.unwrap().unwrap();
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
    let sizes: Vec<usize> = server.echo.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 4, 2, 1]);
}

#[actix_web::test]
async fn a_delay_gathers_requests_but_a_full_batch_does_not_wait() {
    let patient = QueueSettings { max_delay_us: 10_000_000, timeout_ms: 0, ..QueueSettings::default() };
    let server = Server::new(Echo::new(2), patient.clone());
    // Nothing would come for ten seconds, were the second not to fill the batch.
    let sent = [server.send(call(&[1])), server.send(call(&[2]))];
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
    assert_eq!(server.echo.calls(), [[1, 2]]);

    let preferred = QueueSettings { preferred_batch_rows: vec![3], ..patient.clone() };
    let server = Server::new(Echo::new(16), preferred);
    let sent = [server.send(call(&[1])), server.send(call(&[2, 3]))];
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
    assert_eq!(server.echo.calls(), [[1, 2, 3]]);

    let short = QueueSettings { max_delay_us: 2_000, ..patient };
    let server = Server::new(Echo::new(16), short);
    let answer = server.send(call(&[1])).await.unwrap().unwrap();
    assert!(answer.timing.queue >= Duration::from_millis(2), "{answer:?}");
}

#[actix_web::test]
async fn a_delay_is_not_for_the_rest_of_a_request() {
    let patient = QueueSettings { max_delay_us: 3_600_000_000, timeout_ms: 0, ..QueueSettings::default() };
    let preferred = QueueSettings { preferred_batch_rows: vec![4], ..patient.clone() };
    // A request that fits into a batch is not cut to a size that is preferred; one that does not is not left half done.
    let cases = [(Echo::new(32), preferred, vec![6]), (Echo::new(4), patient, vec![4, 2])];
    for (echo, settings, sizes) in cases {
        let server = Server::new(echo, settings);
        let firsts: Vec<i64> = (1..=6).collect();
        let soon = actix_web::rt::time::timeout(Duration::from_secs(60), server.send(call(&firsts)));
        assert_echo(&soon.await.expect("it waits for the delay").unwrap(), &firsts);
        assert_eq!(server.echo.calls().iter().map(Vec::len).collect::<Vec<_>>(), sizes);
    }
}

#[actix_web::test]
async fn only_inputs_of_one_shape_share_a_batch() {
    let server = Server::new(Echo::of_any_width(16).shut(), QueueSettings::default());
    let call = |width: usize, firsts: &[i64]| Call { inputs: rows_of(width, firsts), ..Call::default() };
    let first = server.occupy().await;
    let asked: [(usize, &[i64]); 4] = [(2, &[1]), (2, &[2, 3]), (5, &[4]), (2, &[5])];
    let sent: Vec<_> = asked.iter().map(|(width, firsts)| server.send(call(*width, firsts))).collect();
    server.wait_for(4).await;
    server.echo.open();
    first.await.unwrap().unwrap();
    for (sent, (width, firsts)) in sent.into_iter().zip(asked) {
        assert_eq!(sent.await.unwrap().unwrap().outputs, rows_of(width, firsts));
    }
    assert_eq!(server.echo.calls()[1..], [vec![1, 2, 3], vec![4], vec![5]]);
}

/// Adds and subtracts two lists that have no batch dimension.
#[derive(Debug)]
struct AddSub(Signature);

impl Executor for AddSub {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn platform(&self) -> &'static str {
        "test"
    }

    fn max_rows(&self) -> usize {
        0
    }

    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        // In the order of the signature, however they were sent.
        assert_eq!([inputs[0].name.as_str(), inputs[1].name.as_str()], ["a", "b"]);
        let values = |index: usize| match inputs[index].tensor.elements() {
            Elements::I32(values) => values.clone(),
            other => panic!("{other:?}"),
        };
        let sum = values(0).iter().sum::<i32>() + values(1).iter().sum::<i32>();
        let tensor = Tensor::new(vec![1], Elements::I32(vec![sum])).unwrap();
        Ok(vec![NamedTensor { name: "sum".to_owned(), tensor }])
    }
}

#[actix_web::test]
async fn without_a_batch_dimension_every_request_is_a_call() {
    let spec = |name: &str, size: usize| TensorSpec {
        name: name.to_owned(),
        dtype: DType::I32,
        dims: vec![Dim::Fixed(size)],
    };
    let signature = Signature { inputs: vec![spec("a", 2), spec("b", 3)], outputs: vec![spec("sum", 1)] };
    let scheduler = scheduler(2, QueueSettings::default());
    let served = Served::new("addsub", 1, Arc::new(AddSub(signature)), &scheduler, &Arc::default());
    let input = |name: &str, values: &[i32]| NamedTensor {
        name: name.to_owned(),
        tensor: Tensor::new(vec![values.len()], Elements::I32(values.to_vec())).unwrap(),
    };
    let ask = |inputs: Vec<NamedTensor>| served.ask(Call { inputs, ..Call::default() });
    let answers = futures_util::future::join_all(
        (0..20).map(|i| ask(vec![input("b", &[i, 0, 0]), input("a", &[1, 2])])),
    )
    .await;
    for (i, answer) in (0..20).zip(answers) {
        assert_eq!(*answer.unwrap().outputs[0].tensor.elements(), Elements::I32(vec![i + 3]));
    }
    assert_eq!(served.stats().by_batch_size().iter().map(|size| size.rows).collect::<Vec<_>>(), [1]);
    let cases = [
        (vec![input("a", &[1, 2])], "input `b` is missing"),
        (vec![input("a", &[1, 2]), input("b", &[1])], "input `b` must be INT32 [3]"),
        (vec![input("a", &[1]), input("b", &[1, 2, 3])], "input `a` must be INT32 [2]"),
    ];
    for (inputs, part) in cases {
        let error = ask(inputs).await.unwrap_err();
        assert!(matches!(&error, AskError::Invalid(reason) if reason.contains(part)), "{error}");
    }
}

#[actix_web::test]
async fn inputs_that_do_not_fit_never_reach_the_queue() {
    let server = Server::new(Echo::new(4), QueueSettings::default());
    for (inputs, part) in [
        (rows(&[]), "the batch is empty"),
        (rows_of(2, &[1]), "must be INT64 [batch, 3]"),
        (vec![], "input `x` is missing"),
    ] {
        let error = server.served.ask(Call { inputs, ..Call::default() }).await.unwrap_err();
        assert!(matches!(&error, AskError::Invalid(reason) if reason.contains(part)), "{error}");
    }
    assert!(server.echo.calls().is_empty());
    assert_eq!(server.served.stats().fail.total().count, 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is asked at once by many clients, each gets its own rows back, in order.
    #[test]
    fn rows_never_cross(
        clients in prop::collection::vec(prop::collection::vec(1usize..40, 1..12), 2..9),
        most in 1usize..20,
        workers in 1usize..4,
        delay in prop::sample::select(vec![0u64, 0, 200]),
        preferred in prop::sample::select(vec![vec![], vec![4usize], vec![2, 8]]),
    ) {
        let settings = QueueSettings { max_delay_us: delay, preferred_batch_rows: preferred, ..QueueSettings::default() };
        let server = Server::with(Echo::new(most), &scheduler(workers, settings));
        std::thread::scope(|scope| {
            for (client, requests) in clients.iter().enumerate() {
                let server = &server;
                scope.spawn(move || {
                    let mut next = client as i64 * 10_000 + 1_000;
                    // Half of the clients send everything at once, the others one request after the other.
                    let calls: Vec<Vec<i64>> = requests
                        .iter()
                        .map(|rows| {
                            next += *rows as i64;
                            (next - *rows as i64..next).collect()
                        })
                        .collect();
                    actix_web::rt::System::new().block_on(async {
                        if client % 2 == 0 {
                            let asked = calls.iter().map(|firsts| server.served.ask(call(firsts)));
                            for (answer, firsts) in futures_util::future::join_all(asked).await.iter().zip(&calls) {
                                assert_echo(answer, firsts);
                            }
                        } else {
                            for firsts in &calls {
                                assert_echo(&server.served.ask(call(firsts)).await, firsts);
                            }
                        }
                    });
                });
            }
        });
        let rows: usize = clients.iter().flatten().sum();
        let calls = server.echo.calls();
        prop_assert_eq!(calls.iter().map(Vec::len).sum::<usize>(), rows, "each row is computed once");
        prop_assert!(calls.iter().all(|call| call.len() <= most));
        let stats = server.served.stats();
        prop_assert_eq!(stats.success.total().count, clients.iter().map(Vec::len).sum::<usize>() as u64);
        prop_assert_eq!(stats.batch_rows.buckets().sum, rows as u64);
    }
}
