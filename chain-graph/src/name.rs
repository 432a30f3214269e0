//! Names of resources.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// Characters a name may have (RFC 1035 section 2.3.4).
pub const NAME_MAX: usize = 63;

/// A resource's name: a lower-case RFC 1035 label. 1 to 63 characters; letters, digits and hyphens; begins with a letter,
/// ends with a letter or digit. Cheap to clone.
#[derive(Clone, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceName(Arc<str>);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or longer than [`NAME_MAX`].
    #[error("name {name:?}: {length} characters, 1 to 63 are allowed")]
    Length {
        /// The text.
        name: String,
        /// Its length in characters.
        length: usize,
    },
    /// A character that is not allowed, or not at its place.
    #[error(
        "name {name:?}: lower-case letters, digits and hyphens only, beginning with a letter, ending with a letter or digit"
    )]
    Character {
        /// The text.
        name: String,
    },
    /// Not of the form `tenant/name`.
    #[error("key {key:?}: not of the form tenant/name")]
    NoTenant {
        /// The text.
        key: String,
    },
}

impl ResourceName {
    /// Checks a text.
    ///
    /// # Errors
    /// [`NameError`] if it is no RFC 1035 label in lower case.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let length = text.chars().count();
        if length == 0 || length > NAME_MAX {
            return Err(NameError::Length { name: text.to_owned(), length });
        }
        let bytes = text.as_bytes();
        let allowed = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if !allowed || !bytes[0].is_ascii_lowercase() || bytes.ends_with(b"-") {
            return Err(NameError::Character { name: text.to_owned() });
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for ResourceName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Hash for ResourceName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialOrd for ResourceName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As texts. Maps of one origin share their keys: for those the text need not be fetched.
impl Ord for ResourceName {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for ResourceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for ResourceName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl From<ResourceName> for String {
    fn from(name: ResourceName) -> Self {
        name.as_str().to_owned()
    }
}

/// Names a resource that belongs to a tenant. Its text is `tenant/name`; keys order by tenant first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey {
    /// The owner.
    pub tenant: ResourceName,
    /// The resource's name, unique among the tenant's resources of its kind.
    pub name: ResourceName,
}

impl ObjectKey {
    /// A key below all keys of the tenant; no resource has it.
    pub(crate) fn first_of(tenant: &ResourceName) -> Self {
        Self { tenant: tenant.clone(), name: ResourceName("".into()) }
    }

    /// Puts the two together.
    pub fn new(tenant: &ResourceName, name: &ResourceName) -> Self {
        Self { tenant: tenant.clone(), name: name.clone() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl FromStr for ObjectKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (tenant, name) = text.split_once('/').ok_or_else(|| NameError::NoTenant { key: text.to_owned() })?;
        Ok(Self { tenant: tenant.parse()?, name: name.parse()? })
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.to_string()
    }
}
