//! How a layout is written down.

/// A struct: its fields in order, and the tagged fields that the codec crate decodes.
pub(super) struct Struct {
    pub(super) fields: &'static [Field],
    pub(super) tags: &'static [Tag],
}

/// One field, and the versions that have it.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    from: i16,
    to: i16,
}

/// One tagged field.
pub(super) struct Tag {
    pub(super) tag: u32,
    pub(super) field: Field,
}

/// What a field holds. `null_from`: the first version in which it may be null, [`NEVER`] for none.
pub(super) enum Kind {
    /// So many bytes: numbers, booleans, ids.
    Fixed(usize),
    /// A string.
    Text { null_from: i16 },
    /// Record bytes; nullable in every version.
    Bytes,
    /// An array of structs.
    Array { of: &'static Struct, null_from: i16 },
    /// An array of plain values.
    Values { of: &'static Kind, null_from: i16 },
    /// A struct by itself.
    Struct(&'static Struct),
}

pub(super) const NEVER: i16 = i16::MAX;

/// A field of every version.
pub(super) const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, from: 0, to: i16::MAX }
}

/// A string that is never null.
pub(super) const TEXT: Kind = Kind::Text { null_from: NEVER };
/// A string that may be null.
pub(super) const NULLABLE_TEXT: Kind = Kind::Text { null_from: 0 };
/// A boolean or a number of one byte.
pub(super) const I8: Kind = Kind::Fixed(1);
/// A number of two bytes.
pub(super) const I16: Kind = Kind::Fixed(2);
/// A number of four bytes.
pub(super) const I32: Kind = Kind::Fixed(4);
/// A number of eight bytes.
pub(super) const I64: Kind = Kind::Fixed(8);
/// A 128-bit id.
pub(super) const UUID: Kind = Kind::Fixed(16);

/// An array of structs that is never null.
pub(super) const fn array(of: &'static Struct) -> Kind {
    Kind::Array { of, null_from: NEVER }
}

/// An array of plain values that is never null.
pub(super) const fn values(of: &'static Kind) -> Kind {
    Kind::Values { of, null_from: NEVER }
}

impl Struct {
    /// A struct without tagged fields that we know.
    pub(super) const fn of(fields: &'static [Field]) -> Struct {
        Struct { fields, tags: &[] }
    }

    /// The fewest bytes in which one can be written.
    pub(super) fn min_len(&self, version: i16, flexible: bool) -> usize {
        let fields: usize = self
            .fields
            .iter()
            .filter(|field| field.is_in(version))
            .map(|field| field.kind.min_len(version, flexible))
            .sum();
        fields + usize::from(flexible)
    }
}

impl Field {
    /// From this version on.
    pub(super) const fn from(self, version: i16) -> Field {
        // Written out: a const fn cannot drop what `..self` leaves.
        let Field { name, kind, to, .. } = self;
        Field { name, kind, from: version, to }
    }

    /// Up to this version.
    pub(super) const fn to(self, version: i16) -> Field {
        let Field { name, kind, from, .. } = self;
        Field { name, kind, from, to: version }
    }

    pub(super) fn is_in(&self, version: i16) -> bool {
        (self.from..=self.to).contains(&version)
    }
}

impl Kind {
    /// The fewest bytes in which one can be written.
    pub(super) fn min_len(&self, version: i16, flexible: bool) -> usize {
        match self {
            Kind::Fixed(len) => *len,
            Kind::Text { .. } => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Kind::Bytes | Kind::Array { .. } | Kind::Values { .. } => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Kind::Struct(of) => of.min_len(version, flexible),
        }
    }
}
