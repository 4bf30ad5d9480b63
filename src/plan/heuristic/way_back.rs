//! Whether the old version can take the traffic back, by the diff.
//!
//! Only added lines of migrations (and statements in code that spell a change of schema) speak against it; the part of a
//! migration that undoes it does not. A false alarm costs a page instead of a rollback by itself; a miss lets the old
//! version loose on data that it does not understand. So what is unclear counts, but what is common and harmless is
//! told apart with care.

use super::{
    scan::{function_name, indent},
    source::{Language, Role, Row, Source},
    sql::{Danger, Reading, dangers},
};
use crate::domain::{DiffLine, Text, WayBack};

/// Most lines that are named as reasons.
const LINES_MAX: usize = 16;
/// Most lines of a statement in code, around the word that gives it away.
const STATEMENT_LINES_MAX: usize = 12;
/// Most lines that one call may take.
const CALL_LINES_MAX: usize = 8;

/// Reads every file for what cannot be taken back.
pub(super) fn read(sources: &[Source<'_>]) -> WayBack {
    let mut found: Vec<(DiffLine, &'static str)> = Vec::new();
    for source in sources {
        let mut dangers = in_file(source);
        dangers.sort_by_key(|danger| danger.line);
        dangers.dedup_by_key(|danger| danger.line);
        found.extend(dangers.into_iter().map(|d| (DiffLine { path: source.path.to_owned(), line: d.line }, d.does)));
    }
    let Some((first, does)) = found.first() else { return WayBack::Open };
    let more = match found.len() - 1 {
        0 => String::new(),
        more => format!(" ({more} more such lines)"),
    };
    let why = Text::new(format!("{first} {does}, which the old version may still need{more}"));
    WayBack::OneWay { why, lines: found.into_iter().take(LINES_MAX).map(|(line, _)| line).collect() }
}

fn in_file(source: &Source<'_>) -> Vec<Danger> {
    if is_undoing_file(source.path) || !source.rows.iter().any(Row::added) {
        return Vec::new();
    }
    let sql = source.language == Language::Sql;
    match (source.role, sql) {
        (Role::Migration, true) => dangers(forward_sql(&source.rows).into_iter(), Reading::Migration),
        (Role::Code, true) if is_dump(source.path) => Vec::new(),
        (Role::Code, true) => dangers(forward_sql(&source.rows).into_iter(), Reading::Schema),
        (Role::Migration, false) => {
            let rows = forward_code(source);
            let mut found = dangers(rows.iter().copied(), Reading::MigrationCode);
            found.extend(calls(&rows));
            found
        }
        (Role::Code, false) => dangers(near_schema_words(&source.rows).into_iter(), Reading::Code),
        _ => Vec::new(),
    }
}

/// Rows of code near a word that a change of schema cannot do without.
fn near_schema_words<'a>(rows: &'a [Row<'a>]) -> Vec<&'a Row<'a>> {
    const WORDS: &[&str] = &["TABLE", "COLUMN", "SCHEMA", "DATABASE", "TYPE"];
    let mut kept = Vec::new();
    let mut next = 0;
    for (at, _) in rows.iter().enumerate().filter(|(_, row)| row.added() && WORDS.iter().any(|word| row.has(word))) {
        let first = at.saturating_sub(STATEMENT_LINES_MAX).max(next);
        next = (at + STATEMENT_LINES_MAX + 1).min(rows.len());
        kept.extend(rows.get(first..next).unwrap_or_default().iter().filter(|row| row.speaks()));
    }
    kept
}

/// `0007_users.down.sql` and its like: what undoes a migration is run only when someone goes back on purpose.
fn is_undoing_file(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let (folders, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let flyway = name.starts_with('u') && name.contains("__") && name[1..].starts_with(|c: char| c.is_ascii_digit());
    let words = ["down", "rollback", "undo", "revert"];
    flyway
        || words.iter().any(|word| {
            stem == *word
                || [".", "_", "-"].iter().any(|part| stem.ends_with(&format!("{part}{word}")))
                || folders.split('/').any(|folder| folder == *word)
        })
}

/// A whole schema or its seed, as tools write it down: it is not run on a database that has data.
fn is_dump(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    ["schema", "structure", "dump", "seed", "fixture", "init"].iter().any(|mark| name.contains(mark))
}

/// Rows of SQL without the sections that migration tools mark as going back.
fn forward_sql<'a>(rows: &'a [Row<'a>]) -> Vec<&'a Row<'a>> {
    let mut down = false;
    let mut kept = Vec::new();
    for row in rows {
        if let Some(comment) = row.text.trim_start().strip_prefix("--") {
            let words: Vec<String> = comment
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|word| !word.is_empty())
                .take(3)
                .map(str::to_ascii_lowercase)
                .collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["goose" | "migrate" | "micrate" | "migration", "down", ..] | ["down", "migration", ..] | ["down"] => {
                    down = true;
                }
                ["goose" | "migrate" | "micrate" | "migration", "up", ..] | ["up", "migration", ..] | ["up"] => {
                    down = false;
                }
                _ => {}
            }
        } else if !down {
            kept.push(row);
        }
    }
    kept
}

/// Rows of migration code without the functions and sections that go back.
fn forward_code<'a>(source: &'a Source<'a>) -> Vec<&'a Row<'a>> {
    let mut down: Option<usize> = None;
    let mut hunk = 0;
    let mut kept = Vec::new();
    for row in source.rows.iter().filter(|row| row.speaks()) {
        let depth = indent(row.text);
        let trimmed = row.text.trim_start();
        if row.hunk != hunk {
            (hunk, down) = (row.hunk, None);
        }
        let belongs = trimmed.starts_with([')', '}', ']', '{']) || trimmed.starts_with("end");
        if down.is_some_and(|outer| depth <= outer) && !belongs {
            down = None;
        }
        if down.is_none() && goes_back(trimmed) {
            down = Some(depth);
        }
        if down.is_none() {
            kept.push(row);
        } else if trimmed.contains("</rollback>") {
            down = None;
        }
    }
    kept
}

fn goes_back(trimmed: &str) -> bool {
    let by_name = function_name(trimmed).is_some_and(|name| {
        let lower = name.to_ascii_lowercase();
        ["down", "revert", "rollback", "undo", "reverse", "backward"].iter().any(|word| lower.starts_with(word))
    });
    by_name
        || ["down:", "rollback:", "- rollback:", "<rollback"].iter().any(|mark| trimmed.starts_with(mark))
        || trimmed.contains(" Down(")
        || trimmed.contains("dir.down")
        || trimmed.contains("_down = ")
}

/// Calls of migration frameworks, and what they do. The longer of two names stands first.
const CALLS: &[(&str, &str)] = &[
    ("remove_column", "drops a column"),
    ("remove_reference", "drops a column"),
    ("t.remove ", "drops a column"),
    ("drop_table", "drops a table"),
    ("drop_join_table", "drops a table"),
    ("drop_column", "drops a column"),
    ("rename_column", "renames what the old version reads"),
    ("rename_table", "renames what the old version reads"),
    ("change_column ", "changes a column's type"),
    ("change_column(", "changes a column's type"),
    ("RemoveField(", "drops a column"),
    ("DeleteModel(", "drops a table"),
    ("RenameField(", "renames what the old version reads"),
    ("RenameModel(", "renames what the old version reads"),
    ("AlterModelTable(", "renames what the old version reads"),
    ("dropColumn", "drops a column"),
    ("removeColumn", "drops a column"),
    ("DropColumn", "drops a column"),
    ("dropTable", "drops a table"),
    ("DropTable", "drops a table"),
    ("Schema::drop", "drops a table"),
    ("renameColumn", "renames what the old version reads"),
    ("RenameColumn", "renames what the old version reads"),
    ("renameTable", "renames what the old version reads"),
    ("RenameTable", "renames what the old version reads"),
    ("renameCollection", "renames what the old version reads"),
    ("changeColumn", "changes a column's type"),
    (".alter()", "changes a column's type"),
    ("->change()", "changes a column's type"),
    ("modifyDataType", "changes a column's type"),
    ("modify :", "changes a column's type"),
    ("remove :", "drops a column"),
    ("addNotNullConstraint", "makes a column required"),
    ("dropDatabase(", "drops a schema"),
    ("$unset", "drops a field of every document"),
    ("$rename", "renames what the old version reads"),
    (".drop()", "drops a table"),
    ("deleteMany({})", "deletes every row of a table"),
];

fn calls(rows: &[&Row<'_>]) -> Vec<Danger> {
    let mut found = Vec::new();
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.added()) {
        let known = CALLS.iter().find(|(call, _)| row.has(call)).map(|(_, does)| *does);
        let does = known.or_else(|| with_arguments(rows.get(at..).unwrap_or_default()));
        found.extend(does.map(|does| Danger { does, line: row.number }));
    }
    found
}

/// Calls whose arguments decide.
fn with_arguments(rows: &[&Row<'_>]) -> Option<&'static str> {
    let text = rows.first()?.text;
    let arguments = |call: &str| text.contains(call).then(|| arguments_of(rows, call));
    if let Some(given) = arguments("RunPython(") {
        let count = given.split(',').filter(|argument| !argument.trim().is_empty()).count();
        return (count < 2).then_some("rewrites data with no way back written");
    }
    if let Some(given) = arguments("op.alter_column(") {
        return if given.contains("new_column_name") {
            Some("renames what the old version reads")
        } else if given.contains("type_=") {
            Some("changes a column's type")
        } else {
            given.contains("nullable=False").then_some("makes a column required")
        };
    }
    if let Some(given) = arguments("op.add_column(") {
        let required = given.contains("nullable=False") && !given.contains("server_default");
        return required.then_some("adds a required column without a default");
    }
    if let Some(given) = arguments("add_column ") {
        let required = given.contains("null: false") && !given.contains("default:");
        return required.then_some("adds a required column without a default");
    }
    let given = arguments("change_column_null")?;
    given.contains("false").then_some("makes a column required")
}

/// What stands between the brackets of a call, over a few lines; to the end of the line for a call without brackets.
fn arguments_of(rows: &[&Row<'_>], call: &str) -> String {
    let mut given = String::new();
    let mut depth = 0_i32;
    for (at, row) in rows.iter().take(CALL_LINES_MAX).enumerate() {
        let text = if at == 0 { row.text.split_once(call).map_or("", |(_, rest)| rest) } else { row.text };
        for c in text.chars() {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' if depth == 0 => return given,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            given.push(c);
        }
        if !call.ends_with('(') {
            break;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FileDiff, Line, LineKind, TouchKind};

    fn way_back(path: &str, text: &str) -> WayBack {
        let lines =
            (1..).zip(text.lines()).map(|(number, text)| Line { kind: LineKind::Added, number, text: text.into() });
        let file = FileDiff {
            path: path.into(),
            previous_path: None,
            kind: TouchKind::Added,
            binary: false,
            lines: lines.collect(),
        };
        read(&[Source::read(&file, 1_000)])
    }

    #[test]
    fn migrations_of_many_frameworks_that_drop_or_rewrite_are_one_way() {
        for (path, text) in [
            ("migrations/7_users.up.sql", "ALTER TABLE users DROP COLUMN email;"),
            ("migrations/7_users.sql", "-- +goose Up\nDROP TABLE a;\n-- +goose Down\nCREATE TABLE a (b int);"),
            ("prisma/migrations/20240101_x/migration.sql", "ALTER TABLE \"User\" DROP COLUMN \"email\";"),
            ("db/V3__users.sql", "TRUNCATE TABLE users;"),
            ("db/migrate/1_x.rb", "def change\n  remove_column :users, :email, :string\nend"),
            ("db/migrate/1_x.rb", "def change\n  change_column_null :users, :email, false\nend"),
            ("db/migrate/1_x.rb", "  add_column :users, :age, :integer, null: false"),
            ("shop/migrations/0002_x.py", "    migrations.RemoveField(model_name=\"user\", name=\"email\"),"),
            ("shop/migrations/0002_x.py", "    migrations.RunPython(fill),"),
            ("alembic/versions/1_x.py", "def upgrade():\n    op.drop_column(\"users\", \"email\")"),
            (
                "alembic/versions/1_x.py",
                "    op.alter_column(\n        \"users\",\n        \"a\",\n        type_=sa.Text(),\n    )",
            ),
            ("migrations/1_x.js", "exports.up = (knex) =>\n  knex.schema.table('u', (t) => t.dropColumn('email'));"),
            ("db/changelog/1.xml", "<dropColumn tableName=\"users\" columnName=\"email\"/>"),
            ("migrations/1.js", "db.users.updateMany({}, { $unset: { email: 1 } })"),
            ("src/startup.rs", "    sqlx::query(\"ALTER TABLE users DROP COLUMN email\").execute(&pool).await?;"),
        ] {
            assert!(matches!(way_back(path, text), WayBack::OneWay { .. }), "{path}: {text}");
        }
    }

    #[test]
    fn what_undoes_a_migration_or_only_adds_is_not() {
        for (path, text) in [
            ("migrations/7_users.down.sql", "DROP TABLE IF EXISTS users;"),
            ("migrations/down/7.sql", "DROP TABLE users;"),
            ("db/U3__users.sql", "DROP TABLE users;"),
            ("migrations/7.sql", "-- +goose Up\nCREATE TABLE a (b int);\n-- +goose Down\nDROP TABLE a;"),
            ("migrations/7.sql", "-- migrate:up\nCREATE TABLE a (b int);\n-- migrate:down\nDROP TABLE a;"),
            ("db/migrate/1.rb", "def up\n  create_table :a\nend\n\ndef down\n  drop_table :a\nend"),
            (
                "alembic/versions/1.py",
                "def upgrade():\n    op.drop_index(\"i\")\n\ndef downgrade():\n    op.drop_column(\"a\", \"b\")",
            ),
            (
                "shop/migrations/2.py",
                "    migrations.RunPython(\n        fill,\n        migrations.RunPython.noop,\n    ),",
            ),
            ("migrations/1.js", "exports.down = function (knex) {\n  return knex.schema.dropTable('a');\n};"),
            (
                "migrations/1.ts",
                "  public async down(q: QueryRunner): Promise<void> {\n    await q.dropTable('a');\n  }",
            ),
            ("db/schema.sql", "DROP TABLE IF EXISTS users;\nCREATE TABLE users (id int);"),
            ("tests/migrations/7.sql", "DROP TABLE users;"),
            ("docs/migrations/7.sql", "DROP TABLE users;"),
            ("src/app.rs", "drop(table);"),
        ] {
            assert_eq!(way_back(path, text), WayBack::Open, "{path}: {text}");
        }
    }

    #[test]
    fn the_reason_names_the_first_line_and_counts_the_others() {
        let text = "DROP TABLE a;\n".repeat(LINES_MAX + 4);
        let WayBack::OneWay { why, lines } = way_back("migrations/9.sql", &text) else { panic!("one-way") };
        assert!(why.as_str().starts_with("migrations/9.sql:1 drops a table"), "{why}");
        assert!(why.as_str().contains("(19 more such lines)"), "{why}");
        assert_eq!(lines.len(), LINES_MAX);
    }
}
