//! The append-only record; a fleet is its fold.
