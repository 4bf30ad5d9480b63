//! The draft when the diff could not be read: the mandatory checks alone, and as much care about the way back as the
//! names of the files allow.
//!
//! What cannot be read may be a migration that drops a column. Rolling back over such a change can do more harm than the
//! fault it flees from, so a file that looks like a migration makes the change one-way until someone has looked.

use super::Draft;
use crate::domain::{Change, DiffLine, Text, WayBack};

/// Folders whose files change data rather than code, in the frameworks people use.
const MIGRATION_FOLDERS: &[&str] =
    &["migrations", "migrate", "migration", "alembic", "flyway", "liquibase", "changelog"];

/// A draft without proposals. `why` says why the diff could not be read.
pub fn fallback(change: &Change, why: &Text) -> Draft {
    let migration = change.files.iter().map(|file| file.path.as_str()).find(|path| looks_like_migration(path));
    let way_back = match migration {
        Some(path) => WayBack::OneWay {
            why: Text::new(format!("its diff could not be read, and {path} looks like a migration")),
            lines: vec![DiffLine { path: path.to_owned(), line: 1 }],
        },
        None if change.files_cut => WayBack::OneWay {
            why: Text::new("neither its diff nor the whole list of its files could be read"),
            lines: Vec::new(),
        },
        None => WayBack::Open,
    };
    Draft::by_rules(Vec::new(), way_back, vec![why.clone()])
}

fn looks_like_migration(path: &str) -> bool {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    path.ends_with(".sql") || folders.split('/').any(|folder| MIGRATION_FOLDERS.contains(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_known_by_where_it_lies() {
        for path in ["db/migrate/20260101_drop.rb", "app/migrations/0007_auto.py", "schema/V7.sql"] {
            assert!(looks_like_migration(path), "{path}");
        }
        for path in ["src/migrate.rs", "docs/migrations.md", "README.md"] {
            assert!(!looks_like_migration(path), "{path}");
        }
    }
}
