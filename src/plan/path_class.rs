//! What kind of file a path names, for rules, for the signals of the heuristics, for history and for a model: the one
//! reading of paths. Case does not count, and folders count wherever they stand.
//!
//! A path is a stranger's word. It decides what is looked at first and what kind a change is taken for; a rule that must hold
//! is the operator's, by globs of their own ([`super::PathRule`]).

use crate::domain::PathClass;

/// The class of a path; [`PathClass::Other`] where it says nothing.
pub fn path_class(path: &str) -> PathClass {
    match role(path) {
        Role::Code => PathClass::Code,
        Role::Migration => PathClass::Migration,
        Role::Manifest | Role::Lock => PathClass::Dependencies,
        Role::Config if is_deployment(path) => PathClass::Deployment,
        Role::Config => PathClass::Config,
        Role::Test => PathClass::Tests,
        Role::Docs => PathClass::Docs,
        Role::Model => PathClass::Model,
        Role::Development | Role::Asset if is_deployment(path) => PathClass::Deployment,
        // What a tool wrote or somebody else did still runs in the service.
        Role::Generated | Role::Vendored if Language::of(extension(path)) != Language::Other => PathClass::Code,
        Role::Generated | Role::Vendored | Role::Development | Role::Asset => PathClass::Other,
    }
}

/// Whether a file says how the service is built or deployed.
fn is_deployment(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let (folders, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    folders.split('/').any(|folder| DEPLOYMENT_FOLDERS.contains(&folder))
        || DEPLOYMENT_EXTENSIONS.contains(&extension(&lower))
        || DEPLOYMENT_NAMES.iter().any(|known| name == *known || stem == *known)
        || name.starts_with("dockerfile.")
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// What part a file plays. Decided by its path alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
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
    /// A prompt, a model or its settings.
    Model,
    /// Written by a tool, or pressed together by one: nobody wrote it.
    Generated,
    /// Somebody else's code, copied.
    Vendored,
    /// Pictures, styles and whatever else has no signal.
    Asset,
}

/// A language, by the file's extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::plan) enum Language {
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
    pub(in crate::plan) const fn name(self) -> &'static str {
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
    pub(in crate::plan) const fn single_quotes(self) -> bool {
        matches!(self, Self::JavaScript | Self::Python | Self::Ruby | Self::Php | Self::Other)
    }

    pub(in crate::plan) fn of(extension: &str) -> Self {
        LANGUAGES.iter().find(|(ext, _)| *ext == extension).map_or(Self::Other, |(_, language)| *language)
    }
}

const VENDORED_FOLDERS: &[&str] = &["vendor", "node_modules", "third_party", "thirdparty", ".yarn", "bower_components"];
const GENERATED_FOLDERS: &[&str] = &["dist", "generated", "__generated__", "__snapshots__"];
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
const PROMPT_FOLDERS: &[&str] = &["prompts", "prompt"];
const MODEL_EXTENSIONS: &[&str] =
    &["prompt", "prompty", "gguf", "onnx", "safetensors", "pt", "pth", "tflite", "keras", "modelfile"];
const DEPLOYMENT_FOLDERS: &[&str] = &[
    "deploy",
    "deployment",
    "deployments",
    "k8s",
    "kubernetes",
    "helm",
    "charts",
    "kustomize",
    "terraform",
    "infra",
    "ansible",
    "argocd",
    "workflows",
    ".circleci",
    ".buildkite",
];
const DEPLOYMENT_EXTENSIONS: &[&str] = &["tf", "hcl", "tfvars", "nomad", "service"];
const DEPLOYMENT_NAMES: &[&str] = &[
    "dockerfile",
    "containerfile",
    "docker-compose",
    "compose",
    "procfile",
    "jenkinsfile",
    "makefile",
    "justfile",
    ".gitlab-ci",
    ".dockerignore",
    "chart",
    "kustomization",
    "skaffold",
    "buildspec",
    "cloudbuild",
    "fly",
    "app",
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
pub fn role(path: &str) -> Role {
    let lower = path.to_ascii_lowercase();
    let (folders, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
    let within = |known: &[&str]| folders.split('/').any(|folder| known.contains(&folder));
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    if within(VENDORED_FOLDERS) {
        return Role::Vendored;
    }
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
    if is_model(stem, extension, within(PROMPT_FOLDERS)) {
        return Role::Model;
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

/// Prompts and models, whatever they are written in; a page of documentation that speaks of them is none.
fn is_model(stem: &str, extension: &str, in_prompt_folder: bool) -> bool {
    let text =
        matches!(extension, "md" | "txt" | "j2" | "jinja" | "tera" | "yaml" | "yml" | "json" | "toml" | "xml" | "");
    let named = |words: &[&str]| words.iter().any(|word| stem.contains(word));
    MODEL_EXTENSIONS.contains(&extension)
        || (in_prompt_folder && text)
        || (text && named(&["prompt", "modelfile"]))
        || (CONFIG_EXTENSIONS.contains(&extension)
            && (stem == "model" || named(&["model_config", "model-config", "llm"])))
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
            ("vendor/github.com/x/y.go", Role::Vendored),
            ("ui/__snapshots__/cart.snap", Role::Generated),
            ("prompts/planner.md", Role::Model),
            ("src/agent/system_prompt.txt", Role::Model),
            ("ranker/model.yaml", Role::Model),
            ("weights/ranker.onnx", Role::Model),
            ("app/models/user.rb", Role::Code),
            ("src/prompt.rs", Role::Code),
            ("docs/models.md", Role::Docs),
            ("static/app.min.js", Role::Generated),
            ("api/v1/cart.pb.go", Role::Generated),
            ("logo.png", Role::Asset),
            ("", Role::Asset),
        ] {
            assert_eq!(role(path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_tells_its_class() {
        for (path, expected) in [
            ("src/routes/checkout.rs", PathClass::Code),
            ("migrations/0007_drop.sql", PathClass::Migration),
            ("Cargo.toml", PathClass::Dependencies),
            ("web/package-lock.json", PathClass::Dependencies),
            ("config/shop.yaml", PathClass::Config),
            ("deploy/values.yaml", PathClass::Deployment),
            ("Dockerfile", PathClass::Deployment),
            ("Dockerfile.release", PathClass::Deployment),
            ("infra/main.tf", PathClass::Deployment),
            (".github/workflows/release.yml", PathClass::Deployment),
            ("docker-compose.yml", PathClass::Deployment),
            ("Procfile", PathClass::Deployment),
            ("prompts/planner.md", PathClass::Model),
            ("tests/checkout.rs", PathClass::Tests),
            ("README.md", PathClass::Docs),
            ("vendor/github.com/x/y.go", PathClass::Code),
            ("ui/__snapshots__/cart.snap", PathClass::Other),
            (".gitignore", PathClass::Other),
            ("logo.png", PathClass::Other),
            ("", PathClass::Other),
        ] {
            assert_eq!(path_class(path), expected, "{path}");
        }
    }
}
