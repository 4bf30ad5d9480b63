//! GitHub: merged pull requests and their diffs in.
