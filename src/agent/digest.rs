//! SHA-256 as the agent writes it: lower-case hexadecimal. Digests tell prompts, questions and changes apart.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::domain::Digest;

/// The digest of these bytes.
pub(super) fn sha256(bytes: impl AsRef<[u8]>) -> Digest {
    let mut hexadecimal = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a string does not fail.
        let _ = write!(hexadecimal, "{byte:02x}");
    }
    Digest::new(hexadecimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_published_one() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256("abc").as_str(), abc);
    }
}
