//! What of the bytes that partitions gave goes into an answer.

use highwater_io::Slice;

/// Bytes before a batch's length field, and with it.
const LENGTH_AT: usize = 8;
const OVERHEAD: usize = 12;

/// What is left of an answer's room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Budget {
    left: usize,
    /// Nothing has been taken yet: the next batch goes in whatever its size, so that a batch larger than every
    /// limit can still be read (KIP-74).
    empty: bool,
}

impl Budget {
    pub(super) fn new(max_bytes: usize) -> Budget {
        Budget { left: max_bytes, empty: true }
    }

    /// The room that is left when `taken` bytes were taken before.
    pub(super) fn after(max_bytes: usize, taken: usize) -> Budget {
        Budget { left: max_bytes.saturating_sub(taken), empty: taken == 0 }
    }

    pub(super) fn left(self) -> usize {
        self.left
    }

    pub(super) fn is_empty(self) -> bool {
        self.empty
    }

    /// Takes as many whole batches of one partition as fit, which is at least one if nothing was taken before.
    pub(super) fn take(&mut self, data: &mut Vec<Slice>, partition_max: usize) {
        let len: usize = data.iter().map(Slice::len).sum();
        if len == 0 {
            return;
        }
        let room = self.left.min(partition_max);
        let taken = if len <= room { len } else { whole_batches(data, room, self.empty) };
        truncate(data, taken);
        self.left = self.left.saturating_sub(taken);
        self.empty &= taken == 0;
    }
}

/// Length of the whole batches at the front of `data` that fit into `room`; of one more if `at_least_one`.
fn whole_batches(data: &[Slice], room: usize, at_least_one: bool) -> usize {
    let total: usize = data.iter().map(Slice::len).sum();
    let mut end = 0;
    while let Some(length) = length_field(data, end) {
        let next = end.saturating_add(OVERHEAD).saturating_add(length);
        let fits = next <= room || (end == 0 && at_least_one);
        if !fits || next > total {
            break;
        }
        end = next;
    }
    end
}

/// The length field of the batch that begins at `at`; it may lie across slices.
fn length_field(data: &[Slice], at: usize) -> Option<usize> {
    let mut field = [0; OVERHEAD - LENGTH_AT];
    let mut filled = 0;
    let mut start = 0;
    for slice in data {
        while filled < field.len() && at + LENGTH_AT + filled < start + slice.len() {
            field[filled] = slice[at + LENGTH_AT + filled - start];
            filled += 1;
        }
        start += slice.len();
    }
    if filled < field.len() { None } else { usize::try_from(i32::from_be_bytes(field)).ok() }
}

fn truncate(data: &mut Vec<Slice>, mut len: usize) {
    data.retain_mut(|slice| {
        let kept = slice.len().min(len);
        len -= kept;
        if kept < slice.len() {
            *slice = slice.range(0..kept);
        }
        kept > 0
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of these lengths, cut into slices of `cut` bytes.
    fn data(lengths: &[usize], cut: usize) -> Vec<Slice> {
        let mut bytes = Vec::new();
        for length in lengths {
            let mut batch = vec![0xab; *length];
            batch[LENGTH_AT..OVERHEAD].copy_from_slice(&((length - OVERHEAD) as i32).to_be_bytes());
            bytes.extend(batch);
        }
        bytes.chunks(cut).map(|chunk| Slice::from(chunk.to_vec())).collect()
    }

    fn taken(budget: &mut Budget, lengths: &[usize], cut: usize, partition_max: usize) -> usize {
        let mut data = data(lengths, cut);
        budget.take(&mut data, partition_max);
        assert!(data.iter().all(|slice| !slice.is_empty()));
        data.iter().map(Slice::len).sum()
    }

    #[test]
    fn whole_batches_are_taken_wherever_the_slices_are_cut() {
        for cut in [1, 5, 9, 11, 13, 100, 1000] {
            for (room, expected) in [(300, 300), (299, 200), (200, 200), (199, 100), (100, 100)] {
                assert_eq!(
                    taken(&mut Budget::new(room), &[100, 100, 100], cut, 1000),
                    expected,
                    "{cut} {room}"
                );
                assert_eq!(
                    taken(&mut Budget::new(1000), &[100, 100, 100], cut, room),
                    expected,
                    "{cut} {room}"
                );
            }
        }
    }

    #[test]
    fn the_first_batch_goes_in_whatever_its_size_and_no_other() {
        for (max, partition_max) in [(0, 0), (50, 1000), (1000, 50)] {
            let mut budget = Budget::new(max);
            assert_eq!(taken(&mut budget, &[], 7, partition_max), 0);
            assert_eq!(taken(&mut budget, &[100, 100], 7, partition_max), 100);
            assert!(!budget.is_empty());
            assert_eq!(taken(&mut budget, &[100, 100], 7, 50), 0, "a later partition has no such right");
        }
    }

    #[test]
    fn what_is_no_batch_is_cut_off_rather_than_counted_past_its_end() {
        let mut lie = data(&[100], 1000);
        let mut bytes = lie[0].to_vec();
        bytes[LENGTH_AT..OVERHEAD].copy_from_slice(&i32::MAX.to_be_bytes());
        lie[0] = bytes.into();
        Budget::new(50).take(&mut lie, 50);
        assert!(lie.is_empty());
    }
}
