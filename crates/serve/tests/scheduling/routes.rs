//! What a client of the routes sees of the queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::web::Data;
use serde_json::json;
use serve::app;
use serve::config::Limits;
use serve::pool::Pool;
use serve::scheduler::QueueSettings;
use serve::state::{Model, State, Version};

use crate::fake::{Echo, Server, scheduler};

#[actix_web::test]
async fn a_full_queue_is_503_and_a_late_request_504() {
    let settings = QueueSettings { max_queue_requests: 1, ..QueueSettings::default() };
    let scheduler = scheduler(1, settings);
    let server = Server::with(Echo::new(4).shut(), &scheduler);
    let state = Data::new(State::new(Pool::new(1, 4).unwrap(), scheduler, Limits::default()));
    state.update(|catalog| {
        let versions = BTreeMap::from([(1, Version::Ready(Arc::clone(&server.served)))]);
        catalog.models.insert("echo".to_owned(), Model { versions, ..Model::default() });
    });
    state.loaded();
    let application = init_service(app::new(state, app::endpoints)).await;
    let infer = async |parameters: serde_json::Value| {
        let input = json!({ "name": "x", "datatype": "INT64", "shape": [1, 3], "data": [1, 2, 3] });
        let body = json!({ "inputs": [input], "parameters": parameters });
        let request = TestRequest::post().uri("/v2/models/echo/infer").set_json(body);
        call_service(&application, request.to_request()).await
    };
    let first = server.occupy().await;
    // Its time is up while the worker is occupied: 5,000 microseconds.
    let late = infer(json!({ "timeout": 5_000, "priority": "1" })).await;
    assert_eq!((late.status().as_u16(), late.headers().get("retry-after")), (504, None));
    let waiting = server.send(crate::fake::call(&[7]));
    server.wait_for(1).await;
    let refused = infer(json!({})).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers().get("retry-after").unwrap(), "1");
    let unreadable = infer(json!({ "timeout": -1 })).await;
    assert_eq!(unreadable.status(), 400);
    server.echo.open();
    first.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(infer(json!({ "priority": 99 })).await.status(), 200);
    // What takes tensors that no picture or table becomes has no simple route.
    let simple = TestRequest::post().uri("/models/echo/predict").set_json(json!({ "input": [1, 2, 3] }));
    assert_eq!(call_service(&application, simple.to_request()).await.status(), 400);
}
