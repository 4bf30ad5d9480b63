//! Routes from file names. Some frameworks make a route of a file's place, and there the answer is sure; elsewhere a file
//! in a folder of handlers is usually named after its route, and that is a guess.

use super::{
    route::{Route, method},
    source::Source,
};

/// A route read from a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileRoute {
    /// The route.
    pub(super) route: Route,
    /// Whether the framework derives the route from the path, or the changed lines name it too.
    pub(super) sure: bool,
}

const HANDLER_FOLDERS: &[&str] = &[
    "routes",
    "route",
    "routers",
    "handlers",
    "handler",
    "controllers",
    "controller",
    "views",
    "endpoints",
    "resources",
];
const NO_ROUTES: &[&str] = &[
    "index",
    "mod",
    "main",
    "app",
    "application",
    "router",
    "routes",
    "__init__",
    "base",
    "common",
    "middleware",
    "lib",
    "types",
    "urls",
    "error",
    "errors",
    "server",
    "home",
    "views",
    "handlers",
    "utils",
    "helpers",
    "layout",
    "concerns",
];
const NAME_ENDS: &[&str] =
    &["controller", "handlers", "handler", "routes", "route", "router", "views", "view", "resource", "endpoint"];

/// The route of a file, if its path speaks of one.
pub(super) fn file_route(source: &Source<'_>) -> Option<FileRoute> {
    let folders_and_name: Vec<&str> = source.path.split('/').collect();
    let (name, folders) = folders_and_name.split_last()?;
    if let Some(route) = next_or_svelte(name, folders).or_else(|| nitro(name, folders)) {
        return Some(FileRoute { route, sure: true });
    }
    let (stem, _) = name.split_once('.').unwrap_or((name, ""));
    let at = folders.iter().rposition(|folder| HANDLER_FOLDERS.contains(folder))?;
    let plain = plain_name(stem);
    if plain.is_empty() || NO_ROUTES.contains(&plain.as_str()) {
        return None;
    }
    let between = folders.get(at + 1..)?.join("/");
    let path = if between.is_empty() { format!("/{plain}") } else { format!("/{between}/{plain}") };
    let route = Route::new(None, &path)?;
    let route = if stem.to_ascii_lowercase().contains("controller") { route.with_all_below() } else { route };
    let word = plain.replace('-', "_");
    let sure = source.rows.iter().any(|row| row.speaks() && row.text.to_ascii_lowercase().contains(&word));
    Some(FileRoute { route, sure })
}

/// `CheckoutController`, `checkout_handler` and `checkout.routes` are all `checkout`.
fn plain_name(stem: &str) -> String {
    let mut snake = String::new();
    for c in stem.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    for end in NAME_ENDS {
        if let Some(plain) = snake.strip_suffix(end).filter(|plain| !plain.is_empty()) {
            return plain.trim_end_matches(['_', '-', '.']).to_owned();
        }
    }
    snake
}

/// `app/api/cart/route.ts`, `pages/api/cart.ts`, `src/routes/cart/+server.ts`: groups in brackets are no part of a route.
fn next_or_svelte(name: &str, folders: &[&str]) -> Option<Route> {
    let (stem, extension) = name.rsplit_once('.')?;
    if !matches!(extension, "ts" | "js" | "tsx" | "jsx" | "mjs") {
        return None;
    }
    let below = |root: &str| folders.iter().rposition(|folder| *folder == root).and_then(|at| folders.get(at + 1..));
    let (segments, last) = match stem {
        "route" => (below("app")?, None),
        "+server" | "+page.server" => (below("routes")?, None),
        _ => {
            let segments = below("pages").filter(|segments| segments.first() == Some(&"api"))?;
            (segments, Some(stem).filter(|stem| *stem != "index"))
        }
    };
    let kept =
        segments.iter().copied().filter(|segment| !(segment.starts_with('(') && segment.ends_with(')'))).chain(last);
    Route::new(None, &format!("/{}", kept.collect::<Vec<_>>().join("/")))
}

/// `server/api/cart.post.ts`, as Nuxt and Nitro have it, and `api/cart.js` at the root.
fn nitro(name: &str, folders: &[&str]) -> Option<Route> {
    let (stem, extension) = name.rsplit_once('.')?;
    if !matches!(extension, "ts" | "js" | "mjs") {
        return None;
    }
    let segments = match folders {
        ["api", ..] => folders,
        _ => folders.iter().position(|folder| *folder == "server").and_then(|at| folders.get(at + 1..))?,
    };
    if segments.first() != Some(&"api") {
        return None;
    }
    let (stem, verb) = match stem.rsplit_once('.') {
        Some((stem, verb)) => (stem, Some(method(verb)?)),
        None => (stem, None),
    };
    let last = Some(stem).filter(|stem| *stem != "index");
    Route::new(verb, &format!("/{}", segments.iter().copied().chain(last).collect::<Vec<_>>().join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{FileDiff, Line, LineKind, TouchKind},
        plan::heuristic::source::Source,
    };

    fn of(path: &str, line: &str) -> Option<(String, bool)> {
        let file = FileDiff {
            path: path.into(),
            previous_path: None,
            kind: TouchKind::Modified,
            binary: false,
            lines: vec![Line { kind: LineKind::Added, number: 1, text: line.into() }],
        };
        file_route(&Source::read(&file, 10)).map(|found| (found.route.to_string(), found.sure))
    }

    #[test]
    fn frameworks_that_route_by_file_are_read_surely() {
        for (path, route) in [
            ("app/api/cart/route.ts", "/api/cart"),
            ("src/app/(shop)/api/cart/[id]/route.ts", "/api/cart/[id]"),
            ("pages/api/checkout.ts", "/api/checkout"),
            ("pages/api/cart/index.ts", "/api/cart"),
            ("src/routes/pay/+server.ts", "/pay"),
            ("server/api/cart.post.ts", "POST /api/cart"),
            ("api/cart.js", "/api/cart"),
        ] {
            assert_eq!(of(path, "x"), Some((route.to_owned(), true)), "{path}");
        }
    }

    #[test]
    fn a_file_among_handlers_is_a_guess_until_its_lines_say_the_same() {
        let guess = |path, line| of(path, line).unwrap();
        assert_eq!(guess("src/routes/checkout.ts", "return total;"), ("/checkout".to_owned(), false));
        assert_eq!(guess("src/routes/checkout.ts", "export function checkout() {"), ("/checkout".to_owned(), true));
        assert_eq!(guess("shop/views/checkout.py", "class CheckoutView:"), ("/checkout".to_owned(), true));
        assert_eq!(guess("app/controllers/api/v1/orders_controller.rb", "x").0, "/api/v1/orders");
        assert_eq!(guess("src/controllers/CartController.cs", "x").0, "/cart");
        for path in ["src/routes/index.ts", "src/routes/mod.rs", "src/cart.rs", "src/views/helpers.py", "x"] {
            assert_eq!(of(path, "x"), None, "{path}");
        }
    }
}
