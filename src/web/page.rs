//! The dashboard: one page of three files in the binary, served from our own origin. It loads nothing from elsewhere
//! and has no way to act; it reads `/v1/events`.

use std::sync::Arc;

use axum::{
    Router,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use super::Site;

/// A file of the page: where it is served, its media type, its text.
struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const FILES: &[File] = &[
    File { path: "/", kind: "text/html; charset=utf-8", text: include_str!("page/index.html") },
    File { path: "/page.css", kind: "text/css; charset=utf-8", text: include_str!("page/page.css") },
    File { path: "/page.js", kind: "text/javascript; charset=utf-8", text: include_str!("page/page.js") },
    File { path: "/charts.js", kind: "text/javascript; charset=utf-8", text: include_str!("page/charts.js") },
    File { path: "/icon.svg", kind: "image/svg+xml", text: include_str!("page/icon.svg") },
];

pub(super) fn routes() -> Router<Arc<Site>> {
    FILES.iter().fold(Router::new(), |router, file| router.route(file.path, get(move || async { serve(file) })))
}

fn serve(file: &'static File) -> Response {
    // The files belong to the running binary: a browser asks again after an upgrade.
    ([(header::CONTENT_TYPE, file.kind), (header::CACHE_CONTROL, "no-cache")], file.text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_words_never_become_markup() {
        for file in FILES.iter().filter(|file| file.kind.starts_with("text/javascript")) {
            for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!file.text.contains(way), "{} in {}", way, file.path);
            }
        }
    }
}
