//! AWS Signature Version 4: proof of who asks, without the key.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use reqwest::{Url, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::super::{Error, call::malformed};
use crate::domain::{Text, Timestamp};

/// An access key. They are used as they are given: who rotates them starts anew, or gives a key that lasts.
#[derive(Clone, Debug)]
pub struct Credentials {
    access_key: SecretString,
    secret_key: SecretString,
    session_token: Option<SecretString>,
}

impl Credentials {
    /// An access key's id and secret, and the session's token where they are temporary.
    pub fn new(
        access_key: impl Into<SecretString>,
        secret_key: SecretString,
        session_token: Option<SecretString>,
    ) -> Self {
        Self { access_key: access_key.into(), secret_key, session_token }
    }

    /// What must not be shown.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        self.session_token.iter().chain([&self.secret_key]).cloned().collect()
    }

    /// Whether they can stand in headers.
    pub(super) fn are_plain(&self) -> bool {
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain(self.access_key.expose_secret())
            && self.secrets().iter().all(|secret| is_plain(secret.expose_secret()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Result<Vec<u8>, Error> {
    let failed = |_| Error::Config(Text::new("cloudwatch: the secret key cannot be used"));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(failed)?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

/// The headers that sign a POST of this body to this address.
pub(super) fn headers(
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: Timestamp,
    url: &Url,
    others: &[(&str, &str)],
    body: &str,
) -> Result<Vec<(&'static str, HeaderValue)>, Error> {
    let time = amz_date(now)?;
    let day = time.get(..8).unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = format!("{}{port}", url.host_str().unwrap_or_default());
    let mut signed: BTreeMap<&str, &str> = others.iter().copied().collect();
    signed.insert("host", &host);
    signed.insert("x-amz-date", &time);
    let token = credentials.session_token.as_ref().map(ExposeSecret::expose_secret);
    if let Some(token) = token {
        signed.insert("x-amz-security-token", token);
    }
    let names = signed.keys().copied().collect::<Vec<_>>().join(";");
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let digest = hex(&Sha256::digest(body));
    let canonical = format!("POST\n{}\n\n{lines}\n{names}\n{digest}", url.path());
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(&canonical)));
    let mut key = mac(format!("AWS4{}", credentials.secret_key.expose_secret()).as_bytes(), day)?;
    for part in [region, service, "aws4_request"] {
        key = mac(&key, part)?;
    }
    let signature = hex(&mac(&key, &to_sign)?);
    let access_key = credentials.access_key.expose_secret();
    let proof =
        format!("AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}");
    let mut headers = vec![("authorization", proof), ("x-amz-date", time.clone())];
    headers.extend(token.map(|token| ("x-amz-security-token", token.to_owned())));
    let header = |(name, value): (&'static str, String)| {
        let mut value = HeaderValue::from_str(&value).map_err(|_| malformed("a header cannot be written"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    headers.into_iter().map(header).collect()
}

/// The time as AWS writes it.
fn amz_date(now: Timestamp) -> Result<String, Error> {
    let text = now.to_string();
    match (text.get(..19), text.get(19..20)) {
        (Some(seconds), Some(".")) => Ok(format!("{}Z", seconds.replace(['-', ':'], ""))),
        (_, _) => Err(malformed("the clock shows no time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS's own test suite: `post-vanilla` and `post-x-www-form-urlencoded`, of 2015-08-30, with its example key.
    #[test]
    fn signatures_are_those_of_the_published_test_suite() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIDEXAMPLE", secret.into(), None);
        let now = Timestamp::from_millis(1_440_938_160_000);
        let url = Url::parse("https://example.amazonaws.com/").unwrap();
        let signature = |others: &[(&str, &str)], body: &str| {
            let headers = headers(&credentials, "us-east-1", "service", now, &url, others, body).unwrap();
            assert_eq!(headers[1], ("x-amz-date", HeaderValue::from_static("20150830T123600Z")));
            headers[0].1.to_str().unwrap().rsplit_once("Signature=").unwrap().1.to_owned()
        };
        assert_eq!(signature(&[], ""), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
        let form = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(
            signature(&form, "Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
        assert!(!format!("{credentials:?}").contains(secret));
    }

    #[test]
    fn a_key_that_cannot_stand_in_a_header_is_seen() {
        assert!(Credentials::new("AKID", "s+/=".into(), Some("token".into())).are_plain());
        assert!(!Credentials::new("AK\nID", "s".into(), None).are_plain());
        assert!(!Credentials::new("AKID", "s".into(), Some("to ken".into())).are_plain());
    }
}
