//! The playground, the operator's page and the page about the routes: each one page and its files, compiled into the
//! binary.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};

use crate::error::{Result, ServeError, shown};

/// The files of the pages: where each is asked for, and what is in it.
const ASSETS: [(&str, &str); 18] = [
    ("/", include_str!("../playground/index.html")),
    ("/playground/style.css", include_str!("../playground/style.css")),
    ("/playground/app.js", include_str!("../playground/app.js")),
    ("/playground/canvas.js", include_str!("../playground/canvas.js")),
    ("/playground/compare.js", include_str!("../playground/compare.js")),
    ("/playground/inputs.js", include_str!("../playground/inputs.js")),
    ("/playground/key.js", include_str!("../playground/key.js")),
    ("/playground/results.js", include_str!("../playground/results.js")),
    ("/ops", include_str!("../operator/index.html")),
    ("/ops/style.css", include_str!("../operator/style.css")),
    ("/ops/app.js", include_str!("../operator/app.js")),
    ("/ops/client.js", include_str!("../operator/client.js")),
    ("/ops/drift.js", include_str!("../operator/drift.js")),
    ("/ops/model.js", include_str!("../operator/model.js")),
    ("/ops/numbers.js", include_str!("../operator/numbers.js")),
    ("/docs", include_str!("../docs/index.html")),
    ("/docs/style.css", include_str!("../docs/style.css")),
    ("/docs/app.js", include_str!("../docs/app.js")),
];

/// What a file is, by the end of its path; one without an end is a page.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        _ => "text/html; charset=utf-8",
    }
}

/// Nothing from elsewhere, nothing inline; pictures that the page itself makes are `data:` or `blob:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The paths of the files.
pub fn paths() -> impl Iterator<Item = &'static str> {
    ASSETS.iter().map(|(path, _)| *path)
}

/// Answers one of the files by its path.
///
/// # Errors
/// 404 when there is no such file.
pub async fn serve(request: HttpRequest) -> Result<HttpResponse> {
    let Some((path, content)) = ASSETS.iter().find(|(path, _)| *path == request.path()) else {
        return Err(ServeError::not_found(format_args!("there is no route {}", shown(request.path()))));
    };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type(path)))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        // The files change with the binary and are small, so a browser asks each time.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(*content))
}
