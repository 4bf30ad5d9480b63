//! Route declarations, as the common frameworks write them: axum, actix and Rocket; Express, Fastify and NestJS;
//! FastAPI, Flask and Django; Rails and Sinatra; Spring, ASP.NET and JAX-RS; Go's net/http, gin, chi and echo; Laravel.
//!
//! They are alike in one thing: the path is a string literal right after the call, attribute or annotation that says
//! what it is. So a declaration is found from the literal backwards. A client's `http.get("/x")` looks the same but for
//! its receiver, hence the list of receivers that serve.

use super::{
    route::{Route, method},
    scan::{Literal, first_word, function_name, is_word, last_word, leaves_open, literals},
    source::{Language, Row},
};

/// A route as declared on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declaration {
    /// The route, without the prefix it may be mounted under.
    pub(super) route: Route,
    /// The variable it is declared on, or nothing.
    pub(super) receiver: String,
    /// The functions named as its handlers.
    pub(super) handlers: Vec<Handler>,
    /// Whether it stands above its handler, as an annotation.
    pub(super) annotation: bool,
    /// Whether its handler is written right after it.
    pub(super) opens: bool,
}

/// A function named as a handler.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Handler {
    /// The module, object or package it is named through, if any.
    pub(super) module: Option<String>,
    /// Its name.
    pub(super) name: String,
}

/// What stands before a path's literal.
struct Call<'a> {
    word: &'a str,
    receiver: &'a str,
    annotation: bool,
    /// `Method("GET", "/x")` names its method before the path.
    method: Option<&'static str>,
}

/// Whether a variable of this name serves routes rather than calls them.
fn serves(receiver: &str) -> bool {
    const NAMES: &[&str] = &["r", "e", "g", "web", "koa", "engine", "srv", "mux", "bp", "v1", "v2", "v3", "s"];
    const ENDS: &[&str] =
        &["app", "router", "routes", "route", "server", "blueprint", "api", "fastify", "express", "group"];
    let lower = receiver.to_ascii_lowercase();
    NAMES.contains(&lower.as_str()) || ENDS.iter().any(|end| lower.ends_with(end)) || lower.ends_with("_bp")
}

/// The declarations on row `at`.
pub(super) fn declarations(rows: &[Row<'_>], at: usize, language: Language, path: &str) -> Vec<Declaration> {
    let Some(row) = rows.get(at).filter(|row| row.speaks()) else { return Vec::new() };
    let text = row.text;
    if !row.has_quote() {
        return rails_resources(text, path).into_iter().collect();
    }
    let previous = at.checked_sub(1).and_then(|i| rows.get(i)).filter(|p| p.hunk == row.hunk).map_or("", |p| p.text);
    let next = rows.get(at + 1).filter(|n| n.hunk == row.hunk).map_or("", |n| n.text);
    let mut found = Vec::new();
    for literal in literals(text, language.single_quotes()) {
        let alone = literal.before.trim().is_empty();
        let before = if alone { previous } else { literal.before };
        let Some((verb, path_text)) = served_path(&literal, before, language, path) else { continue };
        let Some(call) = call_before(before) else { continue };
        let after = if alone && literal.after.trim() == "," { next } else { literal.after };
        let Some(named) = classify(&call, language, path, &literal, text) else { continue };
        let Some(route) = Route::new(verb.or(named).or_else(|| method_after(after)), &path_text) else { continue };
        found.push(Declaration {
            route,
            receiver: call.receiver.to_owned(),
            handlers: handlers(after),
            annotation: call.annotation,
            opens: !call.annotation && (leaves_open(text) || alone),
        });
    }
    found
}

/// The path in a literal, with the method when the literal bears it as in Go's `"POST /checkout"`.
fn served_path(
    literal: &Literal<'_>,
    before: &str,
    language: Language,
    path: &str,
) -> Option<(Option<&'static str>, String)> {
    let text = literal.text;
    if text.starts_with('/') {
        return Some((None, text.to_owned()));
    }
    if let Some((verb, rest)) = text.split_once(' ') {
        let verb = super::route::METHODS.iter().find(|known| **known == verb)?;
        return rest.starts_with('/').then(|| (Some(*verb), rest.to_owned()));
    }
    let trimmed = before.trim_end();
    let django = language == Language::Python
        && ["path(", "re_path(", "url("].iter().any(|call| trimmed.ends_with(call))
        && path.ends_with("urls.py");
    let rails = language == Language::Ruby && path.ends_with("routes.rb") && method(trimmed.trim()).is_some();
    let nest = language == Language::JavaScript
        && trimmed.trim_start().starts_with('@')
        && trimmed.strip_suffix('(').is_some_and(|call| method(last_word(call).1).is_some());
    let spring = language == Language::Jvm && trimmed.contains("Mapping(");
    (!text.is_empty() && (django || rails || nest || spring)).then(|| (None, format!("/{text}")))
}

/// Reads the call, attribute or annotation that ends where the literal begins.
fn call_before(before: &str) -> Option<Call<'_>> {
    let mut rest = before.trim_end();
    let mut named = None;
    if let Some(stripped) = rest.strip_suffix(',') {
        // `Method("GET", "/x", handler)`, and Flask's `add_url_rule` has no such form.
        let literal = stripped.trim_end().strip_suffix('"')?;
        let (head, verb) = literal.rsplit_once('"')?;
        named = Some(method(verb)?);
        rest = head.trim_end();
    }
    rest = rest.trim_end_matches(['{', '[', ' ']);
    if let Some(stripped) = rest.strip_suffix('=').or_else(|| rest.strip_suffix(':')) {
        let (head, keyword) = last_word(stripped.trim_end());
        if !matches!(keyword, "value" | "path" | "url" | "rule") {
            return None;
        }
        rest = head.trim_end_matches(['{', ' ']);
    }
    let rails = rest.trim_start();
    if method(rails).is_some() && rails.chars().all(|c| c.is_ascii_lowercase()) {
        return Some(Call { word: rails, receiver: "", annotation: false, method: named });
    }
    let (head, word) = last_word(rest.strip_suffix('(')?.trim_end());
    let annotation = before.trim_start().starts_with(['@', '#', '[']);
    let receiver = head.strip_suffix('.').or_else(|| head.strip_suffix("::")).map_or("", |object| last_word(object).1);
    Some(Call { word, receiver, annotation, method: named })
}

/// The method a call declares a route for (`Some(None)` for any), or `None` for a call that declares nothing.
fn classify(
    call: &Call<'_>,
    language: Language,
    path: &str,
    literal: &Literal<'_>,
    text: &str,
) -> Option<Option<&'static str>> {
    let lower = call.word.to_ascii_lowercase();
    if let Some(verb) = method(&lower) {
        let bare = call.receiver.is_empty();
        let served = serves(call.receiver)
            || (bare && call.annotation)
            || (bare && language == Language::Ruby && (path.ends_with("routes.rb") || text.trim_end().ends_with(" do")))
            // A chain of calls, one a line, whose receiver stands above.
            || (bare && literal.before.trim_start().starts_with('.') && !text.contains("send("));
        return served.then_some(Some(verb));
    }
    if let Some(verb) = lower.strip_suffix("mapping") {
        return Some(method(verb));
    }
    for prefix in ["map", "http"] {
        if let Some(verb) = lower.strip_prefix(prefix).and_then(method) {
            return Some(Some(verb));
        }
    }
    match lower.as_str() {
        "route" | "route_service" | "handlefunc" | "handle" | "handlerfunc" | "method" | "methodfunc"
        | "add_url_rule" | "add_api_route" | "add_route" | "api_route" | "websocket" | "all" | "any" => {
            let served = call.annotation || call.method.is_some() || lower != "all" && lower != "any";
            (served || serves(call.receiver)).then_some(call.method)
        }
        "resource" if call.receiver == "web" => Some(None),
        "path" if call.annotation && language == Language::Jvm => Some(None),
        "path" | "re_path" | "url" => {
            (language == Language::Python && path.ends_with("urls.py") && !literal.after.contains("include("))
                .then_some(None)
        }
        _ => None,
    }
}

/// `resources :orders` in Rails stands for several routes below one path.
fn rails_resources(text: &str, path: &str) -> Option<Declaration> {
    let name = path.ends_with("routes.rb").then(|| text.trim().strip_prefix("resources :"))??;
    let route = Route::new(None, &format!("/{}", first_word(name).0))?.with_all_below();
    Some(Declaration { route, receiver: String::new(), handlers: Vec::new(), annotation: false, opens: false })
}

/// The method that is named after the path: `post(checkout)`, `web::post()`, `methods=["POST"]`.
fn method_after(after: &str) -> Option<&'static str> {
    let mut rest = after;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let (word, following) = first_word(&rest[at..]);
        let called = following.starts_with('(') && word.chars().all(|c| c.is_ascii_lowercase());
        let quoted = following.starts_with(['"', '\'']) && word.chars().all(|c| c.is_ascii_uppercase());
        if let Some(verb) = method(word).filter(|_| called || quoted) {
            return Some(verb);
        }
        rest = following;
    }
    None
}

const NO_HANDLERS: &[&str] = &[
    "async", "req", "res", "request", "response", "next", "ctx", "self", "this", "None", "True", "False", "true",
    "false", "null", "nil", "func", "function", "http", "void",
];

/// The functions named after the path.
fn handlers(after: &str) -> Vec<Handler> {
    let mut found = Vec::new();
    let mut rest = after;
    while let Some(at) = rest.find(|c: char| is_word(c) || matches!(c, '"' | '\'')) {
        let tail = &rest[at..];
        if let Some(quote) = tail.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let inner = &tail[1..];
            rest = inner.find(quote).map_or("", |end| &inner[end + 1..]);
            continue;
        }
        let length = tail.find(|c| !is_word(c) && c != '.' && c != ':').unwrap_or(tail.len());
        let (dotted, following) = tail.split_at(length);
        let dotted = dotted.strip_suffix(".as_view").unwrap_or(dotted).trim_end_matches([':', '.']);
        let view = tail[..length].ends_with(".as_view");
        let ends = following.trim_start().is_empty() || following.trim_start().starts_with([')', ',', ';', ']']);
        let (module, name) = last_word(dotted);
        let module = last_word(module.trim_end_matches([':', '.'])).1;
        if (ends || view)
            && name.len() >= 3
            && !NO_HANDLERS.contains(&name)
            && !name.starts_with(|c: char| c.is_ascii_digit())
        {
            let module = Some(module).filter(|m| !m.is_empty() && *m != "self" && *m != "this").map(str::to_owned);
            found.push(Handler { module, name: name.to_owned() });
        }
        rest = following;
    }
    found
}

/// A prefix that routes declared on `variable` are mounted under; the empty variable means all that follow in the file,
/// as below an annotated class.
pub(super) fn mount(rows: &[Row<'_>], at: usize, language: Language) -> Option<(String, String)> {
    let row = rows.get(at).filter(|row| row.speaks())?;
    let text = row.text;
    const CLASSES: &[&str] = &["@RequestMapping(", "@Controller(", "@Path(", "[Route("];
    const PREFIXES: &[&str] = &["prefix=", "prefix =", ".Group(", ".group(", "url_prefix=", "prefix:"];
    let annotated = CLASSES.iter().any(|mark| row.has(mark));
    if !annotated && !PREFIXES.iter().any(|mark| row.has(mark)) {
        return None;
    }
    let found = literals(text, language.single_quotes());
    let below = rows.get(at + 1..).unwrap_or_default();
    let class = annotated
        && below
            .iter()
            .take(4)
            .find_map(|row| function_name(row.text))
            .is_some_and(|name| below.iter().take(4).any(|row| row.has(&format!("class {name}"))));
    if class {
        let path = found.first()?.text.trim_start_matches('/');
        return (!path.is_empty()).then(|| (String::new(), format!("/{path}")));
    }
    let prefix = found.iter().find(|literal| {
        let before = literal.before.trim_end();
        literal.text.starts_with('/') && PREFIXES.iter().any(|m| before.ends_with(m))
    })?;
    let (left, _) = text.split_once('=')?;
    let variable = last_word(left.trim_end().trim_end_matches(':').trim_end()).1;
    (!variable.is_empty()).then(|| (variable.to_owned(), prefix.text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LineKind;

    fn row(text: &str) -> Row<'_> {
        Row::new(LineKind::Added, 1, text)
    }

    fn routes(path: &str, language: Language, lines: &[&str]) -> Vec<String> {
        let rows: Vec<Row<'_>> = lines.iter().map(|line| row(line)).collect();
        (0..rows.len())
            .flat_map(|at| declarations(&rows, at, language, path))
            .map(|declaration| declaration.route.to_string())
            .collect()
    }

    #[test]
    fn routes_are_read_from_the_calls_of_many_frameworks() {
        use Language::{CSharp, Go, JavaScript, Jvm, Php, Python, Ruby, Rust};
        for (path, language, line, expected) in [
            ("a.rs", Rust, r#"        .route("/checkout", post(checkout))"#, "POST /checkout"),
            ("a.rs", Rust, r##"#[get("/users/{id}")]"##, "GET /users/{id}"),
            ("a.rs", Rust, r#".service(web::resource("/pay").to(pay))"#, "/pay"),
            ("a.rs", Rust, r#".route("/pay", web::post().to(pay))"#, "POST /pay"),
            ("a.ts", JavaScript, "router.post('/checkout', auth, async (req, res) => {", "POST /checkout"),
            ("a.ts", JavaScript, "  @Get('items')", "GET /items"),
            ("a.py", Python, r#"@app.post("/checkout")"#, "POST /checkout"),
            ("a.py", Python, r#"@bp.route("/cart", methods=["POST"])"#, "POST /cart"),
            ("shop/urls.py", Python, r#"    path("checkout/", views.checkout, name="checkout"),"#, "/checkout/"),
            ("config/routes.rb", Ruby, "  post '/checkout', to: 'checkout#create'", "POST /checkout"),
            ("config/routes.rb", Ruby, "  resources :orders", "/orders"),
            ("app.rb", Ruby, "post '/pay' do", "POST /pay"),
            ("A.java", Jvm, r#"    @PostMapping("/checkout")"#, "POST /checkout"),
            ("A.java", Jvm, r#"    @GetMapping(value = "/cart/{id}")"#, "GET /cart/{id}"),
            ("a.go", Go, r#"	mux.HandleFunc("POST /checkout", s.checkout)"#, "POST /checkout"),
            ("a.go", Go, r#"	r.GET("/cart/:id", getCart)"#, "GET /cart/:id"),
            ("a.go", Go, r#"	r.Method("PUT", "/cart", h)"#, "PUT /cart"),
            ("A.cs", CSharp, r#"app.MapPost("/checkout", Checkout);"#, "POST /checkout"),
            ("web.php", Php, "Route::get('/cart', [CartController::class, 'show']);", "GET /cart"),
        ] {
            assert_eq!(routes(path, language, &[line]), [expected], "{line}");
        }
        let split = [".route(", r#"    "/checkout","#, "    post(handlers::checkout),", ")"];
        assert_eq!(routes("a.rs", Rust, &split), ["POST /checkout"]);
    }

    #[test]
    fn what_calls_a_route_declares_none() {
        for line in [
            r#"const r = await axios.get("/api/cart");"#,
            r#"fetch("/api/cart")"#,
            r#"cache.get("/cart")"#,
            r#"requests.post("/pay")"#,
            r#"let path = Path::new("/etc/shop");"#,
            r#"File.open("/tmp/x")"#,
            r#"app.use("/static", files)"#,
        ] {
            assert_eq!(routes("a.ts", Language::JavaScript, &[line]), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn handlers_are_named_with_their_module() {
        let named = |after| handlers(after).into_iter().map(|h| (h.module, h.name)).collect::<Vec<_>>();
        assert_eq!(named(", post(checkout))"), [(None, "checkout".to_owned())]);
        assert_eq!(named(", web::post().to(pay::submit))"), [(Some("pay".to_owned()), "submit".to_owned())]);
        assert_eq!(
            named(", views.PayView.as_view(), name=\"pay\"),"),
            [(Some("views".to_owned()), "PayView".to_owned())]
        );
        assert_eq!(named(", async (req, res) => {"), []);
    }

    #[test]
    fn a_prefix_is_known_by_its_variable_or_its_class() {
        let of = |lines: &[&str], language| {
            let rows: Vec<Row<'_>> = lines.iter().map(|line| row(line)).collect();
            mount(&rows, 0, language)
        };
        let found = |variable: &str, prefix: &str| Some((variable.to_owned(), prefix.to_owned()));
        assert_eq!(of(&[r#"router = APIRouter(prefix="/cart")"#], Language::Python), found("router", "/cart"));
        assert_eq!(of(&[r#"api := r.Group("/api")"#], Language::Go), found("api", "/api"));
        let spring = [r#"@RequestMapping("/orders")"#, "public class OrderController {"];
        assert_eq!(of(&spring, Language::Jvm), found("", "/orders"));
        let method = [r#"@RequestMapping("/orders")"#, "public Order get() {"];
        assert_eq!(of(&method, Language::Jvm), None);
    }
}
