//! An HTTP route as a diff spells it, and the matcher it becomes. The spelling is a stranger's: only sane ones count.

use std::fmt;

use crate::domain::Match;

/// Most bytes of a route.
pub(super) const ROUTE_BYTES_MAX: usize = 100;

/// The methods that HTTP routes name, as written in upper case.
pub(super) const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// An HTTP route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    /// Its method, when it is known.
    method: Option<&'static str>,
    /// Its path as written, parameters included.
    path: String,
    /// Whether everything below the path is meant too, as in a controller of several routes.
    below: bool,
}

impl Route {
    /// A route of that path; `None` when the path is not one that telemetry could know.
    pub(super) fn new(method: Option<&'static str>, path: &str) -> Option<Self> {
        is_sane(path).then(|| Self { method, path: path.to_owned(), below: false })
    }

    /// The same with everything below it.
    pub(super) fn with_all_below(mut self) -> Self {
        self.below = true;
        self
    }

    /// The same mounted under `prefix`; `None` when that is not sane any more.
    pub(super) fn mounted_under(&self, prefix: &str) -> Option<Self> {
        let tail = if self.path == "/" { "" } else { self.path.as_str() };
        let path = format!("{}{tail}", prefix.trim_end_matches('/'));
        Self::new(self.method, &path).map(|route| Self { below: self.below, ..route })
    }

    /// Its path as written.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Which values of a route label are meant: the path itself, or everything up to its first parameter, for
    /// frameworks spell parameters in many ways. `None` where that would mean every route.
    pub(super) fn matcher(&self) -> Option<Match> {
        let mut literal = String::new();
        for segment in self.path.split_inclusive('/') {
            if segment.contains([':', '{', '<', '*', '[', '$']) {
                return (literal.len() > 1).then_some(Match::StartsWith(literal));
            }
            literal.push_str(segment);
        }
        match (self.below, literal.as_str()) {
            (true, "/") => None,
            (true, _) => Some(Match::StartsWith(literal)),
            (false, _) => Some(Match::Is(literal)),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method {
            Some(method) => write!(f, "{method} {}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// Whether a path may become a matcher.
pub(super) fn is_sane(path: &str) -> bool {
    path.len() <= ROUTE_BYTES_MAX
        && path.starts_with('/')
        && !path.contains("..")
        && !path.contains("//")
        && path.bytes().all(|b| {
            b.is_ascii_alphanumeric()
                || matches!(b, b'_' | b'-' | b'.' | b'/' | b':' | b'{' | b'}' | b'<' | b'>' | b'*' | b'$' | b'[' | b']')
        })
}

/// The method of that name, in any case.
pub(super) fn method(name: &str) -> Option<&'static str> {
    METHODS.iter().find(|method| method.eq_ignore_ascii_case(name)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(path: &str) -> Option<Match> {
        Route::new(None, path).and_then(|route| route.matcher())
    }

    #[test]
    fn a_route_is_matched_up_to_its_first_parameter() {
        assert_eq!(matcher("/checkout"), Some(Match::Is("/checkout".into())));
        assert_eq!(matcher("/"), Some(Match::Is("/".into())));
        for path in ["/users/{id}/pay", "/users/:id", "/users/<int:pk>/", "/users/[id]", "/users/*rest", "/users/$id"] {
            assert_eq!(matcher(path), Some(Match::StartsWith("/users/".into())), "{path}");
        }
        assert_eq!(matcher("/{tenant}"), None, "a matcher for every route narrows nothing");
    }

    #[test]
    fn an_insane_route_becomes_nothing() {
        let edge = format!("/{}", "a".repeat(ROUTE_BYTES_MAX - 1));
        assert!(matcher(&edge).is_some());
        let long = format!("{edge}a");
        for path in
            [long.as_str(), "", "checkout", "/a b", "/a\"}", "/é", "/a\n", "/../etc", "//host/x", "/a?b=c", "/a|b"]
        {
            assert_eq!(Route::new(None, path), None, "{path}");
        }
    }

    #[test]
    fn a_mounted_route_bears_its_prefix_once() {
        let pay = Route::new(method("post"), "/pay").unwrap();
        assert_eq!(pay.mounted_under("/api/").unwrap().to_string(), "POST /api/pay");
        assert_eq!(Route::new(None, "/").unwrap().mounted_under("/api").unwrap().path(), "/api");
        assert_eq!(pay.mounted_under(&"/x".repeat(50)), None);
    }
}
