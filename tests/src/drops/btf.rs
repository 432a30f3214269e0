//! Reads the running kernel's own description of its types (BTF, `Documentation/bpf/btf.rst`): where a field lies, and the
//! names of an enum's values.

use std::collections::BTreeMap;

/// `btf_header.magic`.
const MAGIC: u16 = 0xeb9f;

/// `BTF_KIND_*`, as far as anything is asked of them.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const ENUM64: u32 = 19;
}

/// A type: where it begins in the type section, its kind and number of members.
#[derive(Debug, Clone, Copy)]
struct Type {
    at: usize,
    kind: u32,
    len: usize,
}

/// All types of the kernel.
#[derive(Debug)]
pub(super) struct Btf<'a> {
    section: &'a [u8],
    strings: &'a [u8],
    /// By number; number 0 is `void`.
    types: Vec<Type>,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl<'a> Btf<'a> {
    /// Finds all types; `None` if the bytes are not BTF of a known form.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = usize::try_from(word(bytes, 4)?).ok()?;
        if u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let section = |offset: usize, len: usize| {
            let start = header + word(bytes, offset)? as usize;
            bytes.get(start..start + word(bytes, len)? as usize)
        };
        let (section, strings) = (section(8, 12)?, section(16, 20)?);
        let mut types = vec![Type { at: 0, kind: 0, len: 0 }];
        let mut at = 0;
        while at < section.len() {
            let info = word(section, at + 4)?;
            let (kind, len) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            types.push(Type { at, kind, len });
            at += 12
                + match kind {
                    kind::INT | kind::VAR | kind::DECL_TAG => 4,
                    kind::ARRAY => 12,
                    kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * len,
                    kind::ENUM | kind::FUNC_PROTO => 8 * len,
                    _ => 0,
                };
        }
        Some(Self { section, strings, types })
    }

    fn word(&self, at: usize) -> Option<u32> {
        word(self.section, at)
    }

    fn string(&self, offset: u32) -> Option<&'a str> {
        let rest = self.strings.get(offset as usize..)?;
        std::str::from_utf8(rest.split(|byte| *byte == 0).next()?).ok()
    }

    fn find(&self, wanted: u32, name: &str) -> Option<Type> {
        let is_it =
            |found: &&Type| found.kind == wanted && self.word(found.at).and_then(|n| self.string(n)) == Some(name);
        self.types.iter().find(is_it).copied()
    }

    /// Offset in bytes of a field of a struct, by the names on the way to it; those of unnamed members are left out.
    pub(super) fn offset(&self, name: &str, fields: &[&str]) -> Option<u32> {
        let mut offset = 0;
        let mut holder = self.find(kind::STRUCT, name)?;
        for field in fields {
            let (bits, number) = self.member(holder, field)?;
            offset += bits / 8;
            holder = self.resolve(number)?;
        }
        Some(offset)
    }

    /// Offset in bits and type number of a member, also one of an unnamed struct or union.
    fn member(&self, holder: Type, name: &str) -> Option<(u32, u32)> {
        // With `kind_flag` the highest eight bits are a bit field's width.
        let has_widths = self.word(holder.at + 4)? >> 31 != 0;
        for index in 0..holder.len {
            let at = holder.at + 12 + 12 * index;
            let (member, number, offset) = (self.string(self.word(at)?)?, self.word(at + 4)?, self.word(at + 8)?);
            let offset = if has_widths { offset & 0xff_ffff } else { offset };
            if member == name {
                return Some((offset, number));
            }
            if member.is_empty()
                && let Some(inner) = self.resolve(number)
                && matches!(inner.kind, kind::STRUCT | kind::UNION)
                && let Some((bits, found)) = self.member(inner, name)
            {
                return Some((offset + bits, found));
            }
        }
        None
    }

    /// A type without its typedefs and qualifiers.
    fn resolve(&self, number: u32) -> Option<Type> {
        let mut found = *self.types.get(number as usize)?;
        while (kind::TYPEDEF..=kind::RESTRICT).contains(&found.kind) {
            found = *self.types.get(self.word(found.at + 8)? as usize)?;
        }
        Some(found)
    }

    /// Names of an enum's values.
    pub(super) fn names(&self, name: &str) -> Option<BTreeMap<u32, &'a str>> {
        let found = self.find(kind::ENUM, name)?;
        let entries = (0..found.len).map(|index| found.at + 12 + 8 * index);
        entries.map(|at| Some((self.word(at + 4)?, self.string(self.word(at)?)?))).collect()
    }
}
