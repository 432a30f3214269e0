//! Pages of lists (AIP-158).

use crate::fields::Violations;
use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};

const DEFAULT_SIZE: usize = 100;
const MAX_SIZE: usize = 1000;

/// Where a page begins and how long it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    /// What the page before ended with; `None` for the first page.
    pub(crate) after: Option<String>,
    /// Most elements.
    pub(crate) size: usize,
    arguments: u64,
}

impl Page {
    /// Reads the fields of a list request. `arguments` is everything else in the request: a token only goes with the
    /// arguments it was made for.
    pub(crate) fn read(size: i32, token: &str, arguments: &impl Hash) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(size) => size.min(MAX_SIZE),
            Err(_) => {
                violations.add("page_size", "must not be negative");
                DEFAULT_SIZE
            }
        };
        let mut hasher = SipHasher13::new();
        arguments.hash(&mut hasher);
        let arguments = hasher.finish();
        let after = match token {
            "" => None,
            token => violations.take("page_token", Self::open(token, arguments)),
        };
        violations.finish(Some(Self { after, size, arguments }))
    }

    /// The token for the page after one that ended with `last`.
    pub(crate) fn token(&self, last: &str) -> String {
        let text = format!("{:016x}{last}", self.arguments);
        text.bytes().fold(String::with_capacity(2 * text.len()), |token, byte| format!("{token}{byte:02x}"))
    }

    fn open(token: &str, arguments: u64) -> Result<String, &'static str> {
        const UNKNOWN: &str = "is not a token of this server";
        let pairs = token.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(UNKNOWN)?;
        let (hash, last) = text.split_at_checked(16).ok_or(UNKNOWN)?;
        match u64::from_str_radix(hash, 16) {
            Ok(hash) if hash == arguments => Ok(last.to_owned()),
            Ok(_) => Err("was made for a request with other arguments"),
            Err(_) => Err(UNKNOWN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn a_token_goes_only_with_its_arguments() {
        let page = Page::read(5, "", &"tenants/acme").expect("a page");
        let token = page.token("tenants/acme/graphs/web");
        let next = Page::read(7, &token, &"tenants/acme").expect("the next page");
        assert_eq!(next.after.as_deref(), Some("tenants/acme/graphs/web"));
        assert_eq!(next.size, 7);
        assert!(Page::read(5, &token, &"tenants/other").is_err());
    }

    #[test]
    fn nonsense_is_refused_and_large_pages_are_cut() {
        for token in ["zz", "0", "é", "00", "ffffffffffffffffffffffffffffffffff"] {
            assert!(Page::read(5, token, &()).is_err(), "{token}");
        }
        assert!(Page::read(-1, "", &()).is_err());
        assert_eq!(Page::read(i32::MAX, "", &()).map(|page| page.size), Ok(1000));
        assert_eq!(Page::read(0, "", &()).map(|page| page.size), Ok(100));
    }
}
