//! Which SQL statements cannot be taken back by sending traffic to the old version: those that drop or rewrite what it
//! reads, or refuse what it writes.
//!
//! A statement is read as tokens, so that comments, strings, quoted names and line breaks do not matter. Statements are
//! put together from added and context lines; one counts only when an added line is part of it.

use super::source::Row;
use crate::domain::LineKind;

/// Whether rows are SQL, or code with SQL in its strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A migration in SQL.
    Migration,
    /// SQL that is no migration by its place: only what changes the schema counts.
    Schema,
    /// Migration code: statements stand in strings.
    MigrationCode,
    /// Other code: statements stand in strings, in capitals.
    Code,
}

impl Reading {
    const fn in_strings(self) -> bool {
        matches!(self, Self::MigrationCode | Self::Code)
    }

    /// Whether whole-table deletes and updates count: elsewhere they may be what the service does all day.
    const fn rows_count(self) -> bool {
        matches!(self, Self::Migration | Self::MigrationCode)
    }
}

/// A statement that cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Danger {
    /// What it does, as in "it drops a table".
    pub(super) does: &'static str,
    /// The number of an added line of it.
    pub(super) line: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A bare word, in capitals.
    Word(String),
    /// A quoted name.
    Name,
    Comma,
    Open,
    Close,
    /// The end of a statement.
    End,
    /// `$$` or `$tag$`.
    Dollar,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    line: u32,
    added: bool,
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(w) if w == word)
    }

    fn is_any(&self, words: &[&str]) -> bool {
        matches!(&self.kind, Kind::Word(w) if words.contains(&w.as_str()))
    }
}

/// Every danger in these rows.
pub(super) fn dangers<'a>(rows: impl Iterator<Item = &'a Row<'a>>, reading: Reading) -> Vec<Danger> {
    let tokens = tokens(rows, reading);
    statements(&tokens).into_iter().flat_map(|statement| danger(statement, reading)).collect()
}

fn tokens<'a>(rows: impl Iterator<Item = &'a Row<'a>>, reading: Reading) -> Vec<Token> {
    let mut found = Vec::new();
    let (mut hunk, mut in_comment, mut in_string) = (0, false, false);
    for row in rows {
        if row.kind == LineKind::Removed {
            continue;
        }
        let added = row.kind == LineKind::Added;
        if row.hunk != hunk {
            (hunk, in_comment, in_string) = (row.hunk, false, false);
            found.push(Token { kind: Kind::End, line: row.number, added });
        }
        let mut rest = row.text;
        loop {
            if in_comment || in_string {
                let mark = if in_comment { "*/" } else { "'" };
                let Some((_, after)) = rest.split_once(mark) else { break };
                (in_comment, in_string, rest) = (false, false, after);
            }
            let (kind, after) = match next(rest, reading) {
                Next::Token(kind, after) => (Some(kind), after),
                Next::Skip(after) => (None, after),
                Next::Comment(after) => {
                    in_comment = true;
                    (None, after)
                }
                Next::Text(after) => {
                    in_string = true;
                    (None, after)
                }
                Next::LineEnds => break,
            };
            found.extend(kind.map(|kind| Token { kind, line: row.number, added }));
            rest = after;
        }
    }
    found
}

enum Next<'a> {
    Token(Kind, &'a str),
    Skip(&'a str),
    Comment(&'a str),
    Text(&'a str),
    LineEnds,
}

fn next(text: &str, reading: Reading) -> Next<'_> {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return Next::LineEnds };
    let after = chars.as_str();
    match first {
        '-' if after.starts_with('-') && !reading.in_strings() => Next::LineEnds,
        '/' if after.starts_with('*') => Next::Comment(after),
        '"' | '\'' | '`' if reading.in_strings() => Next::Token(Kind::End, after),
        '\'' => Next::Text(after),
        '"' | '`' => match after.split_once(first) {
            Some((_, after)) => Next::Token(Kind::Name, after),
            None => Next::LineEnds,
        },
        '[' if !reading.in_strings() => match after.split_once(']') {
            Some((_, after)) => Next::Token(Kind::Name, after),
            None => Next::LineEnds,
        },
        '(' => Next::Token(Kind::Open, after),
        ')' => Next::Token(Kind::Close, after),
        ',' => Next::Token(Kind::Comma, after),
        ';' => Next::Token(Kind::End, after),
        '$' => match after.split_once('$') {
            Some((tag, after)) if tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                Next::Token(Kind::Dollar, after)
            }
            Some(_) | None => Next::Skip(after),
        },
        _ if is_name(first) => {
            let length = text.find(|c| !is_name(c)).unwrap_or(text.len());
            let (word, after) = text.split_at(length);
            // In code that is no migration, only capitals are meant as SQL.
            let word = match reading {
                Reading::Code if word.chars().any(|c| c.is_ascii_lowercase()) => format!("~{word}"),
                _ => word.to_ascii_uppercase(),
            };
            Next::Token(Kind::Word(word), after)
        }
        _ => Next::Skip(after),
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.')
}

const VERBS: &[&str] = &["ALTER", "DROP", "TRUNCATE", "DELETE", "UPDATE", "RENAME"];

/// Splits tokens into statements, those inside a `DO` block among them; the body of a function that is only defined is
/// left out.
fn statements(tokens: &[Token]) -> Vec<&[Token]> {
    let mut found = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(token) = tokens.get(at) {
        let statement = tokens.get(start..at).unwrap_or_default();
        let defines = statement.first().is_some_and(|first| first.is("CREATE"))
            && statement.iter().take(5).any(|t| t.is_any(&["FUNCTION", "PROCEDURE", "TRIGGER"]));
        let verb_follows = tokens.get(at + 1).is_some_and(|following| following.is_any(VERBS));
        match &token.kind {
            Kind::Dollar if defines => {
                let body = tokens.get(at + 1..).unwrap_or_default();
                at += body.iter().position(|t| t.kind == Kind::Dollar).map_or(body.len(), |end| end + 1);
            }
            Kind::End | Kind::Dollar => {
                found.push(statement);
                start = at + 1;
            }
            Kind::Word(_) if verb_follows && token.is_any(&["THEN", "ELSE", "BEGIN", "LOOP", "GO"]) => {
                found.push(statement);
                start = at + 1;
            }
            // Strings of code may begin without a mark that this reading knows.
            Kind::Word(_) if at > start && token.is_any(VERBS) && table_follows(tokens, at) => {
                found.push(statement);
                start = at;
            }
            Kind::Word(_) | Kind::Name | Kind::Comma | Kind::Open | Kind::Close => {}
        }
        at += 1;
    }
    found.push(tokens.get(start..).unwrap_or_default());
    found
}

fn table_follows(tokens: &[Token], at: usize) -> bool {
    tokens.get(at + 1).is_some_and(|following| following.is("TABLE"))
}

fn danger(statement: &[Token], reading: Reading) -> Vec<Danger> {
    let begin = match statement.first() {
        Some(first) if first.is("WITH") => {
            at_depth_zero(statement).find(|(_, t)| t.is_any(&["DELETE", "UPDATE"])).map_or(0, |(at, _)| at)
        }
        _ => 0,
    };
    let statement = statement.get(begin..).unwrap_or_default();
    let (Some(first), second) = (statement.first(), statement.get(1)) else { return Vec::new() };
    let second_is = |words: &[&str]| second.is_some_and(|second| second.is_any(words));
    let filtered = || at_depth_zero(statement).any(|(_, token)| token.is("WHERE"));
    let does = if first.is("DROP") {
        match second.map(|second| &second.kind) {
            Some(Kind::Word(what)) => match what.as_str() {
                "TABLE" => "drops a table",
                "COLUMN" => "drops a column",
                "DATABASE" | "SCHEMA" | "KEYSPACE" => "drops a schema",
                "TYPE" => "drops a type",
                _ => return Vec::new(),
            },
            _ => return Vec::new(),
        }
    } else if first.is("TRUNCATE") && second.is_some_and(|second| matches!(second.kind, Kind::Word(_) | Kind::Name)) {
        "empties a table"
    } else if first.is("RENAME") && second_is(&["TABLE"]) {
        "renames a table"
    } else if first.is("ALTER") && second_is(&["TABLE", "FOREIGN"]) {
        return altered(statement);
    } else if first.is("ALTER")
        && second_is(&["TYPE", "SCHEMA", "DATABASE"])
        && statement.iter().any(|t| t.is("RENAME"))
    {
        "renames what the old version reads"
    } else if first.is("DELETE") && second_is(&["FROM"]) && reading.rows_count() && !filtered() {
        "deletes every row of a table"
    } else if first.is("UPDATE") && reading == Reading::Migration && has_set(statement) && !filtered() {
        "rewrites every row of a table"
    } else {
        return Vec::new();
    };
    added_line(statement).map(|line| Danger { does, line }).into_iter().collect()
}

fn has_set(statement: &[Token]) -> bool {
    statement.iter().any(|token| token.is("SET"))
}

fn added_line(tokens: &[Token]) -> Option<u32> {
    tokens.iter().find(|token| token.added).map(|token| token.line)
}

fn at_depth_zero(tokens: &[Token]) -> impl Iterator<Item = (usize, &Token)> {
    let mut depth = 0_i32;
    tokens.iter().enumerate().filter(move |(_, token)| {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            Kind::Word(_) | Kind::Name | Kind::Comma | Kind::End | Kind::Dollar => {}
        }
        depth == 0
    })
}

/// The dangers among the actions of an `ALTER TABLE`, which commas part.
fn altered(statement: &[Token]) -> Vec<Danger> {
    const ACTIONS: &[&str] = &["ADD", "DROP", "ALTER", "RENAME", "MODIFY", "CHANGE"];
    let Some(start) = statement.iter().skip(3).position(|token| token.is_any(ACTIONS)).map(|at| at + 3) else {
        return Vec::new();
    };
    let actions = statement.get(start..).unwrap_or_default();
    let mut ends: Vec<usize> =
        at_depth_zero(actions).filter(|(_, t)| t.kind == Kind::Comma).map(|(at, _)| at).collect();
    ends.push(actions.len());
    let mut begin = 0;
    let mut found = Vec::new();
    for end in ends {
        let one = actions.get(begin..end).unwrap_or_default();
        begin = end + 1;
        if let (Some(does), Some(line)) = (action(one), added_line(one)) {
            found.push(Danger { does, line });
        }
    }
    found
}

fn action(tokens: &[Token]) -> Option<&'static str> {
    let words: Vec<&str> = tokens
        .iter()
        .map(|token| match &token.kind {
            Kind::Word(word) => word.as_str(),
            Kind::Name | Kind::Comma | Kind::Open | Kind::Close | Kind::End | Kind::Dollar => "",
        })
        .filter(|word| !matches!(*word, "IF" | "EXISTS"))
        .collect();
    match *words.first()? {
        "DROP" => match *words.get(1)? {
            "CONSTRAINT" | "INDEX" | "KEY" | "PRIMARY" | "FOREIGN" | "CHECK" | "DEFAULT" | "IDENTITY" | "NOT" => None,
            "PARTITION" => Some("drops a partition"),
            _ => Some("drops a column"),
        },
        "RENAME" => match *words.get(1)? {
            "CONSTRAINT" | "INDEX" | "KEY" => None,
            _ => Some("renames what the old version reads"),
        },
        "MODIFY" | "CHANGE" => Some("changes a column's type"),
        "ALTER" => altered_column(words.get(1..)?),
        "ADD" => added_column(words.get(1..)?),
        _ => None,
    }
}

fn altered_column(words: &[&str]) -> Option<&'static str> {
    let words = words.strip_prefix(&["COLUMN"]).unwrap_or(words);
    match words.get(1..)? {
        ["TYPE", ..] | ["SET", "DATA", "TYPE", ..] => Some("changes a column's type"),
        ["SET", "NOT", "NULL", ..] => Some("makes a column required"),
        ["SET" | "DROP" | "ADD" | "RESTART" | "", ..] | [] => None,
        _ => Some("changes a column's type"),
    }
}

fn added_column(words: &[&str]) -> Option<&'static str> {
    const NO_COLUMNS: &[&str] =
        &["CONSTRAINT", "INDEX", "KEY", "PRIMARY", "UNIQUE", "FOREIGN", "CHECK", "PARTITION", "FULLTEXT", "VALUE"];
    const FILLED: &[&str] =
        &["DEFAULT", "GENERATED", "IDENTITY", "SERIAL", "BIGSERIAL", "SMALLSERIAL", "AUTO_INCREMENT", "AUTOINCREMENT"];
    if words.first().is_none_or(|word| NO_COLUMNS.contains(word)) || words.iter().any(|word| FILLED.contains(word)) {
        return None;
    }
    let required = words.windows(2).enumerate().any(|(at, pair)| {
        pair == ["NOT", "NULL"]
            && at.checked_sub(1).and_then(|before| words.get(before)).is_none_or(|word| *word != "IS")
    });
    required.then_some("adds a required column without a default")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sql: &str, reading: Reading) -> Vec<&'static str> {
        let rows: Vec<Row<'_>> =
            (1..).zip(sql.lines()).map(|(number, text)| Row::new(LineKind::Added, number, text)).collect();
        dangers(rows.iter(), reading).into_iter().map(|danger| danger.does).collect()
    }

    #[test]
    fn what_drops_or_rewrites_is_found_whatever_its_spelling() {
        for (sql, does) in [
            ("DROP TABLE users;", "drops a table"),
            ("drop\n  table if exists users", "drops a table"),
            ("DROP SCHEMA billing CASCADE;", "drops a schema"),
            ("DROP TYPE mood;", "drops a type"),
            ("TRUNCATE orders;", "empties a table"),
            ("ALTER TABLE users DROP COLUMN email;", "drops a column"),
            ("ALTER TABLE users DROP email;", "drops a column"),
            ("ALTER TABLE \"users\" DROP COLUMN IF EXISTS \"email\";", "drops a column"),
            ("ALTER TABLE [users] DROP COLUMN [email];", "drops a column"),
            ("ALTER TABLE users ADD COLUMN a INT, DROP COLUMN b;", "drops a column"),
            ("ALTER TABLE users RENAME COLUMN a TO b;", "renames what the old version reads"),
            ("ALTER TABLE users RENAME TO people;", "renames what the old version reads"),
            ("ALTER TABLE users ALTER COLUMN age TYPE bigint;", "changes a column's type"),
            ("ALTER TABLE users ALTER COLUMN age SET DATA TYPE bigint;", "changes a column's type"),
            ("ALTER TABLE users MODIFY age BIGINT;", "changes a column's type"),
            ("ALTER TABLE users ALTER COLUMN age SET NOT NULL;", "makes a column required"),
            ("ALTER TABLE users ADD COLUMN age INT NOT NULL;", "adds a required column without a default"),
            ("DELETE FROM sessions;", "deletes every row of a table"),
            ("UPDATE users SET name = 'x -- y';", "rewrites every row of a table"),
            ("DO $$ BEGIN IF true THEN ALTER TABLE a DROP COLUMN b; END IF; END $$;", "drops a column"),
            ("SELECT 'it''s'; DROP TABLE a;", "drops a table"),
        ] {
            assert_eq!(found(sql, Reading::Migration), [does], "{sql}");
        }
    }

    #[test]
    fn what_leaves_the_old_version_its_data_is_not() {
        for sql in [
            "DROP INDEX users_email;",
            "DROP VIEW recent;",
            "CREATE TABLE a (b INT NOT NULL);",
            "ALTER TABLE users ADD COLUMN age INT;",
            "ALTER TABLE users ADD COLUMN price NUMERIC(10, 2) NOT NULL DEFAULT 0;",
            "ALTER TABLE users ADD COLUMN id BIGSERIAL NOT NULL;",
            "ALTER TABLE users ADD CONSTRAINT c CHECK (a IS NOT NULL);",
            "ALTER TABLE users DROP CONSTRAINT c;",
            "ALTER TABLE users ALTER COLUMN a DROP NOT NULL;",
            "ALTER TABLE users ALTER COLUMN a SET DEFAULT 5;",
            "ALTER TABLE users RENAME CONSTRAINT a TO b;",
            "ALTER TYPE mood ADD VALUE 'happy';",
            "-- DROP TABLE users;",
            "/* DROP TABLE users;\n TRUNCATE a; */ SELECT 1;",
            "INSERT INTO notes VALUES ('DROP TABLE users; TRUNCATE a');",
            "INSERT INTO notes VALUES ('first\nDROP TABLE users; TRUNCATE a');",
            "DELETE FROM sessions WHERE expired;",
            "UPDATE users SET kind = CASE WHEN a THEN 1 ELSE 2 END WHERE kind IS NULL;",
            "CREATE FUNCTION f() RETURNS void AS $$ BEGIN DELETE FROM a; END $$ LANGUAGE plpgsql;",
            "",
        ] {
            assert_eq!(found(sql, Reading::Migration), [""; 0], "{sql}");
        }
    }

    #[test]
    fn sql_in_the_strings_of_code_is_read_too() {
        let dropped = ["drops a column"];
        assert_eq!(found(r#"op.execute("alter table users drop column email")"#, Reading::MigrationCode), dropped);
        assert_eq!(found("execute <<~SQL\n  ALTER TABLE users\n  DROP COLUMN email\nSQL", Reading::Code), dropped);
        assert_eq!(found(r#"log.error("cannot drop table users")"#, Reading::Code), [""; 0]);
        assert_eq!(found(r#"db.run("DELETE FROM sessions")"#, Reading::Code), [""; 0], "what a service does all day");
        assert_eq!(found("drop(table); delete(from); let truncate = 5;", Reading::Code), [""; 0]);
    }
}
