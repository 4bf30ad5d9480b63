//! Secrets that are known by their own shape, and secrets that are known by the name beside them.
//!
//! The shapes are what providers say of their tokens, wide rather than narrow: a token of tomorrow is longer. None asks
//! for a border before it, for in JSON the letter of an escape stands there (`\nghp_…`). All begin with letters of their
//! own, so that one pass over the text looks for all of them at once.

use std::sync::LazyLock;

use regex::{Captures, Regex, RegexSet};

use super::{Found, entropy};

/// What kind of secret has which shape.
const SHAPES: &[(&str, &str)] = &[
    ("private key", PRIVATE_KEY),
    ("github token", r"gh[pousr]_[A-Za-z0-9]{20,}"),
    ("github token", r"github_pat_[A-Za-z0-9_]{20,}"),
    ("gitlab token", r"gl(?:pat|dt|rt|ptt|ft|soat|cbt|agent|imt|oas|ffct)-[A-Za-z0-9_.-]{16,}"),
    ("aws key id", r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}"),
    ("google key", r"AIza[A-Za-z0-9_-]{30,}"),
    ("google token", r"ya29\.[A-Za-z0-9_-]{20,}"),
    ("google secret", r"GOCSPX-[A-Za-z0-9_-]{20,}"),
    ("slack token", r"xox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}"),
    ("slack token", r"xapp-[0-9]-[A-Za-z0-9-]{10,}"),
    ("slack webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/+_-]{16,}"),
    ("discord webhook", r"discord(?:app)?\.com/api/webhooks/[0-9]{8,}/[A-Za-z0-9_-]{20,}"),
    ("stripe key", r"[sr]k_(?:live|test)_[A-Za-z0-9]{10,}"),
    ("webhook secret", r"whsec_[A-Za-z0-9+/=]{20,}"),
    ("anthropic key", r"sk-ant-[A-Za-z0-9_-]{20,}"),
    ("openai key", r"sk-(?:proj|svcacct|admin|None|or-v1)-[A-Za-z0-9_-]{20,}"),
    ("openai key", r"sk-[A-Za-z0-9]{32,}"),
    ("npm token", r"npm_[A-Za-z0-9]{30,}"),
    ("pypi token", r"pypi-[A-Za-z0-9_-]{40,}"),
    ("rubygems key", r"rubygems_[0-9a-f]{40,}"),
    ("docker token", r"dckr_[po]at_[A-Za-z0-9_-]{20,}"),
    ("sendgrid key", r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    ("twilio key", r"(?:SK|AC)[0-9a-f]{32}"),
    ("telegram token", r":AA[A-Za-z0-9_-]{32,}"),
    ("mailgun key", r"key-[0-9a-f]{32}"),
    ("hugging face token", r"hf_[A-Za-z0-9]{30,}"),
    ("vault token", r"hvs\.[A-Za-z0-9_-]{20,}"),
    ("digitalocean token", r"do[opr]_v1_[0-9a-f]{40,}"),
    ("shopify token", r"shp(?:at|ss|ca|pa)_[0-9a-fA-F]{32}"),
    ("grafana token", r"glsa_[A-Za-z0-9_]{32,}"),
    ("grafana token", r"glc_[A-Za-z0-9+/=]{32,}"),
    ("databricks token", r"dapi[0-9a-f]{32}"),
    ("atlassian token", r"ATATT3[A-Za-z0-9_=-]{40,}"),
    ("age key", r"AGE-SECRET-KEY-1[A-Z0-9]{40,}"),
    ("new relic key", r"NRAK-[A-Z0-9]{20,}"),
    ("linear key", r"lin_api_[A-Za-z0-9]{30,}"),
    ("jwt", r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,3}"),
];

/// From its first line to its last, through the marks of a diff, quotes and written-out line ends. Only lines that a key can
/// have belong to it: what merely stands between two such marks is not hidden.
const PRIVATE_KEY: &str = concat!(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----",
    r#"(?:[\s"'+,;|>#*.()\\-]*(?:Proc-Type|DEK-Info|Version|Comment|Hash): [^\n]{0,120})*"#,
    r#"(?:(?:[\s"'+,;|>#*.()\\-]|\\[nr])*[A-Za-z0-9+/=\\]{24,})*"#,
    r#"(?:(?:[\s"'+,;|>#*.()\\-]|\\[nr])*[A-Za-z0-9+/=\\]{0,32}(?:[\s"'+,;|>#*.()\\-]|\\[nr])*-----END [A-Z0-9 ]{0,50}-----)?"#,
);

/// Secrets that stand in a place of their own: where, and how sure that is.
static PLACED: LazyLock<Vec<(&str, Sureness, Regex)>> = LazyLock::new(|| {
    compiled(&[
        ("password in a url", Sureness::Sure, r#"://[^\s/:@"'`⟦⟧]{0,100}:(?P<it>[^\s/@"'`⟦⟧]{1,200})@"#),
        ("authorization", Sureness::IfRandom, r"(?i-u:bearer|basic)(?:\s|%20){1,3}(?P<it>[A-Za-z0-9._~+/-]{8,}=*)"),
        (
            "password in a connection string",
            Sureness::Sure,
            r#";\s{0,3}(?i-u:password|pwd|accountkey|sharedaccesskey)=(?P<it>[^;\s"'`⟦⟧]{1,200})"#,
        ),
        (
            "command line secret",
            Sureness::IfMixed,
            r#"--(?P<name>password|token|secret|api-key)[= ](?P<it>[^\s"'`\\⟦⟧]{6,300})"#,
        ),
    ])
});

/// Where a name may begin that speaks of a secret. One cheap pass finds them; what follows is read only there.
static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i-u:passw|passp|pwd|secret|token|credential|key)").ok());

/// Keys that open something, by what stands before `key`; other keys are those of maps and of caches.
const OPENING: &[&str] = &[
    "api",
    "access",
    "private",
    "auth",
    "master",
    "account",
    "shared",
    "storage",
    "signing",
    "encryption",
    "session",
    "service",
];

/// What may follow a name: the rest of it, and a value. Read from the name on, and no further than is needed to judge.
static VALUES: LazyLock<Vec<(&str, Sureness, Regex)>> = LazyLock::new(|| {
    let name =
        r"^(?P<name>(?i-u:passw(?:or)?d|passphrase|pwd|secret|token|credential|key))(?P<more>[A-Za-z0-9_.-]{0,30})";
    // A type or a closing quote may stand between the name and the sign: `TOKEN: &str = "`, `"token": "`.
    let sign = r#"\\?["'`]?\]?(?:\s{0,3}:\s{0,3}[&'A-Za-z0-9_<> ]{1,30})?\s{0,5}(?::=|=>|[=:,(])\s{0,5}"#;
    let quoted = format!(r#"{name}{sign}[A-Za-z&]{{0,2}}\\?["'`](?P<it>[^\s"'`\\⟦⟧]{{6,300}})\\?["'`]"#);
    let bare = format!(r#"{name}\s{{0,3}}[=:]\s{{0,3}}(?P<it>[^\s"'`\\,;(){{}}\[\]<>$⟦⟧]{{8,80}})"#);
    compiled(&[("named secret", Sureness::IfMixed, &quoted), ("named secret", Sureness::IfRandom, &bare)])
});

fn compiled(all: &[(&'static str, Sureness, &str)]) -> Vec<(&'static str, Sureness, Regex)> {
    all.iter().filter_map(|(kind, sureness, pattern)| Some((*kind, *sureness, Regex::new(pattern).ok()?))).collect()
}

static ANY_SHAPE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let all: Vec<&str> = SHAPES.iter().map(|(_, pattern)| *pattern).collect();
    Regex::new(&all.join("|")).ok()
});

/// Which shape a piece of text has as a whole.
static WHICH_SHAPE: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(SHAPES.iter().map(|(_, pattern)| format!("^(?:{pattern})$"))).unwrap_or_else(|_| RegexSet::empty())
});

/// What a value must be, beside its name, to be taken for a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sureness {
    /// Anything that is no placeholder.
    Sure,
    /// Not just words.
    IfMixed,
    /// As only machines write.
    IfRandom,
}

/// Every secret with a shape, a place or a name, in no order.
pub(super) fn find(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(any) = &*ANY_SHAPE {
        found.extend(any.find_iter(text).map(|at| Found { at: at.range(), kind: kind_of(at.as_str()) }));
    }
    for (kind, sureness, pattern) in &*PLACED {
        let captures = pattern.captures_iter(text);
        found.extend(captures.filter_map(|captures| secret_in(&captures, kind, *sureness, 0)));
    }
    named(text, &mut found);
    found
}

fn named(text: &str, found: &mut Vec<Found>) {
    let mut done = 0;
    let names = NAME.iter().flat_map(|name| name.find_iter(text));
    for name in names.filter(|name| opens(text, name.start(), name.as_str())) {
        // What is masked already is not read again: else a text of nothing but names would be read many times over.
        if name.start() < done {
            continue;
        }
        let from = text.get(name.start()..).unwrap_or_default();
        for (kind, sureness, pattern) in &*VALUES {
            let value = pattern.captures(from).and_then(|captures| secret_in(&captures, kind, *sureness, name.start()));
            if let Some(mut value) = value {
                let rest = text.get(value.at.end..).unwrap_or_default();
                value.at.end += rest.find(ends_value).unwrap_or(rest.len());
                done = value.at.end;
                found.push(value);
                break;
            }
        }
    }
}

/// Whether a value without quotes ends here, or one in quotes.
fn ends_value(c: char) -> bool {
    c.is_whitespace() || "\"'`\\,;(){}[]<>$⟦⟧".contains(c)
}

/// Whether a name speaks of a secret: every one but `key` does, and that with the right word before it.
fn opens(text: &str, at: usize, name: &str) -> bool {
    if !name.eq_ignore_ascii_case("key") {
        return true;
    }
    let before = text.as_bytes().get(at.saturating_sub(12)..at).unwrap_or_default();
    let before = before.strip_suffix(b"_").or_else(|| before.strip_suffix(b"-")).unwrap_or(before);
    let ends_with = |word: &&str| {
        before
            .len()
            .checked_sub(word.len())
            .and_then(|at| before.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(word.as_bytes()))
    };
    OPENING.iter().any(ends_with)
}

fn kind_of(secret: &str) -> &'static str {
    let first = WHICH_SHAPE.matches(secret).iter().next();
    first.and_then(|index| SHAPES.get(index)).map_or("secret", |(kind, _)| kind)
}

/// Ends of names that speak about a secret and do not hold one: `secretName`, `token_url`.
const ABOUT: &[&str] = &[
    "name", "type", "url", "uri", "path", "file", "field", "header", "env", "ref", "kind", "prefix", "policy",
    "length", "expiry", "ttl", "count", "limit", "budget", "class", "version", "endpoint",
];

/// The value that was captured behind a name or in a place, if it is a secret; `offset` is where the searched text begins.
fn secret_in(captures: &Captures<'_>, kind: &'static str, sureness: Sureness, offset: usize) -> Option<Found> {
    let it = captures.name("it")?;
    let part = |name| captures.name(name).map_or_else(String::new, |part| part.as_str().to_ascii_lowercase());
    let (name, more) = (part("name"), part("more"));
    let is_password = name.starts_with('p');
    let is_about_one = ABOUT.iter().any(|end| more.ends_with(end));
    (!is_about_one && is_secret(it.as_str(), sureness, is_password))
        .then(|| Found { at: it.start() + offset..it.end() + offset, kind })
}

fn is_secret(value: &str, sureness: Sureness, is_password: bool) -> bool {
    let count = |of: fn(u8) -> bool| value.bytes().filter(|byte| of(*byte)).count();
    let letters = count(|byte| byte.is_ascii_alphabetic());
    let others = count(|byte| byte.is_ascii_digit() || b"!@#$%^&*?+=~".contains(&byte));
    let is_place = value.starts_with(['/', '.', ':']) || value.contains("://") || value.contains("::");
    let is_code = value.contains(['(', ')', '[', ']', '{', '}', '<', '>']);
    let is_long = value.len() >= 12 && letters > 0 && others >= 2;
    !is_placeholder(value)
        && match sureness {
            Sureness::Sure => true,
            Sureness::IfMixed if is_password => letters > 0 && others > 0 && !is_place,
            Sureness::IfMixed => is_long && !is_place && !is_code && entropy::bits(value) >= 3.0,
            Sureness::IfRandom => is_long && !is_place && !value.contains('.') && entropy::bits(value) >= 3.2,
        }
}

/// Whether a value stands for another one: `${PASSWORD}`, `{password}`, `<token>`, `%s`, `*****`.
fn is_placeholder(value: &str) -> bool {
    value.starts_with(['$', '{', '<', '%', '*', '[']) || value.contains("${") || value.contains("{{")
}

/// Whether no pattern was left out for being wrong.
#[cfg(test)]
pub(super) fn all_compile() -> bool {
    ANY_SHAPE.is_some() && WHICH_SHAPE.len() == SHAPES.len() && PLACED.len() == 4 && NAME.is_some() && VALUES.len() == 2
}
