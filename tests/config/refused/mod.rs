//! Files that are refused, and every line that is told of each.

mod asked;
mod measuring;
mod model;
mod process;
mod service;
mod sources;

use super::{least_with, lines, read};

/// [`super::LEAST`] with one part replaced, and all that is told of it.
struct Refused {
    replaced: &'static str,
    by: &'static str,
    told: &'static [&'static str],
}

#[track_caller]
fn check(table: &[Refused]) {
    for Refused { replaced, by, told } in table {
        match read(&least_with(replaced, by)) {
            Ok(_) => panic!("{by} was accepted"),
            Err(problems) => assert_eq!(lines(&problems), *told, "{by}"),
        }
    }
}
