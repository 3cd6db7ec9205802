//! The seam to whoever commits changes of the cluster's metadata; and the one that a lone broker has.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_control::{Applied, Command, ControlError, Image, apply};

/// Who commits ISR changes, names leaders, makes topics, gives out producer ids.
///
/// Calling order: [`Authority::propose`] any time; [`Authority::poll_decision`] until it gives none, each turn. Each
/// proposal is decided exactly once; an authority reached over a network may decide late, and in another order. When
/// a decision is given, [`Authority::image`] contains it.
///
/// ```
/// use highwater_control::{Command, Image};
/// use highwater_replication::{Authority, LocalAuthority};
/// let mut authority = LocalAuthority::new(Image::new("c"));
/// authority.propose(1, Command::AllocateProducerIds);
/// assert!(authority.poll_decision().is_none()); // not stored yet
/// let store = authority.poll_store().unwrap();
/// authority.stored(store.version());
/// assert_eq!(authority.poll_decision().unwrap().key, 1);
/// ```
pub trait Authority {
    /// Asks for a change. `key` comes back in its decision.
    fn propose(&mut self, key: u64, command: Command);

    /// The next decision.
    fn poll_decision(&mut self) -> Option<Decision>;

    /// The metadata as committed.
    fn image(&self) -> &Arc<Image>;
}

/// What became of a proposal.
///
/// ```
/// use highwater_control::Applied;
/// let d = highwater_replication::Decision { key: 4, result: Ok(Applied::Done) };
/// assert!(d.result.is_ok());
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// The key it was asked with.
    pub key: u64,
    /// What it did, or why it was refused.
    pub result: Result<Applied, ControlError>,
}

/// The authority of a lone broker: it commits what is stored in the broker's own catalog file.
///
/// Commands are applied one after the other to the latest image, and decided once that image is stored: what was
/// promised survives a power cut. Storing is the caller's: [`LocalAuthority::poll_store`] gives an image to be
/// stored whenever there is a newer one and none is being stored, so commands that come meanwhile share the next
/// write; [`LocalAuthority::stored`] or [`LocalAuthority::not_stored`] ends it.
///
/// ```
/// use highwater_base::ProducerId;
/// use highwater_control::{Applied, Command, ControlError, Image};
/// use highwater_replication::{Authority, LocalAuthority};
/// let mut authority = LocalAuthority::new(Image::new("c"));
/// authority.propose(1, Command::AllocateProducerIds);
/// authority.poll_store().unwrap();
/// authority.not_stored("the disk is full");
/// let refused = authority.poll_decision().unwrap();
/// assert!(matches!(refused.result, Err(ControlError::NotStored { .. })));
/// assert_eq!(authority.image().next_producer_id(), ProducerId::new(0));
/// ```
#[derive(Debug)]
pub struct LocalAuthority {
    /// With every accepted command.
    latest: Arc<Image>,
    /// As it is stored. Its version is at most that of `latest`.
    committed: Arc<Image>,
    /// What is being stored.
    storing: Option<Arc<Image>>,
    /// Accepted, by the version that must be stored first; ascending.
    waiting: VecDeque<(u64, Decision)>,
    decided: VecDeque<Decision>,
}

impl LocalAuthority {
    /// Over an image that is stored already.
    pub fn new(image: Image) -> LocalAuthority {
        let image = Arc::new(image);
        LocalAuthority {
            latest: Arc::clone(&image),
            committed: image,
            storing: None,
            waiting: VecDeque::new(),
            decided: VecDeque::new(),
        }
    }

    /// An image to be stored, if one is due and none is being stored.
    pub fn poll_store(&mut self) -> Option<Arc<Image>> {
        if self.storing.is_some() || self.latest.version() == self.committed.version() {
            return None;
        }
        self.storing = Some(Arc::clone(&self.latest));
        self.storing.clone()
    }

    /// The image of this version is durably stored. Panics if it was not asked to be.
    pub fn stored(&mut self, version: u64) {
        let stored = self.storing.take().filter(|image| image.version() == version);
        self.committed = stored.expect("LocalAuthority::stored: another image was to be stored");
        while self.waiting.front().is_some_and(|(needs, _)| *needs <= version) {
            self.decided.extend(self.waiting.pop_front().map(|(_, decision)| decision));
        }
    }

    /// The image could not be stored: what is not stored did not happen, and is refused.
    pub fn not_stored(&mut self, why: &str) {
        self.storing = None;
        self.latest = Arc::clone(&self.committed);
        for (_, decision) in self.waiting.drain(..) {
            let result = Err(ControlError::NotStored { reason: why.to_owned() });
            self.decided.push_back(Decision { key: decision.key, result });
        }
    }
}

impl Authority for LocalAuthority {
    fn propose(&mut self, key: u64, command: Command) {
        match apply(&self.latest, &command) {
            Err(error) => self.decided.push_back(Decision { key, result: Err(error) }),
            Ok((image, applied)) => {
                self.latest = Arc::new(image);
                let decision = Decision { key, result: Ok(applied) };
                // A command that changed nothing waits too, for the image that it found to be stored.
                if self.latest.version() == self.committed.version() {
                    self.decided.push_back(decision);
                } else {
                    self.waiting.push_back((self.latest.version(), decision));
                }
            }
        }
    }

    fn poll_decision(&mut self) -> Option<Decision> {
        self.decided.pop_front()
    }

    fn image(&self) -> &Arc<Image> {
        &self.committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_base::{BrokerId, ProducerId, Uuid};
    use highwater_control::{NewTopic, Registration, TopicRef};

    fn authority() -> LocalAuthority {
        LocalAuthority::new(Image::new("c"))
    }

    #[test]
    fn nothing_is_decided_before_it_is_stored_and_commands_share_a_write() {
        let mut a = authority();
        a.propose(1, Command::RegisterBroker(Registration::new(BrokerId::new(1), "h", 1)));
        let first = a.poll_store().unwrap();
        a.propose(2, Command::AllocateProducerIds);
        a.propose(3, Command::AllocateProducerIds);
        assert!(a.poll_store().is_none(), "one image is being stored");
        assert_eq!(a.image().version(), 0);
        a.stored(first.version());
        assert_eq!(a.poll_decision().unwrap().key, 1);
        assert!(a.poll_decision().is_none());
        let second = a.poll_store().unwrap();
        a.stored(second.version());
        assert_eq!([a.poll_decision().unwrap().key, a.poll_decision().unwrap().key], [2, 3]);
        assert_eq!(a.image().next_producer_id(), ProducerId::new(2000));
    }

    #[test]
    fn a_refused_command_is_answered_at_once_and_needs_no_store() {
        let mut a = authority();
        a.propose(1, Command::DeleteTopic(TopicRef::Name("x".into())));
        assert!(a.poll_decision().unwrap().result.is_err());
        assert!(a.poll_store().is_none());
    }

    #[test]
    fn what_could_not_be_stored_did_not_happen_and_may_be_asked_again() {
        let mut a = authority();
        a.propose(1, Command::RegisterBroker(Registration::new(BrokerId::new(1), "h", 1)));
        let store = a.poll_store().unwrap();
        a.propose(2, Command::CreateTopic(NewTopic::named("t", Uuid::from_halves(1, 1))));
        a.poll_decision().expect("no broker is active, so the topic is refused at once");
        a.not_stored("no space");
        assert_eq!(a.poll_decision().unwrap().result.unwrap_err().kafka_code(), 56);
        assert!(a.poll_store().is_none());
        a.propose(3, Command::RegisterBroker(Registration::new(BrokerId::new(1), "h", 1)));
        assert_eq!(a.poll_store().unwrap().version(), store.version());
    }
}
