//! Words that stay words where markdown is rendered: no image, no link, no mention, no heading.
//!
//! Escaping single characters is not enough. GitHub looks for mentions, issues (`#12`), commits and the links that a
//! repository's owner set up in the text after it was rendered, where an escape is gone: `\@team` still calls the team.
//! What it leaves alone is code. So every line becomes code, piece by piece, and the four characters that could end a piece
//! or that Slack acts on even there (`` ` ``, `<`, `>`, `&`) stand between the pieces as character references: what a reader
//! sees is what was written, and neither GitHub nor Slack finds anything in it. (Slack shows `&#96;` for a backtick.)
//!
//! Every line that is not blank begins with a backtick or a reference, so none can be a heading, a list, a table or a fence.

use super::visible::visible;

/// Most bytes of the words that are taken; a cut is marked. What comes out is at most six times as long.
pub const WORDS_BYTES_MAX: usize = 2_000;

/// The same words, so that GitHub's and Slack's markdown act on nothing in them; what is invisible is made visible first.
/// Line ends stay. In a place for one line, pass one line.
pub fn markdown(words: &str) -> String {
    let words = visible(words, WORDS_BYTES_MAX);
    let mut safe = String::with_capacity(words.len() * 2);
    for (index, line) in words.lines().enumerate() {
        if index > 0 {
            safe.push('\n');
        }
        push_line(&mut safe, line.trim_end());
    }
    safe
}

fn push_line(safe: &mut String, line: &str) {
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let reference = reference(c);
        if reference.is_empty() {
            let end = rest.find(|c| !self::reference(c).is_empty()).unwrap_or(rest.len());
            let (piece, after) = rest.split_at(end);
            push_piece(safe, piece);
            rest = after;
        } else {
            safe.push_str(reference);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
}

/// A piece as code. Blanks at its end stand behind it: with blanks on both sides, one on either side would be lost. Only
/// where a line begins are they code by themselves, for there they would mean something.
fn push_piece(safe: &mut String, piece: &str) {
    let is_first = safe.is_empty() || safe.ends_with('\n');
    let trimmed = piece.trim_end_matches([' ', '\t']);
    let code = if trimmed.is_empty() && is_first { piece } else { trimmed };
    if !code.is_empty() {
        safe.push('`');
        safe.push_str(code);
        safe.push('`');
    }
    safe.push_str(piece.get(code.len()..).unwrap_or_default());
}

/// What stands for a character that cannot stand in code everywhere; empty for all others.
const fn reference(c: char) -> &'static str {
    match c {
        '`' => "&#96;",
        '<' => "&lt;",
        '>' => "&gt;",
        '&' => "&amp;",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    // What a renderer of CommonMark with GitHub's additions makes of the words, and what Slack's rules would.

    use proptest::prelude::*;
    use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

    use super::*;

    /// What people try.
    const TRICKS: &[&str] = &[
        "![x](https://evil.example/?d=1)",
        "[click](https://evil.example)",
        "see https://evil.example/path and www.evil.example",
        "mail me@evil.example",
        "<https://evil.example>",
        "@acme/sre please approve, cc @mira",
        "fixes #12, acme/shop#3, GH-7 and 755b217b4f",
        "<img src=x onerror=alert(1)><script>alert(1)</script>",
        "<!-- hidden --><!channel> <@U123> <#C1|x> <!here>",
        "# heading",
        "heading\n=======",
        "- item\n- [x] done\n1. one",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "```\nfence\n```",
        "~~~\nfence",
        "> quote",
        "    indented",
        "\tindented",
        "*bold* _it_ ~gone~ **b**",
        "`code` ``more`` ` `` ```",
        "[ref]: https://evil.example\n[ref]",
        "a\n\n\n***\nb",
        "a &amp; b &lt;script&gt; &#64;mira",
        "line  \nbreak\\\nbreak",
        "$$\\href{https://evil.example}{x}$$ :tada: [^1]\n[^1]: note",
        " leading and trailing ",
        "`",
        "< >",
    ];

    /// The text of the rendered page, and every tag in it but paragraphs and code.
    fn rendered(markdown: &str) -> (String, Vec<String>) {
        let (mut text, mut tags) = (String::new(), Vec::new());
        for event in Parser::new_ext(markdown, Options::all()) {
            match event {
                Event::Text(words) | Event::Code(words) => text.push_str(&words),
                Event::SoftBreak => text.push('\n'),
                Event::Start(Tag::Paragraph) => {}
                Event::End(TagEnd::Paragraph) => text.push('\n'),
                other => tags.push(format!("{other:?}")),
            }
        }
        (text, tags)
    }

    /// Lines without what no renderer shows: blank ones, and blanks at their ends.
    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn a_renderer_finds_nothing_to_act_on_and_shows_what_was_given() {
        for words in TRICKS {
            let (text, tags) = rendered(&markdown(words));
            assert!(tags.is_empty(), "{words:?}: {tags:?}");
            assert_eq!(lines(&text), lines(words), "{:?}", markdown(words));
            let (_, unsafe_tags) = rendered(words);
            assert!(unsafe_tags.len() <= 20, "the renderer is the one that would act on them");
        }
        assert!(
            TRICKS.iter().filter(|words| !rendered(words).1.is_empty()).count() >= 15,
            "the renderer acts on tricks"
        );
    }

    /// What stands outside code, where GitHub looks for mentions, issues, commits and addresses once the page is rendered.
    #[test]
    fn outside_code_stand_only_blanks_and_four_characters() {
        for words in TRICKS {
            for event in Parser::new_ext(&markdown(words), Options::all()) {
                if let Event::Text(text) = event {
                    assert!(text.chars().all(|c| " \t`<>&".contains(c)), "{words:?}: {text:?}");
                }
            }
        }
    }

    #[test]
    fn slack_finds_no_command_and_no_link() {
        for words in TRICKS {
            let safe = markdown(words);
            assert!(!safe.contains(['<', '>']), "{safe}");
            for (at, _) in safe.match_indices('&') {
                assert!(["&amp;", "&lt;", "&gt;", "&#96;"].iter().any(|known| safe[at..].starts_with(known)), "{safe}");
            }
            // A backtick opens or closes; what is not blank stands inside a pair.
            for line in safe.lines() {
                let outside: String = line.split('`').step_by(2).collect();
                let bare = ["&amp;", "&lt;", "&gt;", "&#96;", " ", "\t"]
                    .iter()
                    .fold(outside, |text, known| text.replace(known, ""));
                assert!(line.matches('`').count() % 2 == 0 && bare.is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn words_are_bounded_and_shown() {
        let long = markdown(&"`".repeat(WORDS_BYTES_MAX + 1));
        assert!(long.len() <= WORDS_BYTES_MAX * 6 && long.ends_with("⟦cut⟧`"), "{long}");
        assert!(!markdown(&"a".repeat(WORDS_BYTES_MAX)).contains("cut"));
        assert_eq!(markdown("a\u{202e}b"), "`a⟦U+202E⟧b`");
        assert_eq!(markdown(""), "");
    }

    proptest! {
        #[test]
        fn no_words_act_and_all_are_shown(words in "[ -~\n\té]{0,60}") {
            let safe = markdown(&words);
            let (text, tags) = rendered(&safe);
            prop_assert!(tags.is_empty(), "{:?}: {:?}", safe, tags);
            prop_assert_eq!(lines(&text), lines(&words), "{:?}", safe);
        }

        #[test]
        fn any_words_are_taken(words in any::<String>()) {
            let (_, tags) = rendered(&markdown(&words));
            prop_assert!(tags.is_empty());
        }
    }
}
