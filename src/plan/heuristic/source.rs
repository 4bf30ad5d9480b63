//! One file of the diff as the signals read it: what part it plays, in which language it is written, and its lines with
//! the quiet ones (comments, blank lines, tests inside the file) marked.

use super::scan::{Pairs, cut, first_word};
use crate::domain::{DiffLine, FileDiff, LineKind};

/// What part a file plays. Decided by its path alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Runs in the service.
    Code,
    /// Changes the database.
    Migration,
    /// Names dependencies.
    Manifest,
    /// Pins dependencies, by machine.
    Lock,
    /// Configures the service or where it runs.
    Config,
    /// Tests, fixtures and benchmarks.
    Test,
    /// For readers.
    Docs,
    /// Settings of builds, reviews and editors.
    Development,
    /// Vendored, generated or minified: nobody wrote it here.
    Generated,
    /// Pictures, styles and whatever else has no signal.
    Asset,
}

/// A language, by the file's extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Language {
    Rust,
    JavaScript,
    Python,
    Ruby,
    Go,
    Jvm,
    CSharp,
    Php,
    Elixir,
    C,
    Sql,
    Interface,
    Other,
}

/// Extensions and what they say.
const LANGUAGES: &[(&str, Language)] = &[
    ("rs", Language::Rust),
    ("js", Language::JavaScript),
    ("jsx", Language::JavaScript),
    ("ts", Language::JavaScript),
    ("tsx", Language::JavaScript),
    ("mjs", Language::JavaScript),
    ("cjs", Language::JavaScript),
    ("vue", Language::JavaScript),
    ("svelte", Language::JavaScript),
    ("py", Language::Python),
    ("rb", Language::Ruby),
    ("go", Language::Go),
    ("java", Language::Jvm),
    ("kt", Language::Jvm),
    ("scala", Language::Jvm),
    ("groovy", Language::Jvm),
    ("cs", Language::CSharp),
    ("php", Language::Php),
    ("ex", Language::Elixir),
    ("exs", Language::Elixir),
    ("c", Language::C),
    ("cc", Language::C),
    ("cpp", Language::C),
    ("h", Language::C),
    ("hpp", Language::C),
    ("swift", Language::C),
    ("sql", Language::Sql),
    ("proto", Language::Interface),
    ("graphql", Language::Interface),
    ("avsc", Language::Interface),
    ("thrift", Language::Interface),
];

impl Language {
    /// What people call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript or TypeScript",
            Self::Python => "Python",
            Self::Ruby => "Ruby",
            Self::Go => "Go",
            Self::Jvm => "a JVM language",
            Self::CSharp => "C#",
            Self::Php => "PHP",
            Self::Elixir => "Elixir",
            Self::C => "C or C++",
            Self::Sql => "SQL",
            Self::Interface => "interface definitions",
            Self::Other => "other",
        }
    }

    /// Whether strings may stand in single quotes.
    pub(super) const fn single_quotes(self) -> bool {
        matches!(self, Self::JavaScript | Self::Python | Self::Ruby | Self::Php | Self::Other)
    }

    fn of(extension: &str) -> Self {
        LANGUAGES.iter().find(|(ext, _)| *ext == extension).map_or(Self::Other, |(_, language)| *language)
    }

    fn comments(self) -> &'static [&'static str] {
        match self {
            Self::Python | Self::Ruby | Self::Elixir => &["#"],
            Self::Sql => &["--"],
            Self::Other => &["#", "//", "--", "<!--", ";"],
            _ => &["//", "/*", "* ", "*/"],
        }
    }
}

const GENERATED_FOLDERS: &[&str] = &[
    "vendor",
    "node_modules",
    "third_party",
    "thirdparty",
    "dist",
    "generated",
    "__generated__",
    ".yarn",
    "bower_components",
    "__snapshots__",
];
const GENERATED_MARKS: &[&str] = &[
    ".min.",
    ".pb.go",
    "_pb2.py",
    "_pb2_grpc.py",
    ".generated.",
    ".gen.go",
    "_generated.go",
    ".g.dart",
    ".designer.cs",
];
const GENERATED_ENDS: &[&str] = &[".map", ".snap"];
const LOCKS: &[&str] = &[
    "cargo.lock",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "poetry.lock",
    "pipfile.lock",
    "uv.lock",
    "gemfile.lock",
    "go.sum",
    "composer.lock",
    "mix.lock",
    "packages.lock.json",
    "bun.lock",
    "bun.lockb",
    "gradle.lockfile",
    "flake.lock",
];
const MANIFESTS: &[&str] = &[
    "cargo.toml",
    "package.json",
    "pyproject.toml",
    "pipfile",
    "gemfile",
    "go.mod",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "composer.json",
    "mix.exs",
    "setup.py",
    "setup.cfg",
    "build.sbt",
];
const TEST_FOLDERS: &[&str] =
    &["test", "tests", "__tests__", "spec", "specs", "e2e", "testdata", "fixtures", "benches", "cypress", "__mocks__"];
const DOCS_FOLDERS: &[&str] = &["docs", "doc", "documentation", "adr"];
const DOCS_EXTENSIONS: &[&str] = &["md", "mdx", "rst", "adoc", "txt"];
const DOCS_NAMES: &[&str] = &["license", "licence", "notice", "authors", "changelog", "readme", "copying"];
const DEVELOPMENT_FOLDERS: &[&str] =
    &[".github", ".gitlab", ".circleci", ".vscode", ".idea", ".husky", ".devcontainer"];
const DEVELOPMENT_NAMES: &[&str] = &[
    ".gitignore",
    ".gitattributes",
    ".editorconfig",
    "codeowners",
    ".gitlab-ci.yml",
    "jenkinsfile",
    "rustfmt.toml",
    ".clippy.toml",
    "clippy.toml",
    ".prettierrc",
    ".eslintrc.json",
    ".eslintrc.js",
    "deny.toml",
    ".dockerignore",
    "makefile",
    "justfile",
    "rust-toolchain.toml",
    "tsconfig.json",
];
const CONFIG_EXTENSIONS: &[&str] =
    &["yaml", "yml", "toml", "ini", "env", "properties", "conf", "cfg", "json", "tf", "hcl", "xml", "tfvars"];
const MIGRATION_FOLDERS: &[&str] =
    &["migrations", "migration", "migrate", "flyway", "liquibase", "changelog", "changelogs", "changesets"];
const MIGRATION_EXTENSIONS: &[&str] = &[
    "sql", "rs", "js", "ts", "cjs", "mjs", "py", "rb", "go", "php", "ex", "exs", "cs", "java", "kt", "xml", "yaml",
    "yml", "json",
];

/// The part a file plays.
pub(super) fn role(path: &str) -> Role {
    let lower = path.to_ascii_lowercase();
    let (folders, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
    let within = |known: &[&str]| folders.split('/').any(|folder| known.contains(&folder));
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    if within(GENERATED_FOLDERS)
        || GENERATED_MARKS.iter().any(|mark| name.contains(mark))
        || GENERATED_ENDS.iter().any(|end| name.ends_with(end))
    {
        return Role::Generated;
    }
    if LOCKS.contains(&name) {
        return Role::Lock;
    }
    if is_test(name, stem, extension, within(TEST_FOLDERS)) {
        return Role::Test;
    }
    if MANIFESTS.contains(&name) || extension == "csproj" || (name.starts_with("requirements") && extension == "txt") {
        return Role::Manifest;
    }
    if DOCS_EXTENSIONS.contains(&extension) || DOCS_NAMES.contains(&stem) || within(DOCS_FOLDERS) {
        return Role::Docs;
    }
    if within(DEVELOPMENT_FOLDERS) || DEVELOPMENT_NAMES.contains(&name) {
        return Role::Development;
    }
    let alembic = folders.split('/').any(|f| f == "alembic") && folders.ends_with("versions");
    if MIGRATION_EXTENSIONS.contains(&extension) && (within(MIGRATION_FOLDERS) || alembic || is_flyway(name)) {
        return Role::Migration;
    }
    if Language::of(extension) != Language::Other {
        return Role::Code;
    }
    if CONFIG_EXTENSIONS.contains(&extension) || name.starts_with(".env") || name.starts_with("dockerfile") {
        return Role::Config;
    }
    Role::Asset
}

fn is_test(name: &str, stem: &str, extension: &str, in_test_folder: bool) -> bool {
    // A folder `spec` may hold the description of an interface, which ships.
    let data = matches!(extension, "yaml" | "yml" | "proto" | "graphql");
    (in_test_folder && !data)
        || name.contains(".test.")
        || name.contains(".spec.")
        || stem.ends_with("_test")
        || stem.ends_with("_spec")
        || (extension == "py" && (stem.starts_with("test_") || stem == "conftest"))
        || (matches!(extension, "java" | "kt" | "cs" | "scala") && (stem.ends_with("test") || stem.ends_with("tests")))
}

/// `V12__add_users.sql`, as Flyway names its files.
fn is_flyway(name: &str) -> bool {
    name.ends_with(".sql")
        && (name.starts_with("r__")
            || name
                .strip_prefix(['v', 'u'])
                .and_then(|rest| rest.split_once("__"))
                .is_some_and(|(version, _)| version.starts_with(|c: char| c.is_ascii_digit())))
}

/// A line as the signals read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Whether it came, went or stands around.
    pub(super) kind: LineKind,
    /// Its number in the file.
    pub(super) number: u32,
    /// Its text, cut.
    pub(super) text: &'a str,
    /// Which hunk it is in, from 0.
    pub(super) hunk: u32,
    /// Whether it is a comment.
    pub(super) comment: bool,
    /// Whether it belongs to tests inside the file.
    pub(super) test: bool,
    /// Which pairs of letters are in it.
    pairs: Pairs,
}

impl<'a> Row<'a> {
    /// A line as it stands in the diff.
    pub(super) fn new(kind: LineKind, number: u32, text: &'a str) -> Self {
        let text = cut(text);
        Self { kind, number, text, hunk: 0, comment: false, test: false, pairs: Pairs::of(text) }
    }

    /// Whether this is in it, letter for letter.
    pub(super) fn has(&self, text: &str) -> bool {
        self.pairs.may_have(text) && self.text.contains(text)
    }

    /// Whether this word in lower case is in it, in any case.
    pub(super) fn speaks_of(&self, word: &str) -> bool {
        self.pairs.may_have(word) && self.text.to_ascii_lowercase().contains(word)
    }

    /// Whether it may have a string in it.
    pub(super) fn has_quote(&self) -> bool {
        self.text.bytes().any(|b| matches!(b, b'"' | b'\'' | b'`'))
    }

    /// Whether it came or went, and is code.
    pub(super) fn changed(&self) -> bool {
        self.kind != LineKind::Context && self.speaks()
    }

    /// Whether it came, and is code.
    pub(super) fn added(&self) -> bool {
        self.kind == LineKind::Added && self.speaks()
    }

    /// Whether it is code: no comment, not blank, no test.
    pub(super) fn speaks(&self) -> bool {
        !self.comment && !self.test && !self.text.trim().is_empty()
    }
}

/// One file of the diff.
#[derive(Clone, Debug)]
pub(super) struct Source<'a> {
    /// Its path.
    pub(super) path: &'a str,
    /// The part it plays.
    pub(super) role: Role,
    /// Its language.
    pub(super) language: Language,
    /// Its lines.
    pub(super) rows: Vec<Row<'a>>,
}

impl<'a> Source<'a> {
    /// Reads at most `lines_max` lines of a file.
    pub(super) fn read(file: &'a FileDiff, lines_max: usize) -> Self {
        let extension = file.path.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
        let language = Language::of(&extension);
        let role = role(&file.path);
        let mut rows = Vec::new();
        // Nobody reads the lines of what nobody wrote here.
        let lines_max = if role == Role::Generated { 0 } else { lines_max };
        let (mut hunk, mut previous, mut test) = (0, None, false);
        for line in file.lines.iter().take(lines_max) {
            let row = Row::new(line.kind, line.number, &line.text);
            let trimmed = row.text.trim_start();
            if line.kind != LineKind::Removed {
                if previous.is_some_and(|before: u32| line.number != before.saturating_add(1)) {
                    hunk += 1;
                }
                previous = Some(line.number);
            }
            test |= language == Language::Rust && (trimmed.starts_with("#[cfg(test)") || is_tests_module(trimmed));
            let comment = language.comments().iter().any(|mark| trimmed.starts_with(mark)) || trimmed == "*";
            rows.push(Row { hunk, comment, test, ..row });
        }
        Self { path: &file.path, role, language, rows }
    }

    /// A line of this file by which a check may be shown to rest on it.
    pub(super) fn line(&self, row: &Row<'_>) -> DiffLine {
        DiffLine { path: self.path.to_owned(), line: row.number }
    }
}

fn is_tests_module(trimmed: &str) -> bool {
    trimmed.strip_prefix("mod ").is_some_and(|rest| first_word(rest).0 == "tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_the_part_a_file_plays() {
        for (path, expected) in [
            ("src/routes/checkout.rs", Role::Code),
            ("migrations/0007_drop.sql", Role::Migration),
            ("db/migrate/20240101_add_users.rb", Role::Migration),
            ("alembic/versions/ab12_users.py", Role::Migration),
            ("sql/V12__users.sql", Role::Migration),
            ("queries/users.sql", Role::Code),
            ("Cargo.toml", Role::Manifest),
            ("api/requirements-dev.txt", Role::Manifest),
            ("web/package-lock.json", Role::Lock),
            ("deploy/values.yaml", Role::Config),
            (".env.production", Role::Config),
            ("tests/checkout.rs", Role::Test),
            ("cart/cart_test.go", Role::Test),
            ("src/cart.spec.ts", Role::Test),
            ("README.md", Role::Docs),
            ("docs/conf.py", Role::Docs),
            (".github/workflows/ci.yml", Role::Development),
            ("vendor/github.com/x/y.go", Role::Generated),
            ("static/app.min.js", Role::Generated),
            ("api/v1/cart.pb.go", Role::Generated),
            ("logo.png", Role::Asset),
            ("", Role::Asset),
        ] {
            assert_eq!(role(path), expected, "{path}");
        }
    }
}
