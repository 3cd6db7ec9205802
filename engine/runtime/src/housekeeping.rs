//! Slices of time for work that can wait: retention, sealing, scrubbing, checkpoints.

use std::time::Duration;

use highwater_base::Mono;

/// Names a recurring task of one [`Housekeeping`].
///
/// ```
/// use std::time::Duration;
/// use highwater_base::Mono;
/// let mut keeping = highwater_runtime::Housekeeping::new();
/// let a = keeping.every(Duration::from_secs(1), Mono::ZERO);
/// let b = keeping.every(Duration::from_secs(1), Mono::ZERO);
/// assert_ne!(a, b);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId(u32);

/// Recurring tasks, of which a shard runs at most one a turn, so that serving requests never waits for more
/// than one slice of upkeep.
///
/// ```
/// use std::time::Duration;
/// use highwater_base::Mono;
/// use highwater_runtime::Housekeeping;
/// let mut keeping = Housekeeping::new();
/// let retention = keeping.every(Duration::from_secs(300), Mono::ZERO);
/// let start = Mono::ZERO.plus(Duration::from_secs(300));
/// assert_eq!(keeping.next_slice(Mono::ZERO), None);
/// assert_eq!(keeping.next_slice(start), Some(retention));
/// assert_eq!(keeping.next_slice(start), None); // until it is due again
/// keeping.again(retention, start); // it did not finish in its slice
/// assert_eq!(keeping.next_slice(start), Some(retention));
/// ```
#[derive(Debug, Default)]
pub struct Housekeeping {
    tasks: Vec<Task>,
}

#[derive(Debug)]
struct Task {
    every: Duration,
    due: Mono,
}

impl Housekeeping {
    /// No tasks.
    pub fn new() -> Housekeeping {
        Housekeeping::default()
    }

    /// Adds a task that is due every so often, first one period from `now`.
    pub fn every(&mut self, every: Duration, now: Mono) -> TaskId {
        self.tasks.push(Task { every, due: now.plus(every) });
        TaskId(self.tasks.len() as u32 - 1)
    }

    /// The task that has been due for longest, if any is; it is next due a period from now.
    pub fn next_slice(&mut self, now: Mono) -> Option<TaskId> {
        let (index, task) = self.tasks.iter_mut().enumerate().min_by_key(|(_, task)| task.due)?;
        if task.due > now {
            return None;
        }
        task.due = now.plus(task.every);
        Some(TaskId(index as u32))
    }

    /// Makes a task due at `at`, if that is sooner than its period says.
    pub fn again(&mut self, task: TaskId, at: Mono) {
        let task = &mut self.tasks[task.0 as usize];
        task.due = task.due.min(at);
    }

    /// Changes a task's period, counted from `now`.
    pub fn set_period(&mut self, task: TaskId, every: Duration, now: Mono) {
        self.tasks[task.0 as usize] = Task { every, due: now.plus(every) };
    }

    /// When the next task is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.tasks.iter().map(|task| task.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequent_task_does_not_starve_a_rare_one() {
        let mut keeping = Housekeeping::new();
        let often = keeping.every(Duration::from_secs(1), Mono::ZERO);
        let rarely = keeping.every(Duration::from_secs(10), Mono::ZERO);
        let mut seen = Vec::new();
        for second in 1..=12 {
            seen.extend(keeping.next_slice(Mono::ZERO.plus(Duration::from_secs(second))));
        }
        assert_eq!(seen.iter().filter(|task| **task == rarely).count(), 1);
        assert!(seen.iter().filter(|task| **task == often).count() >= 10);
    }
}
