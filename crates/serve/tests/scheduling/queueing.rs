//! Who is computed first, and who is not at all.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serve::scheduler::{QueueSettings, TimeoutAction};
use serve::served::{AskError, Call};

use crate::fake::{Echo, Server, assert_echo, call};

fn one_at_a_time() -> QueueSettings {
    QueueSettings { max_batch_rows: 1, ..QueueSettings::default() }
}

fn within(firsts: &[i64], milliseconds: u64) -> Call {
    Call { timeout: Some(Duration::from_millis(milliseconds)), ..call(firsts) }
}

#[actix_web::test]
async fn the_most_urgent_comes_first_then_who_came_first() {
    let server = Server::new(Echo::new(4).shut(), one_at_a_time());
    let first = server.occupy().await;
    // 0 is the default, 4; what is beyond the least urgent level, 8, is that.
    let priorities = [8, 0, 1, 99, 4, 3, 1];
    let sent: Vec<_> = priorities
        .iter()
        .zip(1..)
        .map(|(&priority, number)| server.send(Call { priority, ..call(&[number]) }))
        .collect();
    server.wait_for(7).await;
    server.echo.open();
    first.await.unwrap().unwrap();
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
    let order: Vec<i64> = server.echo.calls()[1..].iter().flatten().copied().collect();
    assert_eq!(order, [3, 7, 6, 2, 5, 1, 4]);
}

#[actix_web::test]
async fn many_levels_are_as_good_as_few() {
    let settings = QueueSettings { priority_levels: 1000, default_priority: 500, ..one_at_a_time() };
    let server = Server::new(Echo::new(4).shut(), settings);
    let first = server.occupy().await;
    let sent: Vec<_> = (1..=200)
        .rev()
        .map(|number: i64| {
            let priority = u32::try_from(number * 5).unwrap();
            server.send(Call { priority, ..call(&[number]) })
        })
        .collect();
    server.wait_for(200).await;
    server.echo.open();
    first.await.unwrap().unwrap();
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
    let order: Vec<i64> = server.echo.calls()[1..].iter().flatten().copied().collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[actix_web::test]
async fn a_full_queue_is_an_answer() {
    let settings = QueueSettings { max_queue_requests: 2, max_queue_rows: 10, ..QueueSettings::default() };
    let server = Server::new(Echo::new(4).shut(), settings);
    let first = server.occupy().await;
    let waiting = [server.send(call(&[1])), server.send(call(&[2]))];
    server.wait_for(2).await;
    let error = server.served.ask(call(&[3])).await.unwrap_err();
    assert!(
        error.to_string().contains("exceeds the maximum queue size of `echo`: 2 requests with 2 rows"),
        "{error}"
    );
    server.echo.open();
    first.await.unwrap().unwrap();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    // There is room again, and what was refused was not computed.
    assert_echo(&server.served.ask(call(&[4])).await, &[4]);
    assert!(!server.echo.calls().concat().contains(&3));
    let stats = server.served.stats();
    assert_eq!(
        (stats.rejected.load(Relaxed), stats.fail.total().count, stats.success.total().count),
        (1, 1, 4)
    );
}

#[actix_web::test]
async fn the_queue_is_bounded_in_rows_but_takes_a_long_request_when_it_is_empty() {
    let settings = QueueSettings { max_queue_rows: 10, ..QueueSettings::default() };
    let server = Server::new(Echo::new(4).shut(), settings);
    let first = server.occupy().await;
    let long: Vec<i64> = (100..150).collect();
    let sent = server.send(call(&long));
    server.wait_for(1).await;
    let error = server.served.ask(call(&[3])).await.unwrap_err();
    assert!(matches!(error, AskError::Full(_)), "{error}");
    server.echo.open();
    first.await.unwrap().unwrap();
    assert_echo(&sent.await.unwrap(), &long);
}

#[actix_web::test]
async fn whose_time_is_up_hears_it_at_once_and_is_not_computed() {
    let server = Server::new(Echo::new(4).shut(), QueueSettings::default());
    let first = server.occupy().await;
    let late = server.send(within(&[1], 5));
    let patient = server.send(call(&[2]));
    // While the worker is occupied still.
    let error = late.await.unwrap().unwrap_err();
    assert!(matches!(error, AskError::Expired { waited } if waited >= Duration::from_millis(5)), "{error}");
    assert_eq!(server.served.waiting(), (1, 1));
    server.echo.open();
    first.await.unwrap().unwrap();
    assert_echo(&patient.await.unwrap(), &[2]);
    assert_eq!(server.echo.calls(), [[0], [2]]);
    assert_eq!(server.served.stats().expired.load(Relaxed), 1);
}

#[actix_web::test]
async fn what_is_computed_already_is_answered_however_late() {
    let server = Server::new(Echo::new(4).shut(), QueueSettings::default());
    let sent = server.occupy_with(within(&[1], 50)).await;
    actix_web::rt::time::sleep(Duration::from_millis(60)).await;
    server.echo.open();
    assert_echo(&sent.await.unwrap(), &[1]);
}

#[actix_web::test]
async fn the_default_timeout_holds_and_can_be_the_only_one() {
    let settings = QueueSettings { timeout_ms: 50, ..QueueSettings::default() };
    let fixed = QueueSettings { timeout_override: false, ..settings.clone() };
    for (settings, expires) in [(settings, false), (fixed, true)] {
        let server = Server::new(Echo::new(4).shut(), settings);
        let first = server.occupy().await;
        let sent = server.send(within(&[1], 3_600_000));
        let silent = server.send(call(&[2]));
        assert!(matches!(silent.await.unwrap(), Err(AskError::Expired { .. })));
        if expires {
            assert!(matches!(sent.await.unwrap(), Err(AskError::Expired { .. })));
            server.echo.open();
        } else {
            server.echo.open();
            assert_echo(&sent.await.unwrap(), &[1]);
        }
        first.await.unwrap().unwrap();
    }
}

#[actix_web::test]
async fn who_is_late_may_be_computed_after_the_others() {
    let settings = QueueSettings { timeout_action: TimeoutAction::Delay, ..one_at_a_time() };
    let server = Server::new(Echo::new(4).shut(), settings);
    let first = server.occupy().await;
    let late = server.send(Call { priority: 1, ..within(&[1], 1) });
    let others = [server.send(call(&[2])), server.send(Call { priority: 8, ..call(&[3]) })];
    server.wait_for(3).await;
    actix_web::rt::time::sleep(Duration::from_millis(5)).await;
    server.echo.open();
    first.await.unwrap().unwrap();
    assert_echo(&late.await.unwrap(), &[1]);
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_eq!(server.echo.calls(), [[0], [2], [3], [1]]);
}

#[actix_web::test]
async fn a_client_that_goes_away_costs_no_compute() {
    let server = Server::new(Echo::new(4).shut(), QueueSettings::default());
    let first = server.occupy().await;
    let gone: Vec<_> = (1..=20).map(|number| server.send(call(&[number]))).collect();
    let stays = server.send(call(&[99]));
    server.wait_for(21).await;
    gone.iter().for_each(|gone| gone.abort());
    // Its place is free at once, not only when a worker comes by.
    server.wait_for(1).await;
    assert_eq!(server.served.waiting(), (1, 1));
    server.echo.open();
    first.await.unwrap().unwrap();
    assert_echo(&stays.await.unwrap(), &[99]);
    assert_eq!(server.echo.calls(), [[0], [99]]);
    assert_eq!(server.served.stats().cancelled.load(Relaxed), 20);
}

#[actix_web::test]
async fn the_rest_of_a_long_request_whose_client_went_away_is_not_computed() {
    let server = Server::new(Echo::new(4).shut(), QueueSettings::default());
    let long: Vec<i64> = (1..=100).collect();
    let sent = server.occupy_with(call(&long)).await;
    assert_eq!(server.served.waiting(), (1, 96));
    sent.abort();
    server.wait_for(0).await;
    assert_eq!(server.served.waiting(), (0, 0));
    server.echo.open();
    assert_echo(&server.served.ask(call(&[200])).await, &[200]);
    assert_eq!(server.echo.calls(), [vec![1, 2, 3, 4], vec![200]]);
}

#[actix_web::test]
async fn an_unloaded_version_gives_its_memory_back() {
    let server = Server::new(Echo::new(4), QueueSettings::default());
    server.served.ask(call(&[1])).await.unwrap();
    let executor = Arc::downgrade(server.served.executor());
    let Server { served, echo } = server;
    drop(served);
    // A worker may hold it for a moment after the answer.
    for _ in 0..1000 {
        if executor.strong_count() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((executor.strong_count(), Arc::strong_count(&echo)), (0, 1));
}
