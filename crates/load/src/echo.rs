//! A bare HTTP server on the same library as ours, which gives back what it is sent: what HTTP alone costs.

use std::net::SocketAddr;

use actix_web::{App, HttpResponse, HttpServer, web};

/// Serves on a free port until the process is ended; `started` is told the address.
///
/// # Errors
/// When there is no port.
pub fn run(threads: usize, started: impl FnOnce(SocketAddr)) -> std::io::Result<()> {
    actix_web::rt::System::new().block_on(async {
        let echo = async |body: web::Bytes| HttpResponse::Ok().body(body);
        let limit = web::PayloadConfig::new(64 << 20);
        let server =
            HttpServer::new(move || App::new().app_data(limit.clone()).default_service(web::post().to(echo)))
                // As many as the server takes.
                .workers(threads.clamp(1, 4))
                .bind(("127.0.0.1", 0))?;
        if let Some(address) = server.addrs().first() {
            started(*address);
        }
        server.run().await
    })
}
