//! The set of replicas in sync: what is committed, and what is in flight.

use highwater_base::BrokerId;

/// The ISR as its leader sees it. At most one change is in flight.
///
/// ```
/// use highwater_base::BrokerId;
/// use highwater_isr::Isr;
/// let ids = |list: &[i32]| list.iter().copied().map(BrokerId::new).collect::<Vec<_>>();
/// let isr = Isr::PendingExpand { committed: ids(&[1, 2]), adding: BrokerId::new(3) };
/// assert_eq!(isr.committed(), ids(&[1, 2]));
/// assert_eq!(isr.maximal(), ids(&[1, 2, 3]));
/// let isr = Isr::PendingShrink { committed: ids(&[1, 2]), removing: ids(&[2]) };
/// assert_eq!(isr.maximal(), ids(&[1, 2])); // 2 counts until it is out
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Isr {
    /// As the authority has it.
    Stable {
        /// The members.
        committed: Vec<BrokerId>,
    },
    /// One more was proposed. It may be in already, so it counts already (KIP-497).
    PendingExpand {
        /// The members.
        committed: Vec<BrokerId>,
        /// The one to come.
        adding: BrokerId,
    },
    /// Fewer were proposed. They may still be in, so they still count.
    PendingShrink {
        /// The members.
        committed: Vec<BrokerId>,
        /// Those to go.
        removing: Vec<BrokerId>,
    },
}

impl Isr {
    /// The members that the authority has acknowledged.
    pub fn committed(&self) -> &[BrokerId] {
        match self {
            Isr::Stable { committed }
            | Isr::PendingExpand { committed, .. }
            | Isr::PendingShrink { committed, .. } => committed,
        }
    }

    /// Every replica that may be a member: the high watermark counts all of these.
    pub fn maximal(&self) -> Vec<BrokerId> {
        let mut all = self.committed().to_vec();
        if let Isr::PendingExpand { adding, .. } = self {
            all.push(*adding);
        }
        all
    }

    /// Whether this replica is in the maximal set.
    pub fn may_hold(&self, id: BrokerId) -> bool {
        self.committed().contains(&id) || matches!(self, Isr::PendingExpand { adding, .. } if *adding == id)
    }

    /// Whether a change is in flight.
    pub fn is_pending(&self) -> bool {
        !matches!(self, Isr::Stable { .. })
    }

    /// What was proposed, or is so.
    pub fn proposed(&self) -> Vec<BrokerId> {
        match self {
            Isr::Stable { committed } => committed.clone(),
            Isr::PendingExpand { .. } => self.maximal(),
            Isr::PendingShrink { committed, removing } => {
                committed.iter().copied().filter(|id| !removing.contains(id)).collect()
            }
        }
    }

    /// The authority has said what the members are.
    pub(crate) fn become_stable(&mut self, committed: Vec<BrokerId>) {
        *self = Isr::Stable { committed };
    }
}
