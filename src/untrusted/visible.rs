//! Characters that people do not see, made visible: what hides in a diff is shown as what it is.
//!
//! A reviewer reads what is drawn and a model reads what is stored. Whatever makes the two differ (controls, terminal
//! escapes, characters that reorder or vanish, tags, private characters) is a way to tell the model what nobody
//! reviewed, so it is written out as `⟦U+202E⟧`. Nothing is dropped: what was hidden is evidence. [`hides`] says whether
//! there was any, as a reason to think a change risky.

/// What stands at the end of a text that was cut.
pub const CUT_MARK: &str = "⟦cut⟧";
/// How the marks begin that this room writes. In a stranger's text they pretend to be ours.
const OUR_MARKS: [&str; 3] = ["⟦U+", "⟦masked", CUT_MARK];

/// The same text with every control, bidirectional, zero-width, tag, private and otherwise invisible character written as
/// `⟦U+202E⟧`, but for line ends and tabs; at most `bytes_max` bytes, and a cut is marked with [`CUT_MARK`] where that fits.
pub fn visible(text: &str, bytes_max: usize) -> String {
    shown(text, bytes_max, true)
}

/// As [`visible`], on one line: line ends are written out too.
pub fn visible_line(text: &str, bytes_max: usize) -> String {
    shown(text, bytes_max, false)
}

fn shown(text: &str, bytes_max: usize, keeps_lines: bool) -> String {
    let mut shown = String::with_capacity(text.len().min(bytes_max));
    // Where the text can end so that the mark of a cut still fits behind it.
    let mut end_before_mark = 0;
    for (at, c) in text.char_indices() {
        let is_line_end = c == '\n' || (c == '\r' && text.get(at + 1..).is_some_and(|rest| rest.starts_with('\n')));
        if is_line_end && keeps_lines || c == '\t' || !(is_line_end || is_hidden(text, at, c)) {
            shown.push(c);
        } else {
            shown.push_str(&format!("⟦U+{:04X}⟧", u32::from(c)));
        }
        if shown.len() > bytes_max {
            shown.truncate(end_before_mark);
            if shown.len() + CUT_MARK.len() <= bytes_max {
                shown.push_str(CUT_MARK);
            }
            return shown;
        }
        if shown.len() + CUT_MARK.len() <= bytes_max {
            end_before_mark = shown.len();
        }
    }
    shown
}

/// Whether something in the text is not what it looks like: a character that [`visible`] would write out, a word that mixes
/// Latin letters with ones of other scripts that look the same, or a mark that pretends to be ours.
///
/// A word that is wholly of another script is not found, however Latin it looks: it may be an honest word.
pub fn hides(text: &str) -> bool {
    // Some editors begin files with this; nobody is deceived by it there.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.bytes().all(|byte| matches!(byte, b'\t' | b'\n' | b' '..=b'~')) {
        return false;
    }
    let hidden = |(at, c): (usize, char)| {
        let is_line_end = c == '\n' || (c == '\r' && text.get(at + 1..).is_some_and(|rest| rest.starts_with('\n')));
        !(is_line_end || c == '\t') && is_hidden(text, at, c)
    };
    text.char_indices().any(hidden)
        || OUR_MARKS.iter().any(|mark| text.contains(mark))
        || text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(mixes_scripts)
}

/// Whether a character is drawn as nothing, moves what is drawn, or is drawn as whoever owns the font likes.
fn is_hidden(text: &str, at: usize, c: char) -> bool {
    match c {
        ' '..='~' => false,
        // Both choose how the picture before them is drawn; alone they are invisible.
        '\u{fe0e}' | '\u{fe0f}' => {
            !before(text, at).is_some_and(|c| is_picture(c) || matches!(c, '0'..='9' | '#' | '*'))
        }
        // Joins two pictures into one; between letters of Latin it is invisible.
        '\u{200d}' => {
            let joins = |c: char| is_picture(c) || matches!(c, '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}');
            let after = text.get(at + c.len_utf8()..).and_then(|rest| rest.chars().next());
            !(before(text, at).is_some_and(joins) && after.is_some_and(is_picture))
        }
        '\u{a0}' | '\u{3000}' => false,
        _ => is_invisible(c) || c.is_whitespace(),
    }
}

/// Whether a character is invisible wherever it stands. White space counts only where it is a control.
pub(super) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f
            | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x2800 | 0x3164
            | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a
            | 0xe0000..=0xe0fff
            // Private use, and what is no character.
            | 0xe000..=0xf8ff | 0xf0000..=0x10ffff | 0xfdd0..=0xfdef)
        || u32::from(c) & 0xfffe == 0xfffe
}

fn before(text: &str, at: usize) -> Option<char> {
    text.get(..at).and_then(|before| before.chars().next_back())
}

/// Whether emoji are made of it.
fn is_picture(c: char) -> bool {
    matches!(u32::from(c),
        0xa9 | 0xae | 0x203c | 0x2049 | 0x2122 | 0x2139 | 0x2190..=0x21ff | 0x2300..=0x27bf | 0x2934 | 0x2935
        | 0x2b00..=0x2bff | 0x3030 | 0x303d | 0x3297 | 0x3299 | 0x1f000..=0x1faff)
}

/// Whether a word has Latin letters beside ones that can be taken for Latin: `pаssword` with a Cyrillic `а`. Greek counts
/// only with letters that look Latin and beside two Latin ones, for formulas are full of `Δt` and `μs`.
fn mixes_scripts(word: &str) -> bool {
    let latin = word.chars().filter(|c| c.is_ascii_alphabetic() || matches!(c, '\u{c0}'..='\u{24f}')).count();
    let foreign = |c: char| {
        matches!(u32::from(c),
            0x400..=0x52f | 0x1c80..=0x1c8f | 0xa640..=0xa69f | 0x531..=0x587 | 0x13a0..=0x13fd | 0xab70..=0xabbf
            // Latin once more: full-width letters and mathematical alphabets.
            | 0xff21..=0xff3a | 0xff41..=0xff5a | 0x1d400..=0x1d7ff)
    };
    let greek = |c: char| "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϳαοιρνκυχϲ".contains(c);
    latin > 0 && word.chars().any(foreign) || latin > 1 && word.chars().any(greek)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Roomy enough for any test.
    const MAX: usize = 10_000;

    #[test]
    fn what_is_not_drawn_is_written_out() {
        for (text, expected) in [
            ("a\u{202e}b", "a⟦U+202E⟧b"),
            ("a\u{200b}b\u{feff}", "a⟦U+200B⟧b⟦U+FEFF⟧"),
            ("\u{1b}[31mred", "⟦U+001B⟧[31mred"),
            ("\u{e0049}\u{e0047}", "⟦U+E0049⟧⟦U+E0047⟧"),
            ("a\u{fe0f}", "a⟦U+FE0F⟧"),
            ("x\u{e0101}", "x⟦U+E0101⟧"),
            ("\u{f8ff}", "⟦U+F8FF⟧"),
            ("a\u{2028}b\u{85}", "a⟦U+2028⟧b⟦U+0085⟧"),
            ("a\rb", "a⟦U+000D⟧b"),
            ("soft\u{ad}hyphen\u{2800}", "soft⟦U+00AD⟧hyphen⟦U+2800⟧"),
            ("\u{ffff}\0", "⟦U+FFFF⟧⟦U+0000⟧"),
            ("🏴\u{e0067}", "🏴⟦U+E0067⟧"),
        ] {
            assert_eq!(visible(text, MAX), expected);
            assert!(hides(text), "{expected}");
        }
    }

    #[test]
    fn what_is_drawn_stays() {
        for text in [
            "",
            "a\tb\r\nc\n",
            "Größe, 日本語、\u{3000}русский",
            "❤\u{fe0f} 1\u{fe0f}\u{20e3}",
            "👩\u{200d}🚀",
            "Δt = 3 μs",
            "a\u{a0}b",
        ] {
            assert_eq!(visible(text, MAX), text);
            assert!(!hides(text), "{text}");
        }
        assert!(!hides("\u{feff}using System;"), "a mark of the encoding at the beginning deceives nobody");
    }

    #[test]
    fn one_line_stays_one_line() {
        assert_eq!(visible_line("a\nb\r\nc\td", MAX), "a⟦U+000A⟧b⟦U+000D⟧⟦U+000A⟧c\td");
    }

    #[test]
    fn a_cut_is_marked_and_nothing_is_cut_at_the_edge() {
        let text = "é".repeat(10);
        assert_eq!(visible(&text, 20), text);
        assert_eq!(visible(&text, 19), format!("{}{CUT_MARK}", "é".repeat(5)));
        assert_eq!(visible("abc", 2), "");
        assert_eq!(visible("", 0), "");
        assert_eq!(visible("abcdefgh\u{202e}", 12), format!("abc{CUT_MARK}"));
    }

    #[test]
    fn letters_that_look_latin_are_found_beside_latin_ones() {
        for text in ["if p\u{430}ssword {", "let \u{ff41}dmin = x", "us\u{435}r_id", "T\u{39f}KEN"] {
            assert!(hides(text), "{text}");
        }
        for text in ["пароль password", "αs", "naïve façade", "日本語abc", "user_имя".split('_').next().unwrap()]
        {
            assert!(!hides(text), "{text}");
        }
    }

    #[test]
    fn marks_that_pretend_to_be_ours_are_found() {
        assert!(hides("⟦masked: github token⟧") && hides("end⟦cut⟧") && hides("⟦U+202E⟧"));
        assert!(!hides("the meaning ⟦e⟧ of e"));
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left_and_the_bound_holds(text in any::<String>(), bytes_max in 0_usize..200) {
            for shown in [visible(&text, bytes_max), visible_line(&text, bytes_max)] {
                prop_assert!(shown.len() <= bytes_max);
                let hidden = |(at, c)| is_hidden(&shown, at, c) && !matches!(c, '\n' | '\r' | '\t');
                prop_assert!(!shown.char_indices().any(hidden), "{shown:?}");
            }
            let whole = visible(&text, usize::MAX);
            prop_assert_eq!(&visible(&whole, usize::MAX), &whole, "twice changes nothing");
            prop_assert_eq!(whole.matches('\n').count(), text.matches('\n').count());
        }
    }
}
