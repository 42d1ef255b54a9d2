//! The playground, the operator's page and the page about the routes: each one page and its files, compiled into the
//! binary.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};

use crate::error::{Result, ServeError, shown};

/// A file of one of the pages.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const ASSETS: [Asset; 18] = [
    Asset {
        path: "/",
        content_type: "text/html; charset=utf-8",
        content: include_str!("../playground/index.html"),
    },
    Asset {
        path: "/playground/style.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("../playground/style.css"),
    },
    Asset { path: "/playground/app.js", content_type: SCRIPT, content: include_str!("../playground/app.js") },
    Asset {
        path: "/playground/canvas.js",
        content_type: SCRIPT,
        content: include_str!("../playground/canvas.js"),
    },
    Asset {
        path: "/playground/compare.js",
        content_type: SCRIPT,
        content: include_str!("../playground/compare.js"),
    },
    Asset {
        path: "/playground/inputs.js",
        content_type: SCRIPT,
        content: include_str!("../playground/inputs.js"),
    },
    Asset { path: "/playground/key.js", content_type: SCRIPT, content: include_str!("../playground/key.js") },
    Asset {
        path: "/playground/results.js",
        content_type: SCRIPT,
        content: include_str!("../playground/results.js"),
    },
    Asset {
        path: "/ops",
        content_type: "text/html; charset=utf-8",
        content: include_str!("../operator/index.html"),
    },
    Asset {
        path: "/ops/style.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("../operator/style.css"),
    },
    Asset { path: "/ops/app.js", content_type: SCRIPT, content: include_str!("../operator/app.js") },
    Asset { path: "/ops/client.js", content_type: SCRIPT, content: include_str!("../operator/client.js") },
    Asset { path: "/ops/drift.js", content_type: SCRIPT, content: include_str!("../operator/drift.js") },
    Asset { path: "/ops/model.js", content_type: SCRIPT, content: include_str!("../operator/model.js") },
    Asset { path: "/ops/numbers.js", content_type: SCRIPT, content: include_str!("../operator/numbers.js") },
    Asset {
        path: "/docs",
        content_type: "text/html; charset=utf-8",
        content: include_str!("../docs/index.html"),
    },
    Asset {
        path: "/docs/style.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("../docs/style.css"),
    },
    Asset { path: "/docs/app.js", content_type: SCRIPT, content: include_str!("../docs/app.js") },
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing from elsewhere, nothing inline; pictures that the page itself makes are `data:` or `blob:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The paths of the files.
pub fn paths() -> impl Iterator<Item = &'static str> {
    ASSETS.iter().map(|asset| asset.path)
}

/// Answers one of the files by its path.
///
/// # Errors
/// 404 when there is no such file.
pub async fn serve(request: HttpRequest) -> Result<HttpResponse> {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == request.path()) else {
        return Err(ServeError::not_found(format_args!("there is no route {}", shown(request.path()))));
    };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.content_type))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        // The files change with the binary and are small, so a browser asks each time.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(asset.content))
}
