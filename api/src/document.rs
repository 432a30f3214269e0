//! The serial form of resources in documents, as far as it differs from that of the messages.

use crate::v1;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Whether a field has its default value, which documents leave out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Enumerations are written in lower case, without their prefix.
macro_rules! enumeration {
    ($module:ident, $type:ty, $prefix:literal, $($word:literal)|+) => {
        pub(crate) mod $module {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(value: &i32, serializer: S) -> Result<S::Ok, S::Error> {
                let name = <$type>::try_from(*value).unwrap_or_default().as_str_name();
                serializer.serialize_str(&name.trim_start_matches($prefix).to_lowercase())
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
                let word = String::deserialize(deserializer)?;
                match word.as_str() {
                    $($word => {
                        let name = concat!($prefix, $word).to_uppercase();
                        Ok(<$type>::from_str_name(&name).unwrap_or_default().into())
                    })+
                    _ => Err(D::Error::unknown_variant(&word, &[$($word),+])),
                }
            }
        }
    };
}

enumeration!(side, v1::Side, "SIDE_", "client" | "server");
enumeration!(forwarding, v1::Forwarding, "FORWARDING_", "transparent" | "routed");
enumeration!(tuple_effect, v1::TupleEffect, "TUPLE_EFFECT_", "keeps" | "changes" | "ends");

/// `fw/v1` in documents, `networkFunctions/fw/replicaSets/v1` in messages.
pub(crate) mod replica_set {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let short = value.strip_prefix("networkFunctions/").and_then(|rest| rest.split_once("/replicaSets/"));
        match short {
            Some((function, set)) => serializer.collect_str(&format_args!("{function}/{set}")),
            None => serializer.serialize_str(value),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.split_once('/') {
            Some((function, set)) if !set.contains('/') => format!("networkFunctions/{function}/replicaSets/{set}"),
            _ => text,
        })
    }
}

/// `acme` in documents, `tenants/acme` in messages.
pub(crate) mod tenant {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.strip_prefix("tenants/").unwrap_or(value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if text.contains('/') { text } else { format!("tenants/{text}") })
    }
}
