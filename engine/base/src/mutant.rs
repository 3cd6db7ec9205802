//! Rules weakened on purpose, to prove that a test can fail.

/// An old or missing rule that a test switches on to see itself fail. Production code passes
/// [`Mutant::None`]; nothing outside tests reads `HIGHWATER_MUTANT`.
///
/// ```
/// use highwater_base::Mutant;
/// assert_eq!(Mutant::named("no_sync"), Some(Mutant::NoSync));
/// assert_eq!(Mutant::default(), Mutant::None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Mutant {
    /// Every rule holds.
    #[default]
    None,
    /// Syncs are claimed, not done.
    NoSync,
    /// A batch's checksum is not compared.
    NoCrc,
}

impl Mutant {
    /// The mutant with this name, or none.
    pub fn named(name: &str) -> Option<Mutant> {
        match name {
            "" | "none" => Some(Mutant::None),
            "no_sync" => Some(Mutant::NoSync),
            "no_crc" => Some(Mutant::NoCrc),
            _ => None,
        }
    }
}
