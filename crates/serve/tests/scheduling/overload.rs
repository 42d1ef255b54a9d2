//! More than can be computed: answers, refusals, and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serve::scheduler::QueueSettings;
use serve::served::{AskError, Call};

use crate::fake::{Echo, Server, assert_echo, call, scheduler};

/// Clients that give up early, for a while, must leave nothing behind that fails those who come later.
#[test]
fn after_a_storm_of_impatient_clients_everything_succeeds() {
    let echo = Echo::new(2).pausing(Duration::from_millis(1));
    let settings = QueueSettings { max_queue_requests: 32, ..QueueSettings::default() };
    let server = Server::with(echo, &scheduler(1, settings));
    let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..8i64 {
            let (server, answered, refused) = (&server, &answered, &refused);
            scope.spawn(move || {
                actix_web::rt::System::new().block_on(async {
                    for round in 0..10i64 {
                        let asked = (0..16i64).map(async |number| {
                            let firsts = [1_000 + client * 1_000 + round * 16 + number];
                            let timeout = Some(Duration::from_micros(500));
                            let ask = server.served.ask(Call { timeout, ..call(&firsts) });
                            if number % 2 == 0 {
                                // The client goes away before the server says anything.
                                let patience = Duration::from_micros(100);
                                let _ = actix_web::rt::time::timeout(patience, ask).await;
                                return;
                            }
                            match ask.await {
                                Ok(answer) => {
                                    assert_echo(&Ok(answer), &firsts);
                                    answered.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(AskError::Expired { .. } | AskError::Full(_)) => {
                                    refused.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(error) => panic!("{error}"),
                            }
                        });
                        futures_util::future::join_all(asked).await;
                    }
                });
            });
        }
    });
    assert_eq!(answered.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed), 8 * 10 * 8);
    assert!(refused.load(Ordering::Relaxed) > 0, "it was no storm");
    assert_eq!(server.served.waiting(), (0, 0));
    actix_web::rt::System::new().block_on(async {
        for number in 0..50 {
            assert_echo(&server.served.ask(call(&[number])).await, &[number]);
        }
    });
}

/// Long requests and a queue that is far too small for them (what brought other servers down).
#[test]
fn overload_is_refused_and_never_panics() {
    let settings = QueueSettings { max_queue_requests: 4, max_queue_rows: 4, ..QueueSettings::default() };
    let server = Server::with(Echo::new(3), &scheduler(2, settings));
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..16i64 {
            let (server, answered) = (&server, &answered);
            scope.spawn(move || {
                let rows = if client % 4 == 0 { 100 } else { 1 };
                let firsts: Vec<i64> = (0..rows).map(|row| 1_000 + client * 1_000 + row).collect();
                actix_web::rt::System::new().block_on(async {
                    for _ in 0..100 {
                        match server.served.ask(call(&firsts)).await {
                            Ok(answer) => {
                                assert_echo(&Ok(answer), &firsts);
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(AskError::Full(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            });
        }
    });
    let stats = server.served.stats();
    let answered = answered.load(Ordering::Relaxed) as u64;
    assert!(answered > 0);
    assert_eq!(stats.success.total().count, answered);
    assert_eq!(stats.rejected.load(Ordering::Relaxed), 1600 - answered);
    assert_eq!(server.served.waiting(), (0, 0));
}
