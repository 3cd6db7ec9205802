//! What is there, and what `verify --deep` says of it, partition by partition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_base::Offset;
use highwater_engine::batch::Batch;
use highwater_engine::layout::{FileKind, FileName, PartitionDir, PartitionRole};
use highwater_engine::recovery::{Triage, triage};

use crate::files::Files;
use crate::place::{self, Place, file_name};
use crate::source::{Access, Source};
use crate::verify::verify_deep;
use crate::walk::{Step, Walk};
use crate::{Finding, InspectError};

/// All that the plan for one partition depends on.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) dir: PathBuf,
    /// Every file's name.
    pub(super) names: Vec<String>,
    pub(super) triage: Triage,
    /// Where the replacements that wait for their names end.
    pub(super) swaps_end: Offset,
    /// Segments by base, with their files' lengths.
    pub(super) segments: BTreeMap<Offset, u64>,
    pub(super) findings: Vec<Finding>,
    /// Seals that bind nothing any more.
    pub(super) void_seals: Vec<PathBuf>,
}

/// Looks at every partition; findings about no partition go to `left`.
pub(super) fn survey(path: &Path, left: &mut Vec<Finding>) -> Result<Vec<Facts>, InspectError> {
    let mut files = Files::new()?;
    let dirs = match place::place(&mut files, path)? {
        Place::Partition => vec![path.to_path_buf()],
        _ => {
            let in_use = |name: &str| {
                let role = PartitionDir::parse(name).map(|dir| dir.role);
                matches!(role, Some(PartitionRole::Current | PartitionRole::Future))
            };
            let entries = files.list(path)?.into_iter();
            entries.filter(|entry| entry.is_dir && in_use(&entry.name)).map(|entry| entry.path).collect()
        }
    };
    let report = verify_deep(path)?;
    let mut all = Vec::new();
    for dir in &dirs {
        let entries: Vec<_> = files.list(dir)?.into_iter().filter(|entry| !entry.is_dir).collect();
        let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        let triage = triage(names.iter().map(String::as_str));
        let is_segment = |name: &str| {
            FileName::parse(name).filter(|name| *name == FileName::live(FileKind::Log, name.offset))
        };
        let segments =
            entries.iter().filter_map(|entry| Some((is_segment(&entry.name)?.offset, entry.len))).collect();
        let mut swaps_end = Offset::NONE;
        for swap in triage.swaps.iter().filter(|swap| swap.kind == FileKind::Log) {
            let end = end_of(&mut files, &dir.join(swap.to_string()), swap.offset)?;
            swaps_end = swaps_end.max(end);
        }
        let here = |path: &Path| path.parent() == Some(dir);
        all.push(Facts {
            dir: dir.clone(),
            names,
            triage,
            swaps_end,
            segments,
            findings: report.findings.iter().filter(|finding| here(&finding.path)).cloned().collect(),
            void_seals: report.void_seals.iter().filter(|path| here(path)).cloned().collect(),
        });
    }
    let elsewhere = |finding: &&Finding| !dirs.iter().any(|dir| finding.path.parent() == Some(dir));
    left.extend(report.findings.iter().filter(elsewhere).cloned());
    debug_assert!(all.iter().all(|facts: &Facts| !file_name(&facts.dir).is_empty()));
    Ok(all)
}

/// The offset after the last batch of a file.
fn end_of(files: &mut Files, path: &Path, base: Offset) -> Result<Offset, InspectError> {
    let mut source = Source::open(files, path, Access::Read)?;
    let mut walk = Walk::new(&source, base, false);
    let mut end = base;
    while let Some(Step::Batch { position, size }) = walk.next(&mut source) {
        match Batch::at(source.at(position, size), 0) {
            Ok(Some(batch)) if batch.crc_matches() => end = end.max(batch.last_offset().plus(1)),
            _ => break,
        }
    }
    Ok(end)
}
