//! Words that stay words where markdown is rendered: no image, no link, no mention, no heading.

/// The same words, with everything escaped that GitHub's or Slack's markdown would act on.
pub fn markdown(words: &str) -> String {
    words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '.' | ',')).collect()
}
