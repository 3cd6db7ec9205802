//! Rules weakened on purpose, to prove that a test can fail.

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $mutant:ident = $name:literal,)+) => {
        /// An old or missing rule that a test switches on to see itself fail. Production code passes
        /// [`Mutant::None`]; nothing outside tests reads `HIGHWATER_MUTANT`. `docs/FAULTS.md` says which test catches
        /// which.
        ///
        /// ```
        /// use highwater_base::Mutant;
        /// assert_eq!(Mutant::named("no_sync"), Some(Mutant::NoSync));
        /// assert_eq!(Mutant::default(), Mutant::None);
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub enum Mutant {
            /// Every rule holds.
            #[default]
            None,
            $($(#[doc = $doc])+ $mutant,)+
        }

        impl Mutant {
            /// Every mutant and its name.
            pub const ALL: &'static [(&'static str, Mutant)] = &[$(($name, Mutant::$mutant),)+];
        }
    };
}

mutants! {
    /// Syncs are claimed, not done.
    NoSync = "no_sync",
    /// A shared flush serves blocks whose metadata is not durable, too (F01).
    UnsettledFlush = "unsettled_flush",
    /// A batch's checksum is not compared.
    NoCrc = "no_crc",
    /// A new segment's name counts as durable before its directory is synced (F05).
    NamesUnsynced = "names_unsynced",
    /// A full device ends a log for good (F12).
    NoSpaceIsFinal = "no_space_is_final",
    /// A segment that is being sealed cannot be read (F12).
    SealHidesSegment = "seal_hides_segment",
    /// A failed sync counts as a good one (F13).
    SyncErrorIgnored = "sync_error_ignored",
    /// A wall clock that went back ends a log at its next roll (C01, KAFKA-5415).
    ClockMustNotGoBack = "clock_must_not_go_back",
    /// A segment takes offsets beyond the reach of its index (R53, KAFKA-5413).
    OffsetsUnbounded = "offsets_unbounded",
    /// A cut leaves the index entries behind it (R55, KAFKA-6492).
    IndexStaysFull = "index_stays_full",
    /// An empty last segment without its index means that everything is read again (R56, KAFKA-13603).
    EmptySegmentNeedsIndex = "empty_segment_needs_index",
    /// What an index entry says of a batch is not compared with the batch (R57).
    IndexTrusted = "index_trusted",
    /// The time index takes entries that run backwards (R58, KAFKA-12981).
    TimesUnordered = "times_unordered",
    /// The largest timestamp is found at the end of its batch (R59, KAFKA-16310).
    MaxTimeAtBatchEnd = "max_time_at_batch_end",
    /// A record's time may lie in the future (R60, KIP-937).
    FutureAccepted = "future_accepted",
    /// Retention takes what is not committed (R61, KAFKA-5634).
    RetentionUncommitted = "retention_uncommitted",
    /// The active segment is never too old (R62, KAFKA-15047).
    IdleSegmentStays = "idle_segment_stays",
    /// Segments below the log start stay where neither time nor size is a reason to go (R63, KAFKA-7400).
    StartKeepsSegments = "start_keeps_segments",
    /// Recovery does not rebuild the transaction index (R64).
    TxnIndexNotRebuilt = "txn_index_not_rebuilt",
    /// A file that is missing when it is to go ends the log (R65, KAFKA-15391).
    MissingFileFails = "missing_file_fails",
    /// An empty snapshot means that there are no producers (F07, R66, KAFKA-15312).
    EmptySnapshotBelieved = "empty_snapshot_believed",
    /// Sizes are limited for a follower too (R68, KAFKA-17375).
    ReplicaSizeLimited = "replica_size_limited",
    /// Settings that change while a log is made are lost (R69, KAFKA-8813).
    SettingsLostInCreation = "settings_lost_in_creation",
    /// A read from the middle of a segment ends by the segment's length, not by its own (R70, KAFKA-2903).
    ReadsEndEarly = "reads_end_early",
    /// A read whose segment was deleted before it began goes on with what is left (R71).
    LateReadsGoOn = "late_reads_go_on",
    /// A producer's batch counts before it is appended (R72, KAFKA-6683).
    ProducersAhead = "producers_ahead",
    /// Producers of an older snapshot are followed from the checkpoint on, not from where the snapshot ends (R73,
    /// KAFKA-10832).
    ReplayFromCheckpoint = "replay_from_checkpoint",
    /// A follower judges sequence numbers (R74, KAFKA-6003).
    ReplicaSequences = "replica_sequences",
    /// After the last sequence number comes a negative one (R75, KAFKA-7692).
    SequenceDoesNotWrap = "sequence_does_not_wrap",
    /// A producer whose batches are gone is forgotten (R76, KAFKA-7190).
    TrimForgetsProducers = "trim_forgets_producers",
    /// Recovery tells producers of no batch (R77).
    ProducersNotReplayed = "producers_not_replayed",
    /// A marker needs a higher epoch than the one before (R82, KAFKA-19999).
    MarkerNeedsNewerEpoch = "marker_needs_newer_epoch",
    /// An abort of a producer without an open transaction fences it (R83, KAFKA-18575).
    EmptyAbortFences = "empty_abort_fences",
    /// A manifest is believed whatever became of the files that it lists.
    ManifestTrusted = "manifest_trusted",
    /// A deleted segment becomes the next one as it is, its old bytes in it (D01).
    RecycledUnwiped = "recycled_unwiped",
    /// The zeros over its old bytes are not durable before it gets its name (D01).
    RecycledUnsynced = "recycled_unsynced",
    /// It is wiped while somebody still reads what it held (D02).
    RecycledWhileRead = "recycled_while_read",
    /// A batch of an older producer epoch is taken (R87, KAFKA-6119).
    OldEpochAccepted = "old_epoch_accepted",
    /// A compacted segment larger than those that it replaces ends the pass (R54, KAFKA-5316).
    CompactionMustShrink = "compaction_must_shrink",
    /// A compacted segment takes its place without a sync between the renames (R67, KAFKA-12520).
    SwapUnsynced = "swap_unsynced",
    /// A file that an old Kafka filled beyond the reach of its index is not split (R53, KAFKA-6264).
    OffsetsNotSplit = "offsets_not_split",
    /// A gap that is wider than a segment's reach is a missing segment, and ends the log (R53).
    GapsAreHoles = "gaps_are_holes",
    /// Files beside the segments that are in order by themselves are believed, whatever our own sums of them say (F10).
    SideSumsIgnored = "side_sums_ignored",
    /// Segments that are missing at a start are passed over (F16).
    MissingPassedOver = "missing_passed_over",
    /// A tombstone goes with the first pass that can drop it (R89, R95, KAFKA-4529).
    TombstonesGoAtOnce = "tombstones_go_at_once",
    /// A pass does not know which transactions were aborted (R90, KAFKA-8351).
    AbortsUnknownToCleaner = "aborts_unknown_to_cleaner",
    /// A pass keeps no empty batch of a producer's last sequence (R91, KAFKA-5490).
    CleanerForgetsProducers = "cleaner_forgets_producers",
    /// A pass goes beyond the high watermark (R92, KAFKA-13194).
    CompactsUncommitted = "compacts_uncommitted",
    /// Offsets that are missing at a segment's end stay to be compacted (R93, KAFKA-8764).
    GapsStayDirty = "gaps_stay_dirty",
    /// A cut leaves the mark of what was compacted behind it (R94, KAFKA-3330).
    CleanedMarkStays = "cleaned_mark_stays",
    /// The last batch before what is not compacted may go (R95, Redpanda 13639).
    LastBatchMayGo = "last_batch_may_go",
    /// A log that moves takes its new name before the old directory has lost it, as in Kafka.
    MoveEntersFirst = "move_enters_first",
    /// The copy of a log that moves takes its place unsynced.
    MoveUnsynced = "move_unsynced",
}

impl Mutant {
    /// The mutant with this name, or none.
    pub fn named(name: &str) -> Option<Mutant> {
        match name {
            "" | "none" => Some(Mutant::None),
            _ => Mutant::ALL.iter().find(|(known, _)| *known == name).map(|(_, mutant)| *mutant),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Mutant::ALL.iter().find(|(_, mutant)| *mutant == self).map_or("none", |(name, _)| *name)
    }
}
