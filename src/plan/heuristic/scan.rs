//! Simple scanning of one line of source code: string literals, identifiers, indentation, function heads.
//!
//! There is no parser per language here on purpose. A diff shows fragments, which no parser takes, and a heuristic that
//! is wrong now and then costs a check too many; a parser that can be driven into a corner by a stranger costs the
//! daemon. Every function is one pass over a line that has been cut to [`LINE_BYTES_MAX`].

/// Most bytes of a line that are read; the rest of a longer one is ignored.
pub(super) const LINE_BYTES_MAX: usize = 1_000;
/// Most string literals that are read from one line.
const LITERALS_MAX: usize = 16;

/// As much of a line as is read.
pub(super) fn cut(line: &str) -> &str {
    let mut end = line.len().min(LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default()
}

/// Which pairs of letters a text has, letters in any case: a cheap answer to "surely not in it", so that the many words
/// that signals look for cost little on the many lines that have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pairs([u64; 8]);

impl Pairs {
    /// The pairs of a text.
    pub(super) fn of(text: &str) -> Self {
        let mut pairs = Self::default();
        let mut before = 0;
        for &byte in text.as_bytes() {
            let byte = byte | 0x20;
            pairs.0[Self::word(before, byte)] |= Self::bit(before, byte);
            before = byte;
        }
        pairs
    }

    /// Whether the text can have this in it, letters in any case.
    pub(super) fn may_have(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let mut at = 1;
        while at < bytes.len() {
            let (before, byte) = (bytes[at - 1] | 0x20, bytes[at] | 0x20);
            if self.0[Self::word(before, byte)] & Self::bit(before, byte) == 0 {
                return false;
            }
            at += 1;
        }
        true
    }

    const fn word(before: u8, byte: u8) -> usize {
        (byte & 7) as usize ^ ((before >> 5) & 7) as usize
    }

    const fn bit(before: u8, byte: u8) -> u64 {
        1 << ((before.wrapping_mul(7) ^ (byte >> 3)) & 63)
    }
}

/// A string literal with what stands around it on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Literal<'a> {
    /// Everything before the opening quote.
    pub(super) before: &'a str,
    /// Between the quotes.
    pub(super) text: &'a str,
    /// Everything after the closing quote.
    pub(super) after: &'a str,
}

/// The string literals of a line. Single quotes count only where the language has strings in them: elsewhere they are
/// characters and lifetimes.
pub(super) fn literals(line: &str, single_quotes: bool) -> Vec<Literal<'_>> {
    let mut found = Vec::new();
    let bytes = line.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let opens = byte == b'"' || byte == b'`' || (byte == b'\'' && single_quotes);
        if !opens {
            at += 1;
            continue;
        }
        let Some(length) = literal_length(bytes, at + 1, byte) else { break };
        let end = at + 1 + length;
        if let (Some(before), Some(text), Some(after)) = (line.get(..at), line.get(at + 1..end), line.get(end + 1..)) {
            found.push(Literal { before, text, after });
        }
        if found.len() == LITERALS_MAX {
            break;
        }
        at = end + 1;
    }
    found
}

fn literal_length(bytes: &[u8], start: usize, quote: u8) -> Option<usize> {
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            _ if byte == quote => return Some(at - start),
            _ => at += 1,
        }
    }
    None
}

/// How far a line is indented; a tab counts as four.
pub(super) fn indent(line: &str) -> usize {
    line.bytes().take_while(|b| matches!(b, b' ' | b'\t')).map(|b| if b == b'\t' { 4 } else { 1 }).sum()
}

/// Whether `c` may stand in an identifier.
pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The identifier at the end of `text`, and what stands before it. The identifier may be empty.
pub(super) fn last_word(text: &str) -> (&str, &str) {
    let start = text.rfind(|c| !is_word(c)).map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    text.split_at(start)
}

/// The identifier at the beginning of `text`, and what follows it. The identifier may be empty.
pub(super) fn first_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len()))
}

/// More brackets opened than closed on this line, or a block that `do` opens: what follows belongs to it.
pub(super) fn leaves_open(line: &str) -> bool {
    let depth = line.bytes().fold(0_i32, |depth, byte| match byte {
        b'(' | b'{' | b'[' => depth + 1,
        b')' | b'}' | b']' => depth - 1,
        _ => depth,
    });
    let trimmed = line.trim_end();
    depth > 0 || trimmed.ends_with(" do") || (trimmed.ends_with('|') && trimmed.contains(" do |"))
}

const MODIFIERS: &[&str] = &[
    "pub",
    "async",
    "export",
    "default",
    "public",
    "private",
    "protected",
    "static",
    "final",
    "unsafe",
    "override",
    "suspend",
    "internal",
    "virtual",
    "abstract",
    "extern",
    "inline",
];
const NO_FUNCTIONS: &[&str] =
    &["if", "for", "while", "switch", "catch", "return", "new", "match", "else", "with", "when", "await", "foreach"];

/// The name of the function, method or class whose head this line is.
pub(super) fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim();
    let mut modifiers = 0;
    loop {
        let (word, after) = first_word(rest);
        if !MODIFIERS.contains(&word) {
            break;
        }
        modifiers += 1;
        // `pub(crate)` bears its own brackets.
        let after = after.strip_prefix('(').and_then(|inner| inner.split_once(')')).map_or(after, |(_, rest)| rest);
        rest = after.trim_start();
    }
    let (word, after) = first_word(rest);
    let after = after.trim_start();
    match word {
        "const" if after.starts_with("fn ") => named(after.strip_prefix("fn ")?),
        "fn" | "def" | "function" | "fun" | "class" | "defp" => {
            named(after.trim_start_matches('*').strip_prefix("self.").unwrap_or(after))
        }
        "func" => {
            named(after.strip_prefix('(').and_then(|receiver| receiver.split_once(')')).map_or(after, |(_, f)| f))
        }
        "const" | "let" | "var" if after.contains("=>") || after.contains("function") => named(after),
        "exports" | "module" if after.contains('=') => {
            let (left, _) = after.split_once('=')?;
            Some(last_word(left.trim_end()).1).filter(|name| !name.is_empty())
        }
        _ => method_name(rest, modifiers),
    }
}

fn named(text: &str) -> Option<&str> {
    Some(first_word(text.trim_start()).0).filter(|name| !name.is_empty())
}

/// A method head as in Java, C# or a JavaScript class: a name, brackets, and an opened body.
fn method_name(rest: &str, modifiers: usize) -> Option<&str> {
    if !rest.trim_end().ends_with('{') {
        return None;
    }
    let (head, _) = rest.split_once('(')?;
    let (before, name) = last_word(head.trim_end());
    let plain = before.chars().all(|c| is_word(c) || matches!(c, ' ' | '<' | '>' | ',' | '?' | '[' | ']' | '.'));
    let first = first_word(head).0;
    let typed = modifiers > 0 || !before.trim().is_empty() || !head.contains(' ');
    let control = NO_FUNCTIONS.contains(&first) || NO_FUNCTIONS.contains(&name);
    (plain && typed && !control && !before.ends_with('.') && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_found_with_what_stands_around_them() {
        let found = literals(r#"app.get("/a\"b", 'x') // `c`"#, true);
        assert_eq!(found.iter().map(|l| l.text).collect::<Vec<_>>(), [r#"/a\"b"#, "x", "c"]);
        assert_eq!(found[0].before, "app.get(");
        assert_eq!(literals("fn f<'a>(x: &'a str) -> char { 'é' }", false), []);
        assert_eq!(literals(r#"an "open one"#, false), []);
    }

    #[test]
    fn pairs_never_deny_what_is_there() {
        let text = "Let TIMEOUT_ms = config.get(\"é-retry\");";
        for part in (0..text.len()).flat_map(|from| (from..=text.len()).filter_map(move |to| text.get(from..to))) {
            assert!(Pairs::of(text).may_have(part), "{part}");
            assert!(Pairs::of(text).may_have(&part.to_ascii_lowercase()), "{part}");
        }
        assert!(!Pairs::of(text).may_have("backoff"));
    }

    #[test]
    fn function_heads_of_many_languages_are_named() {
        for (line, name) in [
            ("pub(crate) async fn checkout(State(s): State<App>) -> Response {", "checkout"),
            ("    async def pay(request):", "pay"),
            ("func (s *Server) Checkout(w http.ResponseWriter, r *http.Request) {", "Checkout"),
            ("export const submit = async (req, res) => {", "submit"),
            ("exports.down = function (knex) {", "down"),
            ("    public ResponseEntity<Order> create(@RequestBody Order order) {", "create"),
            ("  def self.call(order)", "call"),
            ("public class OrderController {", "OrderController"),
        ] {
            assert_eq!(function_name(line), Some(name), "{line}");
        }
        for line in ["if (ready) {", "router.post('/x', (req, res) => {", "let x = 5;", "} else if (y) {", ""] {
            assert_eq!(function_name(line), None, "{line}");
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = "é".repeat(LINE_BYTES_MAX);
        assert!(cut(&long).len() <= LINE_BYTES_MAX);
        assert_eq!(last_word("naïve é").1, "");
        assert_eq!(last_word("a::b"), ("a::", "b"));
    }
}
