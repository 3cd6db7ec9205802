//! What a power cut leaves of a disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_base::Prng;

use crate::disk::SimDisk;
use crate::effect::Effect;
use crate::file::{Change, What};

/// Which of the unsynced changes survive.
///
/// ```
/// use highwater_sim::Loss;
/// assert!(Loss::POWER_CUTS.len() >= 5);
/// assert!(!Loss::POWER_CUTS.contains(&Loss::Kill));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Loss {
    /// Only the process dies. What completed stays visible, and no more durable than it was; what was in flight
    /// is done, undone or partly done.
    Kill,
    /// Everything unsynced is lost.
    Unsynced,
    /// Nothing is lost, not even what was in flight.
    Nothing,
    /// Each 512-byte sector, each length and each name by the toss of a coin.
    RandomSectors,
    /// Later changes are there, earlier ones are not.
    EarlierWrites,
    /// Everything of some files and nothing of the others; each name by the toss of a coin.
    SomeFiles,
    /// Lengths and names are there and the data is not: zeros.
    Data,
    /// The data is there, lengths and names are not.
    LengthsAndNames,
    /// All is there, but the last write, or another one, is torn: only its front, its back or its middle landed.
    TornWrite,
}

impl Loss {
    /// Every kind that is a power cut.
    pub const POWER_CUTS: [Loss; 8] = [
        Loss::Unsynced,
        Loss::Nothing,
        Loss::RandomSectors,
        Loss::EarlierWrites,
        Loss::SomeFiles,
        Loss::Data,
        Loss::LengthsAndNames,
        Loss::TornWrite,
    ];
}

impl SimDisk {
    /// The disk as the next start finds it. The same policy and seed give the same disk.
    #[must_use]
    pub fn power_cut(&self, loss: Loss, seed: u64) -> SimDisk {
        let mut prng = Prng::new(seed);
        let mut disk = self.clone();
        let completed = disk.seq;
        disk.land_what_was_in_flight(loss, &mut prng);
        if loss == Loss::Kill {
            return disk;
        }
        let mut judge = Judge::new(&disk, loss, completed, prng);
        let files = disk.files.iter();
        let files: BTreeMap<_, _> = files
            .map(|(node, file)| {
                judge.file(*node);
                (*node, Arc::new(file.after_power_cut(&mut |change, sector| judge.keeps(change, sector))))
            })
            .collect();
        disk.names = disk.names.after_power_cut(&mut |change| judge.keeps_name(change.seq));
        disk.files = files;
        let names = &disk.names;
        disk.files.retain(|node, _| names.leads_to(*node));
        disk
    }

    fn land_what_was_in_flight(&mut self, loss: Loss, prng: &mut Prng) {
        let mut effects: Vec<Effect> = std::mem::take(&mut self.in_flight).into_values().collect();
        while !effects.is_empty() {
            let effect = effects.swap_remove(prng.below(effects.len() as u64) as usize);
            // Nobody was told that it is durable.
            let effect = match effect {
                Effect::Write { file, at, data, .. } => Effect::Write { file, at, data, durable: false },
                other => other,
            };
            match loss {
                Loss::Unsynced => {}
                Loss::Kill if prng.one_in(2) => self.apply_partly(&effect, prng),
                _ => {
                    // What cannot be done any more was not done.
                    let _ = self.apply(&effect);
                }
            }
        }
    }
}

/// Decides change by change.
struct Judge {
    loss: Loss,
    prng: Prng,
    /// Of [`Loss::EarlierWrites`]: changes after this one survive.
    threshold: u64,
    /// Of [`Loss::SomeFiles`]: whether this file's changes survive.
    whole_file: bool,
    /// Of [`Loss::TornWrite`]: the change, and the sectors of it that landed.
    torn: Option<(u64, std::ops::Range<usize>)>,
}

impl Judge {
    fn new(disk: &SimDisk, loss: Loss, completed: u64, mut prng: Prng) -> Judge {
        let mut changes: Vec<(u64, usize)> = Vec::new();
        for change in disk.files.values().flat_map(|file| file.pending()).filter(|change| !change.sure) {
            let sectors = match &change.what {
                What::Sectors { bytes, .. } => bytes.len() / 512,
                What::Extend(_) | What::SetLen(_) => 0,
            };
            changes.push((change.seq, sectors));
        }
        changes.extend(disk.names.pending().iter().map(|change| (change.seq, 0)));
        changes.sort_unstable();
        let threshold = match changes.len() as u64 {
            0 => completed,
            n => changes[prng.below(n) as usize].0,
        };
        let writes: Vec<&(u64, usize)> = changes.iter().filter(|(_, sectors)| *sectors > 0).collect();
        let torn = (!writes.is_empty()).then(|| {
            let last = writes.len() - 1;
            let index = if prng.one_in(2) { last } else { prng.below(writes.len() as u64) as usize };
            let (seq, sectors) = *writes[index];
            let (a, b) = (prng.below(sectors as u64 + 1) as usize, prng.below(sectors as u64 + 1) as usize);
            let landed = match prng.below(3) {
                0 => 0..a,
                1 => a..sectors,
                _ => a.min(b)..a.max(b),
            };
            (seq, landed)
        });
        Judge { loss, prng, threshold, whole_file: false, torn }
    }

    fn file(&mut self, _node: u64) {
        self.whole_file = self.prng.one_in(2);
    }

    fn keeps(&mut self, change: &Change, sector: usize) -> bool {
        let data = matches!(change.what, What::Sectors { .. });
        match self.loss {
            Loss::Unsynced => false,
            Loss::Kill | Loss::Nothing => true,
            Loss::RandomSectors => self.prng.one_in(2),
            Loss::EarlierWrites => change.seq > self.threshold,
            Loss::SomeFiles => self.whole_file,
            Loss::Data => !data,
            Loss::LengthsAndNames => data,
            Loss::TornWrite => match &self.torn {
                Some((seq, landed)) if *seq == change.seq && data => landed.contains(&sector),
                _ => true,
            },
        }
    }

    fn keeps_name(&mut self, seq: u64) -> bool {
        match self.loss {
            Loss::Unsynced | Loss::LengthsAndNames => false,
            Loss::Kill | Loss::Nothing | Loss::Data | Loss::TornWrite => true,
            Loss::RandomSectors | Loss::SomeFiles => self.prng.one_in(2),
            Loss::EarlierWrites => seq > self.threshold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Applied;
    use highwater_io::{OpenHow, Slice};

    /// `/f`: 8 sectors of 1 synced, then each sector rewritten by 2; `/new`: unsynced.
    fn disk() -> SimDisk {
        let mut disk = SimDisk::new();
        disk.put("/f", &[1; 8 * 512]);
        let open = |path: &str, how| Effect::Open { path: path.into(), how };
        let Ok(Applied::Opened(file)) = disk.apply(&open("/f", OpenHow::Write)) else { panic!("open") };
        for sector in 0..8 {
            let data = Slice::from(vec![2; 512]);
            disk.apply(&Effect::Write { file, at: sector * 512, data, durable: false }).unwrap();
        }
        let Ok(Applied::Opened(file)) = disk.apply(&open("/new", OpenHow::CreateNew)) else { panic!("open") };
        let data = Slice::from(vec![3; 512]);
        disk.apply(&Effect::Write { file, at: 0, data, durable: false }).unwrap();
        disk
    }

    fn sectors_of_f(loss: Loss, seed: u64) -> Vec<u8> {
        let bytes = disk().power_cut(loss, seed).contents("/f").unwrap();
        bytes.chunks(512).map(|sector| sector[0]).collect()
    }

    #[test]
    fn each_policy_loses_what_it_says() {
        assert_eq!(sectors_of_f(Loss::Unsynced, 1), [1; 8]);
        assert_eq!(sectors_of_f(Loss::Nothing, 1), [2; 8]);
        assert_eq!(sectors_of_f(Loss::Kill, 1), [2; 8]);
        assert_eq!(sectors_of_f(Loss::Data, 1), [1; 8]);
        let mixed = sectors_of_f(Loss::RandomSectors, 1);
        assert!(mixed.contains(&1) && mixed.contains(&2), "{mixed:?}");
        for seed in 0..20 {
            let later = sectors_of_f(Loss::EarlierWrites, seed);
            assert!(later.is_sorted(), "{later:?}");
            let files = sectors_of_f(Loss::SomeFiles, seed);
            assert!(files.iter().all(|s| *s == files[0]));
        }
    }

    #[test]
    fn lengths_names_and_data_are_lost_apart() {
        let new = |loss| disk().power_cut(loss, 1).contents("/new");
        assert_eq!(new(Loss::Unsynced), None);
        assert_eq!(new(Loss::LengthsAndNames), None);
        assert_eq!(new(Loss::Data), Some(vec![0; 512]));
        assert_eq!(new(Loss::Nothing), Some(vec![3; 512]));
    }

    #[test]
    fn a_killed_process_leaves_unsynced_bytes_that_a_power_cut_can_still_lose() {
        let killed = disk().power_cut(Loss::Kill, 1);
        assert_eq!(killed.contents("/new"), Some(vec![3; 512]));
        assert_eq!(killed.power_cut(Loss::Unsynced, 1).contents("/new"), None);
    }

    #[test]
    fn the_same_seed_leaves_the_same_disk() {
        for loss in Loss::POWER_CUTS {
            let (a, b) = (disk().power_cut(loss, 7), disk().power_cut(loss, 7));
            assert_eq!(a.image(), b.image());
            assert_eq!(a.unsynced(), 0);
        }
    }
}
