//! Field violations, collected while a request is read.

use std::fmt::Display;

/// What is wrong with one field.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FieldViolation {
    /// Path of the field in the message.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// What is wrong with a message: every violation at once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Nothing is wrong so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add(&mut self, field: impl Into<String>, description: impl Display) {
        self.0.push(FieldViolation { field: field.into(), description: description.to_string() });
    }

    /// The value, or its error as a violation of the field.
    pub fn take<T, E: Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }

    /// The value of a message inside, its violations under the field.
    pub fn take_under<T>(&mut self, field: &str, result: Result<T, Self>) -> Option<T> {
        result.map_err(|inside| self.extend_under(field, inside)).ok()
    }

    /// The value, its violations as they are.
    pub fn take_here<T>(&mut self, result: Result<T, Self>) -> Option<T> {
        result.map_err(|inside| self.0.extend(inside.0)).ok()
    }

    /// Each element, its error as a violation of the field with its index.
    pub fn take_each<I, T, E: Display>(
        &mut self,
        field: &str,
        items: impl IntoIterator<Item = I>,
        read: impl Fn(I) -> Result<T, E>,
    ) -> Vec<T> {
        let items = items.into_iter().enumerate();
        items.filter_map(|(index, item)| self.take(&format!("{field}[{index}]"), read(item))).collect()
    }

    /// Adds those of a message inside.
    pub fn extend_under(&mut self, field: &str, inside: Self) {
        self.0.extend(inside.0.into_iter().map(|violation| FieldViolation {
            field: if violation.field.is_empty() { field.to_owned() } else { format!("{field}.{}", violation.field) },
            description: violation.description,
        }));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<FieldViolation> {
        self.0
    }

    /// The value, if nothing is wrong. A value that is absent although nothing is wrong does not occur: whoever leaves it
    /// out adds a violation.
    ///
    /// # Errors
    /// The violations.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

/// A number that must fit a smaller type.
///
/// # Errors
/// What is allowed.
pub fn narrow<T: TryFrom<u32>>(value: u32, max: u32) -> Result<T, String> {
    T::try_from(value).ok().filter(|_| value <= max).ok_or_else(|| format!("{value} is above {max}"))
}
