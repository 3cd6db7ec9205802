//! What the verdict table makes of the damage in a log's segments.

use std::path::PathBuf;

use highwater_base::{Limits, Offset};
use highwater_engine::recovery::{Behind, Evidence, Place, Rest, behind, diagnose, reach};
use highwater_engine::{Checkpoint, Verdict};

use super::segment::{Segment, Walked};
use crate::{Damage, Finding};

/// What is known of a log when all its segments have been walked.
#[derive(Debug, Default)]
pub(super) struct LogFacts {
    /// The directory was stopped in order: all of it had been synced.
    clean: bool,
    /// The proven synced end.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Bytes of all segments so far.
    pub(super) log_bytes: u64,
    segments: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    base: Offset,
    /// Where it begins, counted over all segments.
    start: u64,
    sealed: bool,
    walked: Walked,
}

impl LogFacts {
    pub(super) fn new(clean: bool) -> LogFacts {
        LogFacts { clean, ..LogFacts::default() }
    }

    pub(super) fn add(&mut self, segment: &Segment<'_>, start: u64, sealed: bool, walked: &Walked) {
        let path = segment.path.to_path_buf();
        self.segments.push(Part { path, base: segment.base, start, sealed, walked: walked.clone() });
        // Space that was prepared and not used is no distance.
        self.log_bytes = start + walked.zeros_from.unwrap_or(walked.length);
    }

    /// Where the last valid batch of the log begins.
    fn last_valid(&self) -> Option<u64> {
        self.segments.iter().rev().find_map(|part| Some(part.start + part.walked.last_valid?))
    }
}

/// Adds the verdict to those findings that are about bytes of segments. What lies behind the first place where a start
/// cuts the log goes with it, and has that place's verdict.
pub(super) fn judge(facts: &LogFacts, findings: &mut [Finding]) {
    let mut judged: Vec<(u64, &mut Finding, Verdict)> = Vec::new();
    for finding in findings {
        let part = facts.segments.iter().find(|part| part.path == finding.path);
        if let (Some(part), Some(position)) = (part, finding.position) {
            let verdict = diagnose(evidence(facts, part, position, &finding.damage));
            judged.push((part.start + position, finding, verdict));
        }
    }
    judged.sort_by_key(|(at, ..)| *at);
    let mut cut = None;
    for (_, finding, verdict) in judged {
        if matches!(verdict, Verdict::Torn | Verdict::Ambiguous) {
            cut.get_or_insert(verdict);
        }
        finding.verdict = Some(if verdict == Verdict::Rot { verdict } else { cut.unwrap_or(verdict) });
    }
}

fn evidence(facts: &LogFacts, part: &Part, position: u64, damage: &Damage) -> Evidence {
    let proven = facts.clean
        || part.sealed
        || facts.checkpoint.as_ref().is_some_and(|checkpoint| {
            part.base < checkpoint.segment
                || part.base == checkpoint.segment && position < checkpoint.position.get()
        });
    let unsynced = facts.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.reach);
    let bounded = unsynced > 0;
    let unsynced = if bounded { unsynced } else { Limits::PRODUCTION.unsynced_bytes as u64 };
    let claims = &part.walked.claims;
    let bad = claims.iter().find(|(at, _)| *at == position).map_or(0, |(_, size)| *size);
    let reach = reach(unsynced, bad, part.walked.length.saturating_sub(position));
    let behind = match facts.last_valid().and_then(|last| last.checked_sub(part.start + position)) {
        None | Some(0) => Behind::Nothing,
        Some(distance) => behind(distance, reach),
    };
    let zeros = matches!(damage, Damage::Zeros { .. }) || part.walked.zeros_from == Some(position);
    Evidence {
        rest: if zeros { Rest::Zeros } else { Rest::Bytes },
        place: if proven { Place::Proven } else { Place::Unproven },
        behind,
        bounded,
    }
}
