//! What the machine decides is done here, and nowhere else: the one match over its effects.

use highwater_base::Now;
use highwater_engine::{AppendError, Origin};
use highwater_isr::{Effect, Event};

use super::Partition;
use super::view::View;
use crate::{Outgoing, Reply};

impl Partition {
    pub(super) fn act(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::AssignEpoch(epoch) => self.log.assign_epoch(epoch),
            Effect::SetHighWatermark(to) => {
                self.log.set_high_watermark(to);
                let enough = self.check_success();
                while let Some(parked) = self.produces.wake_all_up_to(to) {
                    let reply = enough.clone().map(|()| Reply::Produced(parked.done));
                    self.answer(parked.key, reply);
                }
                self.wake_readers();
            }
            Effect::Acknowledge { up_to } => {
                self.acknowledged = up_to;
                while let Some(parked) = self.produces.wake_leader_up_to(up_to) {
                    self.answer(parked.key, Ok(Reply::Produced(parked.done)));
                }
            }
            Effect::Append { leader_epoch } => {
                let bytes = std::mem::take(&mut self.incoming)
                    .iter()
                    .flat_map(|s| s.iter().copied())
                    .collect::<Vec<u8>>();
                let event = match self.log.append(now, &bytes, Origin::Replica { leader_epoch }) {
                    Ok(_) => Event::LogMoved,
                    Err(AppendError::Failed(_)) => Event::LogFailed,
                    Err(_) => Event::AppendRefused,
                };
                self.replicator.handle(now.mono, event, &View(&self.log));
            }
            Effect::Truncate { to, committed_lost } => {
                self.log.truncate(to);
                self.log.set_high_watermark(self.replicator.high_watermark());
                if let Some(until) = committed_lost {
                    self.outgoing.push_back(Outgoing::CommittedLost { from: to, until });
                }
            }
            Effect::RestartAt(at) => self.log.restart_at(at),
            Effect::Trim { to } => self.log.trim(to),
            Effect::Fetch { fetch, at } => self.outgoing.push_back(Outgoing::Fetch { fetch, at }),
            Effect::ProposeIsr(proposal) => self.outgoing.push_back(Outgoing::ProposeIsr(proposal)),
            Effect::Answer { to, request, answer } => {
                self.outgoing.push_back(Outgoing::AnswerFollower { to, request, answer });
            }
            Effect::StepDown => {
                let error = match self.log.failure() {
                    Some(failure) => crate::PartitionError::Storage(failure.clone()),
                    None => self.not_leader(),
                };
                self.refuse_all(&error);
            }
        }
    }
}
