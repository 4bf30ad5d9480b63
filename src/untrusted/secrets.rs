//! Secrets in text that is about to leave the process, by the shapes that providers give their tokens and by entropy.
//!
//! Three ways to know one: a shape of its own (`shapes`), a name beside it that says so (`shapes` too), or letters that
//! nobody would write by hand (`entropy`). Masking a word too many costs a reader one word; a secret that leaves the
//! process has to be changed by people. Yet digests stay: they are everywhere in code and say nothing.
//!
//! What is found is replaced by `⟦masked: github token⟧`, line ends inside it stay, and the search is repeated on what is
//! left until it finds nothing, so that masking twice changes nothing. Characters that are not drawn do not hide a secret:
//! they are left out for the search and masked with it. Not found: a secret that was encoded (base64, percent signs,
//! entities), one that code puts together from pieces, and a short password that nothing names.

mod entropy;
mod shapes;

use std::{borrow::Cow, ops::Range};

use super::visible::is_invisible;

/// Most times that a text is searched. Each search after the first is for what stood too close to something found.
const ROUNDS_MAX: usize = 8;

/// How a placeholder begins.
const MARK: &str = "⟦masked";
/// How many lines on either side of a placeholder are searched again.
const LINES_AROUND: usize = 3;

/// A text without the secrets that were found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// The text; each secret is replaced by a placeholder that says of what kind it was.
    pub text: String,
    /// How many were replaced.
    pub secrets: usize,
}

/// A secret and where it stands, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    at: Range<usize>,
    kind: &'static str,
}

/// Replaces every secret that can be recognised. Line numbers stay what they were. Takes time in proportion to the text,
/// whatever it holds.
pub fn masked(text: &str) -> Masked {
    let found = find(text);
    let mut masked = Masked { text: replaced(text, &found), secrets: found.len() };
    for _ in 1..ROUNDS_MAX {
        let before = masked.secrets;
        if before > 0 {
            masked = around_marks(&masked);
        }
        if masked.secrets == before {
            break;
        }
    }
    masked
}

/// Searches once more in the lines around what was masked; elsewhere nothing has changed.
fn around_marks(masked: &Masked) -> Masked {
    let lines: Vec<&str> = masked.text.split_inclusive('\n').collect();
    let mut near = vec![false; lines.len()];
    for (index, _) in lines.iter().enumerate().filter(|(_, line)| line.contains(MARK)) {
        for near in near.iter_mut().take(index + LINES_AROUND + 1).skip(index.saturating_sub(LINES_AROUND)) {
            *near = true;
        }
    }
    let mut again = Masked { text: String::with_capacity(masked.text.len()), secrets: masked.secrets };
    let mut from = 0;
    while let Some(is_near) = near.get(from).copied() {
        let length = near.iter().skip(from).take_while(|near| **near == is_near).count();
        let part = lines.get(from..from + length).unwrap_or_default().concat();
        let found = if is_near { find(&part) } else { Vec::new() };
        again.text.push_str(&replaced(&part, &found));
        again.secrets += found.len();
        from += length;
    }
    again
}

/// The secrets, in order and apart from each other.
fn find(text: &str) -> Vec<Found> {
    let drawn = Drawn::of(text);
    let mut found: Vec<Found> = shapes::find(&drawn.text);
    found.extend(entropy::find(&drawn.text));
    for Found { at, .. } in &mut found {
        *at = drawn.origin(at);
    }
    // Of two at one place the longer one speaks; a shape is listed before entropy and so wins a tie.
    found.sort_by_key(|found| (found.at.start, std::cmp::Reverse(found.at.end)));
    let mut apart: Vec<Found> = Vec::with_capacity(found.len());
    for next in found {
        match apart.last_mut() {
            Some(last) if next.at.start < last.at.end => last.at.end = last.at.end.max(next.at.end),
            _ => apart.push(next),
        }
    }
    apart
}

fn replaced(text: &str, found: &[Found]) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for Found { at, kind } in found {
        kept.push_str(text.get(from..at.start).unwrap_or_default());
        kept.push_str(&format!("{MARK}: {kind}⟧"));
        for _ in text.get(at.clone()).unwrap_or_default().matches('\n') {
            kept.push_str("\n⟦masked⟧");
        }
        from = at.end;
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    kept
}

/// A text as it is drawn: without invisible characters and terminal escapes, and where each part of it came from.
struct Drawn<'a> {
    text: Cow<'a, str>,
    /// Where a part begins in the drawn text and in the original; between two of them both run alike.
    parts: Vec<(usize, usize)>,
}

impl<'a> Drawn<'a> {
    fn of(original: &'a str) -> Self {
        if !original.chars().any(is_left_out) {
            return Self { text: Cow::Borrowed(original), parts: vec![(0, 0)] };
        }
        let (mut text, mut parts) = (String::with_capacity(original.len()), vec![(0, 0)]);
        let (mut at, mut left_out) = (0, false);
        while let Some(c) = original.get(at..).and_then(|rest| rest.chars().next()) {
            if is_left_out(c) {
                at += c.len_utf8();
                if c == '\u{1b}' {
                    at += escape_length(original.as_bytes().get(at..).unwrap_or_default());
                }
                left_out = true;
                continue;
            }
            if left_out {
                parts.push((text.len(), at));
                left_out = false;
            }
            text.push(c);
            at += c.len_utf8();
        }
        Self { text: Cow::Owned(text), parts }
    }

    /// Where a part of the drawn text stands in the original, with what was left out inside it.
    fn origin(&self, at: &Range<usize>) -> Range<usize> {
        let place = |drawn: usize| {
            let next = self.parts.partition_point(|(begin, _)| *begin <= drawn);
            let (begin, origin) = self.parts.get(next.wrapping_sub(1)).copied().unwrap_or_default();
            origin + (drawn - begin)
        };
        // The end is taken from the last byte: what was left out right behind it is no part of it.
        place(at.start)..place(at.end.saturating_sub(1)) + 1
    }
}

fn is_left_out(c: char) -> bool {
    !matches!(c, '\n' | '\t' | ' '..='~') && is_invisible(c)
}

/// How many bytes of a terminal escape follow its first character: colours and movements (`[31m`), and titles (`]0;…`).
fn escape_length(rest: &[u8]) -> usize {
    match rest.first() {
        Some(b'[') => {
            let parameters = rest.iter().skip(1).take_while(|byte| (0x20..0x40).contains(*byte)).count();
            let is_ended = rest.get(1 + parameters).is_some_and(|byte| (0x40..0x7f).contains(byte));
            1 + parameters + usize::from(is_ended)
        }
        Some(b']') => rest.iter().take_while(|byte| !matches!(byte, 0x07 | 0x1b | b'\n') && byte.is_ascii()).count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    // What is masked and what is not. Every secret is put together when the tests run, so that none stands in a file: forges
    // refuse pushes that hold what looks like one.

    use std::{fs, path::Path, time::Instant};

    use proptest::prelude::*;

    use super::*;

    /// Letters as chance would have them, the same each time: `kind` says of which alphabet.
    fn letters(kind: &str, length: usize, seed: u64) -> String {
        let alphabet: &[u8] = match kind {
            "hex" => b"0123456789abcdef",
            "digit" => b"0123456789",
            "capital" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
            "small" => b"abcdefghijklmnopqrstuvwxyz0123456789",
            "url" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
            "64" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
            _ => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        };
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = usize::try_from(state >> 32).unwrap() % alphabet.len();
            char::from(alphabet[at])
        };
        (0..length).map(next).collect()
    }

    /// A token of every kind that is known by its shape, and the kind.
    fn tokens(seed: u64) -> Vec<(&'static str, String)> {
        let of = |kind: &'static str, head: &str, alphabet: &str, length: usize| {
            (kind, format!("{head}{}", letters(alphabet, length, seed)))
        };
        let mut tokens = vec![
            of("github token", concat!("gh", "p_"), "62", 36),
            of("github token", concat!("gh", "o_"), "62", 36),
            of("github token", concat!("gh", "s_"), "62", 36),
            of("github token", concat!("github", "_pat_"), "62", 82),
            of("gitlab token", concat!("gl", "pat-"), "url", 20),
            of("aws key id", concat!("AK", "IA"), "capital", 16),
            of("aws key id", concat!("AS", "IA"), "capital", 16),
            of("google key", concat!("AI", "za"), "url", 35),
            of("google secret", concat!("GOC", "SPX-"), "url", 28),
            of("slack token", concat!("xo", "xb-"), "62", 50),
            of("slack token", concat!("xo", "xp-"), "digit", 12),
            of("slack token", concat!("xa", "pp-1-"), "62", 40),
            of("slack webhook", concat!("hooks.slack", ".com/services/"), "62", 44),
            of("stripe key", concat!("sk", "_live_"), "62", 24),
            of("stripe key", concat!("rk", "_live_"), "62", 24),
            of("openai key", concat!("sk", "-"), "62", 48),
            of("openai key", concat!("sk", "-proj-"), "url", 100),
            of("anthropic key", concat!("sk", "-ant-api03-"), "url", 95),
            of("npm token", concat!("np", "m_"), "62", 36),
            of("pypi token", concat!("py", "pi-AgEIcHlwaS5vcmc"), "url", 120),
            of("docker token", concat!("dckr", "_pat_"), "url", 27),
            of("twilio key", concat!("S", "K"), "hex", 32),
            of("telegram token", concat!("123456789", ":AA"), "url", 33),
            of("hugging face token", concat!("h", "f_"), "62", 34),
            of("vault token", concat!("hv", "s."), "url", 24),
            of("random word", "", "64", 40),
            of("random word", "", "62", 64),
        ];
        let part = |length, more| letters("url", length, seed + more);
        tokens.push(("sendgrid key", format!("S{}{}.{}", "G.", part(22, 1), part(43, 2))));
        tokens.push(("jwt", format!("ey{}{}.eyJ{}.{}", "J", part(20, 1), part(60, 2), part(43, 3))));
        tokens
    }

    /// Whether a good part of a secret is still to be read: any eight letters of it that are not its head.
    fn is_left(secret: &str, text: &str) -> bool {
        let tail: Vec<char> = secret.chars().skip(secret.len().saturating_sub(16)).collect();
        tail.windows(8).any(|part| text.contains(&part.iter().collect::<String>()))
    }

    #[test]
    fn every_kind_of_token_is_masked_and_named() {
        for seed in 1..20 {
            for (kind, token) in tokens(seed) {
                if kind == "random word" {
                    continue;
                }
                let masked = masked(&format!("let it = \"{token}\"; // {token}"));
                assert!(!is_left(&token, &masked.text), "{kind} {token}: {}", masked.text);
                assert!(masked.text.contains(&format!("⟦masked: {kind}⟧")), "{kind} {token}: {}", masked.text);
                assert!(masked.text.starts_with("let it = \"") && masked.secrets >= 2, "{kind}: {}", masked.text);
            }
        }
    }

    /// Chance makes words that do not look random: how many are missed, of each alphabet and length.
    #[test]
    fn nearly_every_random_word_is_found_without_a_name() {
        for (alphabet, length, least) in [
            ("62", 24, 93),
            ("62", 32, 97),
            ("64", 40, 97),
            ("url", 32, 94),
            ("small", 32, 95),
            ("capital", 32, 75),
            ("url", 64, 99),
        ] {
            let found =
                (1..1_000).filter(|seed| masked(&format!("x {} y", letters(alphabet, length, *seed))).secrets > 0);
            let percent = found.count() / 10;
            assert!(percent >= least, "{alphabet} {length}: {percent} %");
        }
    }

    #[test]
    fn secrets_that_only_their_name_betrays_are_masked() {
        let hex = letters("hex", 32, 5);
        let short = letters("62", 10, 6);
        for (text, secret) in [
            (format!("postgres://shop:{short}@db.internal/shop"), &short),
            (format!("postgres://shop:{short}@db/shop?x=postgres://a:b@c"), &short),
            (format!("Authorization: Bearer {hex}"), &hex),
            (format!("-H 'authorization: basic {}=='", letters("62", 22, 7)), &letters("62", 22, 7)),
            (format!("const API_KEY: &str = \"{hex}\";"), &hex),
            (format!("{{\"client_secret\": \"{hex}\"}}"), &hex),
            (format!("{{\\\"client_secret\\\":\\\"{hex}\\\"}}"), &hex),
            (format!("DATADOG_API_KEY={hex}"), &hex),
            (format!("  twilioAuthToken: {hex}"), &hex),
            (format!("+    signing-key: '{hex}'"), &hex),
            (format!("password = \"{short}7\""), &short),
            (format!("os.environ.get('DB_PASSWORD', 'tr0ub4dor&{short}')"), &short),
            (format!("Server=db;User=shop;Password={short};"), &short),
            (format!("AccountName=x;AccountKey={hex}==;EndpointSuffix=y"), &hex),
            (format!("mysql --password={short}1 -u root"), &short),
            (format!("setSecret(\"{hex}\")"), &hex),
        ] {
            let masked = masked(&text);
            assert!(!masked.text.contains(secret.as_str()) && masked.secrets > 0, "{text}: {}", masked.text);
        }
    }

    #[test]
    fn a_private_key_goes_whole_and_its_lines_are_kept() {
        let lines: Vec<String> = (0..6).map(|n| letters("64", if n == 5 { 20 } else { 64 }, n + 1)).collect();
        let begin = concat!("-----BEGIN RSA ", "PRIVATE KEY-----");
        let end = concat!("-----END RSA ", "PRIVATE KEY-----");
        let blocks = [
            format!("{begin}\n{}\n{end}", lines.join("\n")),
            format!("+{begin}\n+{}\n+{end}", lines.join("\n+")),
            format!("    \"{begin}\\n\" +\n    \"{}\\n\" +\n    \"{end}\"", lines.join("\\n\" +\n    \"")),
            format!("{begin}\\n{}\\n{end}\\n", lines.join("\\n")),
            format!("{begin}\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB\n\n{}\n{end}", lines.join("\n")),
            format!("{begin}\r\n{}\r\n{end}", lines.join("\r\n")),
            // A hunk may end within it.
            format!("{begin}\n{}", lines[..4].join("\n")),
        ];
        for block in blocks {
            let text = format!("before();\n{block}\nafter();");
            let masked = masked(&text);
            for line in &lines {
                assert!(!masked.text.contains(line), "{text}\n\n{}", masked.text);
            }
            assert!(
                masked.text.contains("⟦masked: private key⟧") && !masked.text.contains("KEY-----"),
                "{}",
                masked.text
            );
            assert!(masked.text.starts_with("before();\n") && masked.text.ends_with("\nafter();"), "{}", masked.text);
            assert_eq!(masked.text.lines().count(), text.lines().count());
        }
    }

    #[test]
    fn code_between_the_marks_of_a_key_is_not_hidden() {
        let marks = [concat!("-----BEGIN ", "PRIVATE KEY-----"), concat!("-----END ", "PRIVATE KEY-----")];
        let text = format!("// {}\nfn charge() {{ bill_twice(); }}\n    retries += 1;\n// {}", marks[0], marks[1]);
        let masked = masked(&text).text;
        assert!(masked.contains("fn charge() { bill_twice(); }\n    retries += 1;\n"), "{masked}");
    }

    #[test]
    fn what_everybody_writes_is_left_alone() {
        for text in [
            "commit 755b217b4f6f4a4a8f3ad3c2a2bd7c3d5d9b1f4e",
            "checksum = \"e9c3c2a2bd7c3d5d9b1f4e755b217b4f6f4a4a8f3ad3c2a2bd7c3d5d9b1f4e00\"",
            "id: 123e4567-e89b-12d3-a456-426614174000",
            "golang.org/x/net v0.17.0 h1:pVaXccu2ozPjCXewfr1S7xza/zcXTity9cCdXQYSjIM=",
            "\"integrity\": \"sha512-oRAfCbHeTkVvFkGk3nJ3RkQnMmNFKjQ2TzGxAs9eVqCvsJQmTiN0UBp1iPnKLRWnTWfCHWzhgoaBN5tC2jM5vQ==\"",
            "background: url(data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk)",
            "https://github.com/acme/shop/commit/064ff9941b4b80b85916a8afe86a6c21fd388b54/lib.rs",
            "getUserAccountByEmailHashAndOrganisationId(customerAccountNumber2)",
            "x86_64-unknown-linux-gnu-2024.11.21-nightly",
            "const ALPHABET: &str = \"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/\";",
            "let state = 0x9e3779b97f4a7c15f39cc0605cedc834_u128;",
            "password = os.environ[\"SHOP_PASSWORD\"]",
            "password: ${DB_PASSWORD}",
            "postgres://${USER}:${PASSWORD}@db/shop",
            "token = parse_token(&mut lexer2, 10)?;",
            "secretName: shop-tls-secret-2024",
            "tokenUrl: \"https://sso.acme.example/oauth2/token\"",
            "\"password\": \"The password is too short\"",
            "let key = \"user:1234:session:5678\";",
            "http://localhost:8080/@user",
            "use crate::{domain::{Check, CheckName}, plan::Bounds};",
        ] {
            assert_eq!(masked(text), Masked { text: text.into(), secrets: 0 });
        }
    }

    /// What ships of the sources, and the lock file: more than a hundred thousand words, and none of them a secret.
    #[test]
    fn the_sources_of_this_project_stay_readable() {
        fn walk(folder: &Path, into: &mut Vec<(String, String)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, into);
                } else if let Ok(text) = fs::read_to_string(&path) {
                    into.push((path.display().to_string(), text));
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = vec![("Cargo.lock".to_owned(), fs::read_to_string(root.join("Cargo.lock")).unwrap())];
        walk(&root.join("src"), &mut files);
        let (mut words, mut hit) = (0, Vec::new());
        for (path, text) in &files {
            // Tests hold passwords on purpose.
            let text = text.split("#[cfg(test)]").next().unwrap();
            words += text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count();
            let masked = masked(text);
            let changed = text.lines().zip(masked.text.lines()).filter(|(before, after)| before != after);
            hit.extend(changed.map(|(before, _)| format!("{path}: {}", before.trim())));
        }
        assert!(words > 100_000, "{words}");
        assert!(hit.is_empty(), "of {words} words:\n{}", hit.join("\n"));
    }

    #[test]
    fn what_is_not_drawn_hides_no_secret() {
        for (kind, token) in tokens(3) {
            for hidden in
                ["\u{200b}", "\u{202e}", "\u{ad}", "\u{e0041}", "\0", "\r", "\u{1b}[31m", "\u{1b}]0;x\u{7}", "\u{fe0f}"]
            {
                let middle = token.len() / 2;
                let text = format!("é \"{}{hidden}{}\" ü\n", &token[..middle], &token[middle..]);
                let masked = masked(&text).text;
                assert!(masked.starts_with("é \"") && masked.ends_with("\" ü\n"), "{masked:?}");
                assert!(
                    !is_left(&token, &masked) && !masked.contains(&token[..middle]),
                    "{kind} {hidden:?}: {masked:?}"
                );
            }
        }
    }

    #[test]
    fn a_secret_right_behind_another_is_found_too() {
        let tokens: Vec<String> = tokens(4).into_iter().take(12).map(|(_, token)| token).collect();
        let masked = masked(&tokens.concat());
        for token in &tokens {
            assert!(!is_left(token, &masked.text), "{token}: {}", masked.text);
        }
    }

    /// Time is bounded by the length of the text, whatever is in it: twice the text takes about twice the time, and not four
    /// times as where something is read again and again.
    #[test]
    fn no_text_makes_the_search_slow() {
        let begin = concat!("-----BEGIN ", "PRIVATE KEY-----");
        let escapes = ["\u{1b}[", "\u{1b}]", "\u{200b}a"];
        let parts = ["eyJaaaaaaaa.", "token=", "token:'", "://a:", begin, "A/", "aB1", "-----", "Bearer "];
        for part in parts.into_iter().chain(escapes) {
            // The fastest of three, for the machine does other things too.
            let seconds = |bytes: usize| {
                let text = part.repeat(bytes / part.len());
                let once = |_| {
                    let begun = Instant::now();
                    assert!(masked(&text).text.len() <= 8 * text.len(), "{part:?}");
                    begun.elapsed().as_secs_f64()
                };
                (0..3).map(once).fold(f64::INFINITY, f64::min)
            };
            let (short, long) = (seconds(20_000), seconds(160_000));
            assert!(long < 24.0 * short + 0.05, "{part:?}: {short} s, and {long} s for eight times the text");
        }
    }

    #[test]
    fn every_pattern_can_be_compiled() {
        assert!(shapes::all_compile());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_token_is_left_whatever_surrounds_it(
            seed in 1_u64..1_000_000,
            index in 0_usize..25,
            before in prop_oneof![Just("+"), Just("-\t"), Just("\\n"), Just("\\\""), Just("'"), Just("("), Just("%20"), Just("x = "), Just("é"), Just("]"), Just("a")],
            after in prop_oneof![Just("\n+"), Just("\\n\","), Just("'"), Just("\""), Just("<"), Just(" "), Just("é"), Just(")"), Just("\r\n"), Just("")],
            noise in "[ -~]{0,40}",
        ) {
            let (kind, token) = tokens(seed).swap_remove(index);
            let text = format!("{noise}\n{before}{token}{after}\n{noise}");
            let masked = masked(&text);
            prop_assert!(!is_left(&token, &masked.text), "{} {}: {}", kind, text, masked.text);
            prop_assert_eq!(masked.text.matches('\n').count(), text.matches('\n').count());
            prop_assert!(masked.secrets > 0);
        }

        #[test]
        fn masking_twice_changes_nothing(
            seed in 1_u64..1_000_000,
            picks in prop::collection::vec((0_usize..27, "[ -~\n\u{200b}é]{0,12}"), 0..6),
        ) {
            let text: String = picks.iter().map(|(index, between)| format!("{between}{}", tokens(seed)[*index].1)).collect();
            let once = masked(&text);
            prop_assert_eq!(masked(&once.text), Masked { text: once.text.clone(), secrets: 0 });
            prop_assert_eq!(once.text.matches('\n').count(), text.matches('\n').count());
        }

        #[test]
        fn any_text_is_taken(text in any::<String>()) {
            let masked = masked(&text);
            prop_assert_eq!(masked.text.matches('\n').count(), text.matches('\n').count());
        }
    }
}
