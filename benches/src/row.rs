//! One row of the table: what was measured, against what, the ratio, and the bound it has to meet.

use std::borrow::Cow;

/// Which way is better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    /// The ratio should be at least the bound.
    Higher,
    /// The ratio should be at most the bound.
    Lower,
}

/// A measured ratio and its bounds.
///
/// ```
/// use highwater_benches::row::{Better, Row};
/// let row = Row { number: "1", what: "append".into(), against: "pwrite", ratio: 1.2, better: Better::Higher, must: 0.9, aim: 1.3 };
/// assert!(row.meets_must() && !row.meets_aim());
/// ```
#[derive(Clone, Debug)]
pub struct Row {
    /// Number in the table.
    pub number: &'static str,
    /// What was measured, with its durability.
    pub what: Cow<'static, str>,
    /// The raw control.
    pub against: &'static str,
    /// Engine divided by control.
    pub ratio: f64,
    /// Which way is better.
    pub better: Better,
    /// The bound that gates a release.
    pub must: f64,
    /// The target.
    pub aim: f64,
}

impl Row {
    /// Whether the ratio meets the release bound.
    pub fn meets_must(&self) -> bool {
        self.meets(self.must)
    }

    /// Whether the ratio meets the target.
    pub fn meets_aim(&self) -> bool {
        self.meets(self.aim)
    }

    fn meets(&self, bound: f64) -> bool {
        match self.better {
            Better::Higher => self.ratio >= bound,
            Better::Lower => self.ratio <= bound,
        }
    }

    /// The row as one line of a Markdown table.
    pub fn line(&self) -> String {
        let sign = match self.better {
            Better::Higher => ">=",
            Better::Lower => "<=",
        };
        let verdict = match (self.meets_must(), self.meets_aim()) {
            (_, true) => "meets aim",
            (true, false) => "meets must",
            (false, false) => "MISSES must",
        };
        format!(
            "| {} | {} | {} | **{:.2}** | {sign} {:.2} | {sign} {:.2} | {verdict} |",
            self.number, self.what, self.against, self.ratio, self.must, self.aim
        )
    }
}

/// The median of some figures. Panics if there are none.
///
/// ```
/// assert_eq!(highwater_benches::row::median(vec![3.0, 1.0, 2.0]), 2.0);
/// ```
pub fn median(mut figures: Vec<f64>) -> f64 {
    assert!(!figures.is_empty(), "the median of nothing");
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
