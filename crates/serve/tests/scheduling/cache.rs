//! The response cache.

use std::sync::Arc;

use serve::scheduler::{QueueOverrides, Scheduler, SchedulerOptions};
use serve::served::{AskError, Served};

use crate::fake::{BAD, Echo, Server, Shared, assert_echo, call};

fn options(cache_bytes: usize) -> SchedulerOptions {
    let own = QueueOverrides { cache: Some(false), ..QueueOverrides::default() };
    SchedulerOptions {
        workers: 1,
        cache_bytes,
        models: [("uncached".to_owned(), own)].into(),
        ..Default::default()
    }
}

#[actix_web::test]
async fn the_same_inputs_are_computed_once() {
    let scheduler = Scheduler::new(options(1 << 20)).unwrap();
    let server = Server::with(Echo::new(4), &scheduler);
    for _ in 0..3 {
        assert_echo(&server.served.ask(call(&[1, 2])).await, &[1, 2]);
    }
    assert_echo(&server.served.ask(call(&[2, 1])).await, &[2, 1]);
    assert_eq!(server.echo.calls(), [[1, 2], [2, 1]]);
    let stats = server.served.stats();
    assert_eq!((stats.cache_hit.total().count, stats.cache_miss.total().count), (2, 2));
    assert_eq!(stats.success.total().count, 4);
    // Failures are not kept.
    for _ in 0..2 {
        assert_eq!(server.served.ask(call(&[BAD])).await.unwrap_err(), AskError::Failed);
    }
    assert_eq!(server.echo.calls().len(), 4);
}

/// Digesting them would take the thread of the network too long.
#[actix_web::test]
async fn large_inputs_are_kept_too() {
    let scheduler = Scheduler::new(options(16 << 20)).unwrap();
    let server = Server::with(Echo::new(1 << 16), &scheduler);
    // None of them is one that the executor fails at.
    let large: Vec<i64> = (100_000..150_000).collect();
    let other: Vec<i64> = (100_000..150_000).rev().collect();
    for _ in 0..2 {
        for values in [&large, &other] {
            assert_echo(&server.served.ask(call(values)).await, values);
        }
    }
    assert_eq!(server.echo.calls().len(), 2);
}

#[actix_web::test]
async fn versions_do_not_share_answers_and_a_model_may_stay_out() {
    let scheduler = Scheduler::new(options(1 << 20)).unwrap();
    let first = Server::with(Echo::new(4), &scheduler);
    let second = Server::with(Echo::new(4), &scheduler);
    let echo = Arc::new(Echo::new(4));
    let out = Served::new("uncached", 1, Arc::new(Shared(Arc::clone(&echo))), &scheduler, &Arc::default());
    for _ in 0..2 {
        for served in [&first.served, &second.served, &out] {
            served.ask(call(&[1])).await.unwrap();
        }
    }
    let calls = [&first.echo, &second.echo, &echo].map(|echo| echo.calls().len());
    assert_eq!(calls, [1, 1, 2]);
    // What was kept of a version goes with it.
    drop(first);
    let again = Server::with(Echo::new(4), &scheduler);
    again.served.ask(call(&[1])).await.unwrap();
    assert_eq!(again.echo.calls().len(), 1);
}

#[actix_web::test]
async fn without_being_asked_for_nothing_is_kept() {
    let scheduler = Scheduler::new(options(0)).unwrap();
    let server = Server::with(Echo::new(4), &scheduler);
    for _ in 0..2 {
        server.served.ask(call(&[1])).await.unwrap();
    }
    assert_eq!(server.echo.calls().len(), 2);
    assert_eq!(server.served.stats().cache_miss.total().count, 0);
}
