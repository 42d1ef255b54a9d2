//! One bad request never fails its neighbours.

use serve::scheduler::QueueSettings;
use serve::served::AskError;

use crate::fake::{BAD, BAD_ROW, Echo, PANIC, SHORT, Server, assert_echo, call};

#[actix_web::test]
async fn a_bad_request_fails_alone() {
    for bad in [BAD, PANIC, BAD_ROW, SHORT] {
        let server = Server::new(Echo::new(16).shut(), QueueSettings::default());
        let first = server.occupy().await;
        let before = server.send(call(&[1, 2]));
        let sent = server.send(call(&[3, bad, 4]));
        let after = server.send(call(&[5]));
        server.wait_for(3).await;
        server.echo.open();
        assert_echo(&first.await.unwrap(), &[0]);
        assert_echo(&before.await.unwrap(), &[1, 2]);
        assert_echo(&after.await.unwrap(), &[5]);
        let error = sent.await.unwrap().unwrap_err();
        let expected = match bad {
            // The row in the request, not in the batch.
            BAD_ROW => AskError::Row { row: 1, reason: "it is 668".to_owned() },
            _ => AskError::Failed,
        };
        assert_eq!(error, expected, "{bad}");
        let calls = server.echo.calls();
        assert_eq!(calls[1..], [vec![1, 2, 3, bad, 4, 5], vec![1, 2], vec![3, bad, 4], vec![5]]);
        let stats = server.served.stats();
        assert_eq!((stats.success.total().count, stats.fail.total().count), (3, 1));
        // And the worker goes on.
        assert_echo(&server.served.ask(call(&[6])).await, &[6]);
    }
}

#[actix_web::test]
async fn a_bad_row_of_a_long_request_fails_it_once_and_nobody_else() {
    let server = Server::new(Echo::new(4).shut(), QueueSettings::default());
    let first = server.occupy().await;
    let mut long: Vec<i64> = (10..30).collect();
    long[5] = BAD_ROW;
    let sent = server.send(call(&long));
    let after = server.send(call(&[1]));
    server.wait_for(2).await;
    server.echo.open();
    first.await.unwrap().unwrap();
    let error = sent.await.unwrap().unwrap_err();
    assert_eq!(error, AskError::Row { row: 5, reason: "it is 668".to_owned() });
    assert_echo(&after.await.unwrap(), &[1]);
    // The first two parts were computed; the rest of it was not worth it.
    assert_eq!(server.echo.calls().concat().iter().filter(|first| **first >= 10).count(), 8);
    assert_eq!(server.served.stats().fail.total().count, 1);
}

#[actix_web::test]
async fn what_failed_is_not_told_to_clients() {
    let server = Server::new(Echo::new(4), QueueSettings::default());
    for bad in [BAD, PANIC] {
        let error = server.served.ask(call(&[bad])).await.unwrap_err();
        assert_eq!(error.to_string(), "the server failed to answer; its log says why");
    }
}
