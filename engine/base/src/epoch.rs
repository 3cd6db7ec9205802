//! Epochs: each counts incarnations of one thing, so that a late message can be told from a current one.

use std::fmt;

macro_rules! epoch {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($int);

        impl $name {
            /// "No epoch": -1, as Kafka writes it.
            pub const NONE: $name = $name(-1);
            /// The first epoch.
            pub const ZERO: $name = $name(0);

            /// The epoch with this number.
            pub const fn new(value: $int) -> $name {
                $name(value)
            }

            /// The bare number, for the wire and for files.
            pub const fn get(self) -> $int {
                self.0
            }

            /// The next epoch, saturating at the type's largest.
            #[must_use]
            pub const fn next(self) -> $name {
                $name(self.0.saturating_add(1))
            }

            /// Whether this is a real epoch, not `NONE`.
            pub const fn is_some(self) -> bool {
                self.0 >= 0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "e{}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

epoch! {
    /// Counts leaderships of a partition; stamped into every record batch.
    ///
    /// ```
    /// assert_eq!(highwater_base::LeaderEpoch::NONE.next(), highwater_base::LeaderEpoch::ZERO);
    /// ```
    LeaderEpoch(i32)
}
epoch! {
    /// Versions a partition's record at the authority; the compare-and-set token of an ISR change.
    ///
    /// ```
    /// assert!(highwater_base::PartitionEpoch::ZERO.is_some());
    /// ```
    PartitionEpoch(i32)
}
epoch! {
    /// One incarnation of a broker (KIP-903).
    ///
    /// ```
    /// assert_eq!(highwater_base::BrokerEpoch::new(9).get(), 9);
    /// ```
    BrokerEpoch(i64)
}
epoch! {
    /// One incarnation of an idempotent producer.
    ///
    /// ```
    /// assert_eq!(highwater_base::ProducerEpoch::new(3).next().get(), 4);
    /// ```
    ProducerEpoch(i16)
}
