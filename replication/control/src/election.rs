//! Who leads. Pure: a partition's record and what is known of the brokers go in, the next record comes out.

use highwater_base::BrokerId;

use crate::{LeaderRecovery, PartitionState};

/// What an election may look at besides the partition's record.
pub(crate) struct Voters<'a> {
    /// Whether a broker is registered, unfenced and not shutting down.
    pub(crate) acceptable: &'a dyn Fn(BrokerId) -> bool,
    /// Whether a broker serves at all: acceptable, or shutting down.
    pub(crate) serving: &'a dyn Fn(BrokerId) -> bool,
    /// `unclean.leader.election.enable`.
    pub(crate) unclean_allowed: bool,
    /// `min.insync.replicas`, not yet bounded by the number of replicas.
    pub(crate) min_insync: usize,
}

/// Who was elected, and what it costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Elected {
    /// A member of the ISR, which therefore holds everything committed.
    InSync(BrokerId),
    /// A member of the ELR, likewise; it starts with itself as ISR.
    Eligible(BrokerId),
    /// A replica that may lack committed records.
    Unclean(BrokerId),
    /// Nobody can lead.
    Nobody,
}

/// Kafka's order (KIP-966): the present leader if it is still valid; the first valid replica; the present leader
/// although it is shutting down, if it is in sync; a member of the ELR; with ISR and ELR both empty the last known leader; with leave for an unclean election the first acceptable replica.
pub(crate) fn elect(partition: &PartitionState, voters: &Voters<'_>) -> Elected {
    let acceptable = voters.acceptable;
    let in_sync = |id: &BrokerId| partition.isr.contains(id) && acceptable(*id);
    let eligible = |id: &BrokerId| partition.isr.is_empty() && partition.elr.contains(id) && acceptable(*id);
    if in_sync(&partition.leader) {
        return Elected::InSync(partition.leader);
    }
    if let Some(id) = partition.replicas.iter().find(|id| in_sync(id)) {
        return Elected::InSync(*id);
    }
    // Nobody else can lead, so a leader that is about to stop serves to the end.
    if partition.isr.contains(&partition.leader) && (voters.serving)(partition.leader) {
        return Elected::InSync(partition.leader);
    }
    if let Some(id) = partition.replicas.iter().find(|id| eligible(id)) {
        return Elected::Eligible(*id);
    }
    let last = partition.last_known_leader;
    let nobody_in_sync = partition.isr.is_empty() && partition.elr.is_empty();
    if nobody_in_sync && partition.replicas.contains(&last) && acceptable(last) {
        return Elected::Unclean(last);
    }
    match partition.replicas.iter().find(|id| acceptable(**id)) {
        Some(id) if voters.unclean_allowed => Elected::Unclean(*id),
        _ => Elected::Nobody,
    }
}

/// The record after its ISR becomes `isr`: with the ELR that follows, the leader that follows, and its epochs
/// raised. `lost` names a replica that stopped uncleanly and may have lost its disk's tail.
///
/// Gives none if nothing changes; else the record and whether the leader was elected uncleanly.
pub(crate) fn with_isr(
    partition: &PartitionState,
    isr: Vec<BrokerId>,
    lost: Option<BrokerId>,
    voters: &Voters<'_>,
) -> Option<(PartitionState, bool)> {
    let mut next = partition.clone();
    let enough = voters.min_insync.min(next.replicas.len());
    // ELR members hold everything committed because the high watermark stood still below min ISR.
    next.elr = if isr.len() >= enough {
        Vec::new()
    } else {
        let was = |id: &BrokerId| partition.isr.contains(id) || partition.elr.contains(id);
        next.replicas.iter().copied().filter(|id| was(id) && !isr.contains(id) && lost != Some(*id)).collect()
    };
    next.isr = isr;
    let mut unclean = false;
    match elect(&next, voters) {
        Elected::InSync(leader) => next.leader = leader,
        Elected::Eligible(leader) => {
            next.leader = leader;
            next.isr = vec![leader];
            next.elr.retain(|id| *id != leader);
        }
        Elected::Unclean(leader) => {
            next.leader = leader;
            next.isr = vec![leader];
            next.elr.clear();
            next.recovery = LeaderRecovery::Recovering;
            unclean = true;
        }
        Elected::Nobody => next.leader = BrokerId::NONE,
    }
    if next.leader.is_some() {
        next.last_known_leader = next.leader;
    }
    if next == *partition {
        return None;
    }
    if next.leader != partition.leader {
        next.leader_epoch = partition.leader_epoch.next();
    }
    next.partition_epoch = partition.partition_epoch.next();
    Some((next, unclean))
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_base::Uuid;

    fn ids(list: &[i32]) -> Vec<BrokerId> {
        list.iter().copied().map(BrokerId::new).collect()
    }

    fn three(isr: &[i32], elr: &[i32], leader: i32) -> PartitionState {
        let mut p = PartitionState::new(ids(&[1, 2, 3]), vec![Uuid::ZERO; 3]);
        (p.isr, p.elr, p.leader) = (ids(isr), ids(elr), BrokerId::new(leader));
        p
    }

    fn run(
        p: &PartitionState,
        isr: &[i32],
        lost: Option<i32>,
        up: &[i32],
        unclean: bool,
    ) -> (PartitionState, bool) {
        let up = ids(up);
        let acceptable = |id: BrokerId| up.contains(&id);
        let voters =
            Voters { acceptable: &acceptable, serving: &acceptable, unclean_allowed: unclean, min_insync: 2 };
        with_isr(p, ids(isr), lost.map(BrokerId::new), &voters).unwrap_or((p.clone(), false))
    }

    #[test]
    fn a_valid_leader_stays_and_its_epoch_with_it() {
        let (p, _) = run(&three(&[1, 2, 3], &[], 2), &[1, 2], None, &[1, 2, 3], false);
        assert_eq!((p.leader, p.leader_epoch.get(), p.partition_epoch.get()), (BrokerId::new(2), 0, 1));
    }

    #[test]
    fn the_first_valid_replica_follows_a_lost_leader() {
        let (p, unclean) = run(&three(&[1, 2, 3], &[], 1), &[2, 3], None, &[2, 3], false);
        assert_eq!((p.leader, p.leader_epoch.get(), unclean), (BrokerId::new(2), 1, false));
        assert!(p.elr.is_empty(), "two of two needed are in sync");
    }

    #[test]
    fn below_min_isr_those_that_leave_become_eligible() {
        let (p, _) = run(&three(&[1, 2, 3], &[], 1), &[1], None, &[1], false);
        assert_eq!(p.elr, ids(&[2, 3]));
        let (p, _) = run(&p, &[1, 2], None, &[1, 2], false);
        assert!(p.elr.is_empty(), "with enough in sync again the high watermark moves on without 3");
    }

    #[test]
    fn the_last_replica_standing_is_not_elected_after_an_unclean_stop_while_another_is_eligible() {
        // R43: 3 then 2 drop out, 1 stays, loses its tail by a power cut and returns first.
        let p = three(&[1], &[2, 3], 1);
        let (p, _) = run(&p, &[], Some(1), &[1], false);
        assert_eq!((p.leader, p.elr.clone()), (BrokerId::NONE, ids(&[2, 3])));
        let (p, unclean) = run(&p, &[], None, &[1, 2], false);
        assert_eq!((p.leader, p.isr.clone(), unclean), (BrokerId::new(2), ids(&[2]), false));
    }

    #[test]
    fn an_unclean_election_happens_only_with_leave_and_says_so() {
        let p = three(&[1], &[], 1);
        let mut gone = p.clone();
        (gone.isr, gone.elr, gone.leader) = (vec![], ids(&[1]), BrokerId::NONE);
        let (p, _) = run(&gone, &[], None, &[2, 3], false);
        assert_eq!(p.leader, BrokerId::NONE);
        let (p, unclean) = run(&gone, &[], None, &[2, 3], true);
        assert_eq!((p.leader, p.isr.clone(), unclean), (BrokerId::new(2), ids(&[2]), true));
        assert_eq!(p.recovery, LeaderRecovery::Recovering);
    }

    #[test]
    fn a_fenced_last_known_leader_is_not_elected() {
        // R46.
        let mut p = three(&[], &[], -1);
        p.last_known_leader = BrokerId::new(3);
        assert_eq!(run(&p, &[], None, &[1, 2], false).0.leader, BrokerId::NONE);
        let (p, unclean) = run(&p, &[], None, &[3], false);
        assert_eq!((p.leader, unclean), (BrokerId::new(3), true));
    }

    #[test]
    fn nothing_changes_nothing() {
        let p = three(&[1, 2, 3], &[], 1);
        let acceptable = |_: BrokerId| true;
        let voters =
            Voters { acceptable: &acceptable, serving: &acceptable, unclean_allowed: false, min_insync: 1 };
        assert!(with_isr(&p, ids(&[1, 2, 3]), None, &voters).is_none());
    }
}
