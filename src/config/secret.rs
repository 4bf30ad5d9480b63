//! Secrets: where each is found, and that it can serve as one.
//!
//! A configuration file is copied, shown and committed, so a secret is never in it: the file names an environment
//! variable or another file. No problem and no warning repeats a secret, nor anything that might be one by mistake: not a
//! literal, not the name of a variable that looks like none, not a path.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use secrecy::{ExposeSecret, SecretString};

use super::{key::Key, reading::Reading, written};

/// Largest secret, and largest file that is read for one, in bytes.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;
/// A shorter secret can be guessed.
pub(super) const SECRET_BYTES_SHORT: usize = 16;
/// Longest name of an environment variable.
const ENV_NAME_BYTES_MAX: usize = 64;

impl Reading<'_> {
    /// A secret from where the file says, or from `default_env`; `None` where there is neither or a problem.
    pub(super) fn secret(
        &mut self,
        key: &Key,
        written: Option<&written::Secret>,
        default_env: Option<&str>,
    ) -> Option<SecretString> {
        let secret = match written.map(|written| (written.env.as_deref(), written.file.as_deref())) {
            None => self.secret_from_env(key, default_env?),
            Some((Some(name), None)) => self.secret_from_env(key, name),
            Some((None, Some(path))) => self.secret_from_file(key, path),
            Some((Some(_), Some(_))) => {
                self.problems.add(key, "names a variable and a file", "keep one of `env` and `file`");
                None
            }
            Some((None, None)) if !self.are_fine(&[key]) => None,
            Some((None, None)) => {
                self.missing(key, "{ env = \"NAME\" } or { file = \"path\" }");
                None
            }
        }?;
        if secret.expose_secret().len() < SECRET_BYTES_SHORT {
            self.warn(key, format_args!("the secret is shorter than {SECRET_BYTES_SHORT} bytes and can be guessed"));
        }
        Some(secret)
    }

    fn secret_from_env(&mut self, key: &Key, name: &str) -> Option<SecretString> {
        let legal = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > ENV_NAME_BYTES_MAX || !name.bytes().all(legal) {
            // Not repeated: somebody may have put the secret itself here.
            let fix = "write a name in capitals, digits and underscores, such as \"GITHUB_TOKEN\"";
            self.problems.add(&key.name("env"), "is no name of a variable", fix);
            return None;
        }
        let Some(value) = (self.env)(name) else {
            let what = format!("the environment variable {name} is not set");
            self.problems.add(key, what, format!("set {name}, or write {{ file = \"path\" }}"));
            return None;
        };
        self.usable(key, &value, &format!("the environment variable {name}"))
    }

    fn secret_from_file(&mut self, key: &Key, path: &Path) -> Option<SecretString> {
        let key = &key.name("file");
        match read_bounded(&self.path(path)) {
            Ok((text, others_may_read)) => {
                if others_may_read {
                    self.warn(key, "others may read this file; take their right away with chmod o-r");
                }
                self.usable(key, &text, "the file")
            }
            Err(error) => {
                let what = format!("the file cannot be read ({})", told(&error));
                self.problems.add(key, what, "name a small text file that this user may read");
                None
            }
        }
    }

    /// A file of several lines, such as a certificate and its key. It may hold a secret.
    pub(super) fn text_file(&mut self, key: &Key, path: &Path) -> Option<SecretString> {
        match read_bounded(&self.path(path)) {
            Ok((text, _)) if text.len() > SECRET_BYTES_MAX => {
                let fix = format!("name a file of at most {SECRET_BYTES_MAX} bytes");
                self.problems.add(key, "the file is too large", fix);
                None
            }
            Ok((text, others_may_read)) => {
                if others_may_read && text.contains("PRIVATE KEY") {
                    self.warn(key, "others may read this file; take their right away with chmod o-r");
                }
                Some(text.into())
            }
            Err(error) => {
                let what = format!("the file cannot be read ({})", told(&error));
                self.problems.add(key, what, "name a small text file that this user may read");
                None
            }
        }
    }

    fn usable(&mut self, key: &Key, text: &str, whence: &str) -> Option<SecretString> {
        let secret = text.trim_end_matches(['\n', '\r']);
        let wrong = if secret.is_empty() {
            "is empty"
        } else if secret.len() > SECRET_BYTES_MAX {
            "is too large"
        } else if secret.chars().any(char::is_control) || secret.trim() != secret {
            "holds several lines, or blanks around the secret"
        } else {
            return Some(SecretString::from(secret));
        };
        self.problems.add(key, format!("{whence} {wrong}"), "put the secret there, and nothing else");
        None
    }
}

/// A regular file's text, and whether others may read it.
fn read_bounded(path: &Path) -> io::Result<(String, bool)> {
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    // Two bytes more than the secret may have, for the line end; one more shows that it is too large.
    File::open(path)?.take(SECRET_BYTES_MAX as u64 + 3).read_to_string(&mut text)?;
    Ok((text, others_may_read(&about)))
}

#[cfg(unix)]
fn others_may_read(about: &std::fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o004 != 0
}

#[cfg(not(unix))]
fn others_may_read(_: &std::fs::Metadata) -> bool {
    false
}

/// What went wrong, without the path.
fn told(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "there is none",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::InvalidData => "it is no text",
        io::ErrorKind::InvalidInput => "it is no regular file",
        _ => "the system refuses",
    }
}
