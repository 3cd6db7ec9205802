//! The settings of a broker, with Kafka's names, units and defaults (and those of ours: `durability`,
//! `highwater.*`).

use super::definition::Class::{self, InEffect, NoEffect, Refused};
use super::definition::Definition;
use super::definition::Kind::{self, Bool, Choice, Double, Int, List, ListOf, Long, Secret, Text};

const fn d(name: &'static str, kind: Kind, default: &'static str, class: Class) -> Definition {
    Definition { name, kind, default: Some(default), class }
}

/// A setting whose default is Kafka's null.
const fn n(name: &'static str, kind: Kind, class: Class) -> Definition {
    Definition { name, kind, default: None, class }
}

const COMPRESSION: &[&str] = &["uncompressed", "gzip", "snappy", "lz4", "zstd", "producer"];
const DURABILITY: &[&str] = &["each", "interval", "os"];
const TIMESTAMP: &[&str] = &["CreateTime", "LogAppendTime"];

const MAX: &str = "9223372036854775807";
const I: Kind = Int(0, i32::MAX);
const P: Kind = Int(1, i32::MAX);
const L: Kind = Long(0, i64::MAX);
const M: Kind = Long(-1, i64::MAX);

const NO_AUTH: &str = "clients are not authenticated or authorized yet, and taking this setting would let them in \
                       unchecked; remove it and listen on a trusted network only";
const NO_REMOTE: &str = "tiered storage is not there; remove the setting";
const NO_ZOOKEEPER: &str = "ZooKeeper is not used; remove the setting";

/// Every setting of a broker, by name.
pub(crate) const BROKER: &[Definition] = &[
    d("add.partitions.to.txn.retry.backoff.max.ms", I, "100", NoEffect),
    d("add.partitions.to.txn.retry.backoff.ms", P, "20", NoEffect),
    n("advertised.listeners", List, InEffect),
    n("alter.config.policy.class.name", Text, NoEffect),
    n("authorizer.class.name", Text, Refused(NO_AUTH)),
    d("auto.create.topics.enable", Bool, "true", InEffect),
    d("auto.include.jmx.reporter", Bool, "true", NoEffect),
    d("auto.leader.rebalance.enable", Bool, "true", NoEffect),
    d("background.threads", P, "10", NoEffect),
    d("broker.heartbeat.interval.ms", I, "2000", NoEffect),
    d("broker.id", Int(-1, i32::MAX), "-1", InEffect),
    n("broker.rack", Text, InEffect),
    d("broker.session.timeout.ms", I, "9000", NoEffect),
    n("client.quota.callback.class", Text, NoEffect),
    d("compression.gzip.level", Int(-1, 9), "-1", NoEffect),
    d("compression.lz4.level", Int(1, 17), "9", NoEffect),
    d("compression.type", Choice(COMPRESSION), "producer", InEffect),
    d("compression.zstd.level", Int(-131_072, 22), "3", NoEffect),
    d("connection.failed.authentication.delay.ms", I, "100", NoEffect),
    d("connections.max.idle.ms", M, "600000", InEffect),
    d("connections.max.reauth.ms", L, "0", NoEffect),
    n("controller.listener.names", List, InEffect),
    d("controller.quorum.append.linger.ms", I, "25", NoEffect),
    d("controller.quorum.bootstrap.servers", List, "", NoEffect),
    d("controller.quorum.election.backoff.max.ms", I, "1000", NoEffect),
    d("controller.quorum.election.timeout.ms", I, "1000", NoEffect),
    d("controller.quorum.fetch.timeout.ms", I, "2000", NoEffect),
    d("controller.quorum.request.timeout.ms", I, "2000", NoEffect),
    d("controller.quorum.retry.backoff.ms", I, "20", NoEffect),
    d("controller.quorum.voters", List, "", NoEffect),
    d("controlled.shutdown.enable", Bool, "true", NoEffect),
    n("create.topic.policy.class.name", Text, NoEffect),
    d("default.replication.factor", P, "1", InEffect),
    d("delete.records.purgatory.purge.interval.requests", I, "1", NoEffect),
    d("delete.topic.enable", Bool, "true", InEffect),
    d("durability", Choice(DURABILITY), "each", InEffect),
    d("fetch.max.bytes", Int(1024, i32::MAX), "57671680", InEffect),
    d("fetch.purgatory.purge.interval.requests", I, "1000", NoEffect),
    d("group.consumer.assignors", List, "uniform,range", NoEffect),
    d("group.consumer.heartbeat.interval.ms", P, "5000", NoEffect),
    d("group.consumer.max.heartbeat.interval.ms", P, "15000", NoEffect),
    d("group.consumer.max.session.timeout.ms", P, "60000", NoEffect),
    d("group.consumer.max.size", P, "2147483647", NoEffect),
    d("group.consumer.migration.policy", Text, "bidirectional", NoEffect),
    d("group.consumer.min.heartbeat.interval.ms", P, "5000", NoEffect),
    d("group.consumer.min.session.timeout.ms", P, "45000", NoEffect),
    d("group.consumer.session.timeout.ms", P, "45000", NoEffect),
    d("group.coordinator.append.linger.ms", Int(-1, i32::MAX), "-1", NoEffect),
    d("group.coordinator.rebalance.protocols", List, "classic,consumer,streams", NoEffect),
    d("group.coordinator.threads", P, "4", NoEffect),
    d("group.initial.rebalance.delay.ms", I, "3000", NoEffect),
    d("group.max.session.timeout.ms", I, "1800000", NoEffect),
    d("group.max.size", P, "2147483647", NoEffect),
    d("group.min.session.timeout.ms", I, "6000", NoEffect),
    d("group.share.delivery.count.limit", Int(2, 10), "5", NoEffect),
    d("group.share.max.size", P, "200", NoEffect),
    d("group.share.partition.max.record.locks", P, "2000", NoEffect),
    d("group.share.record.lock.duration.ms", P, "30000", NoEffect),
    d("highwater.io", Choice(&["auto", "uring", "posix"]), "auto", InEffect),
    d("highwater.min.free.bytes", L, "0", InEffect),
    d("highwater.request.memory.bytes", Long(1 << 20, i64::MAX), "536870912", InEffect),
    d("highwater.scrub.bytes.per.day", L, "1073741824", InEffect),
    d("highwater.shards", Int(0, 1024), "0", InEffect),
    d("initial.broker.registration.timeout.ms", I, "60000", NoEffect),
    n("inter.broker.listener.name", Text, InEffect),
    d("inter.broker.protocol.version", Text, "4.3", NoEffect),
    n("kafka.metrics.reporters", List, NoEffect),
    d("leader.imbalance.check.interval.seconds", L, "300", NoEffect),
    d("leader.imbalance.per.broker.percentage", I, "10", NoEffect),
    d(
        "listener.security.protocol.map",
        List,
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        InEffect,
    ),
    d("listeners", List, "PLAINTEXT://127.0.0.1:9092", InEffect),
    d("log.cleaner.backoff.ms", L, "15000", InEffect),
    d("log.cleaner.dedupe.buffer.size", L, "134217728", InEffect),
    d("log.cleaner.delete.retention.ms", L, "86400000", InEffect),
    d("log.cleaner.enable", Bool, "true", InEffect),
    d("log.cleaner.io.buffer.load.factor", Double(0.0, f64::MAX), "0.9", NoEffect),
    d("log.cleaner.io.buffer.size", I, "524288", NoEffect),
    d("log.cleaner.io.max.bytes.per.second", Double(0.0, f64::MAX), "1.7976931348623157E308", InEffect),
    d("log.cleaner.max.compaction.lag.ms", Long(1, i64::MAX), MAX, InEffect),
    d("log.cleaner.min.cleanable.ratio", Double(0.0, 1.0), "0.5", InEffect),
    d("log.cleaner.min.compaction.lag.ms", L, "0", InEffect),
    d("log.cleaner.threads", I, "1", NoEffect),
    d("log.cleanup.policy", ListOf(&["delete", "compact"]), "delete", InEffect),
    d("log.dir", Text, "highwater-data", InEffect),
    d("log.dir.failure.timeout.ms", Long(1, i64::MAX), "30000", NoEffect),
    n("log.dirs", List, InEffect),
    d("log.flush.interval.messages", Long(1, i64::MAX), MAX, InEffect),
    n("log.flush.interval.ms", L, InEffect),
    d("log.flush.offset.checkpoint.interval.ms", I, "60000", InEffect),
    d("log.flush.scheduler.interval.ms", L, MAX, InEffect),
    d("log.flush.start.offset.checkpoint.interval.ms", I, "60000", InEffect),
    d("log.index.interval.bytes", I, "4096", InEffect),
    d("log.index.size.max.bytes", Int(4, i32::MAX), "10485760", InEffect),
    d("log.initial.task.delay.ms", L, "30000", NoEffect),
    d("log.local.retention.bytes", Long(-2, i64::MAX), "-2", NoEffect),
    d("log.local.retention.ms", Long(-2, i64::MAX), "-2", NoEffect),
    d("log.message.timestamp.after.max.ms", L, "3600000", InEffect),
    d("log.message.timestamp.before.max.ms", L, MAX, InEffect),
    d("log.message.timestamp.type", Choice(TIMESTAMP), "CreateTime", InEffect),
    d("log.preallocate", Bool, "false", NoEffect),
    d("log.retention.bytes", Long(i64::MIN, i64::MAX), "-1", InEffect),
    d("log.retention.check.interval.ms", Long(1, i64::MAX), "300000", InEffect),
    d("log.retention.hours", Int(i32::MIN, i32::MAX), "168", InEffect),
    n("log.retention.minutes", Int(i32::MIN, i32::MAX), InEffect),
    n("log.retention.ms", M, InEffect),
    d("log.roll.hours", P, "168", InEffect),
    d("log.roll.jitter.hours", I, "0", NoEffect),
    n("log.roll.jitter.ms", L, NoEffect),
    n("log.roll.ms", Long(1, i64::MAX), InEffect),
    d("log.segment.bytes", Int(1_048_576, i32::MAX), "1073741824", InEffect),
    d("log.segment.delete.delay.ms", L, "60000", InEffect),
    d("max.connection.creation.rate", I, "2147483647", NoEffect),
    d("max.connections", I, "2147483647", InEffect),
    d("max.connections.per.ip", I, "2147483647", NoEffect),
    d("max.connections.per.ip.overrides", Text, "", NoEffect),
    d("max.incremental.fetch.session.cache.slots", I, "1000", InEffect),
    d("max.request.partition.size.limit", P, "2000", NoEffect),
    d("message.max.bytes", I, "1048588", InEffect),
    n("metadata.log.dir", Text, NoEffect),
    d("metadata.log.max.record.bytes.between.snapshots", Long(1, i64::MAX), "20971520", NoEffect),
    d("metadata.log.max.snapshot.interval.ms", L, "3600000", NoEffect),
    d("metadata.log.segment.bytes", Int(8_388_608, i32::MAX), "1073741824", NoEffect),
    d("metadata.log.segment.ms", L, "604800000", NoEffect),
    d("metadata.max.idle.interval.ms", I, "500", NoEffect),
    d("metadata.max.retention.bytes", M, "104857600", NoEffect),
    d("metadata.max.retention.ms", M, "604800000", NoEffect),
    d("metric.reporters", List, "", NoEffect),
    d("metrics.num.samples", P, "2", NoEffect),
    d("metrics.recording.level", Text, "INFO", NoEffect),
    d("metrics.sample.window.ms", Long(1, i64::MAX), "30000", NoEffect),
    d("min.insync.replicas", P, "1", InEffect),
    d("node.id", I, "1", InEffect),
    d("num.io.threads", P, "8", NoEffect),
    d("num.network.threads", P, "3", NoEffect),
    d("num.partitions", P, "1", InEffect),
    d("num.recovery.threads.per.data.dir", P, "2", NoEffect),
    n("num.replica.alter.log.dirs.threads", Int(1, i32::MAX), NoEffect),
    d("num.replica.fetchers", I, "1", NoEffect),
    d("offset.metadata.max.bytes", I, "4096", NoEffect),
    d("offsets.commit.timeout.ms", P, "5000", NoEffect),
    d("offsets.load.buffer.size", P, "5242880", NoEffect),
    d("offsets.retention.check.interval.ms", Long(1, i64::MAX), "600000", NoEffect),
    d("offsets.retention.minutes", P, "10080", NoEffect),
    d("offsets.topic.compression.codec", Int(0, 4), "0", NoEffect),
    d("offsets.topic.num.partitions", P, "50", NoEffect),
    d("offsets.topic.replication.factor", Int(1, 32_767), "3", NoEffect),
    d("offsets.topic.segment.bytes", P, "104857600", NoEffect),
    n("principal.builder.class", Text, NoEffect),
    d("process.roles", ListOf(&["broker", "controller"]), "broker,controller", NoEffect),
    d("producer.id.expiration.check.interval.ms", P, "600000", NoEffect),
    d("producer.id.expiration.ms", P, "86400000", InEffect),
    d("producer.purgatory.purge.interval.requests", I, "1000", NoEffect),
    d("queued.max.request.bytes", M, "-1", NoEffect),
    d("queued.max.requests", P, "500", NoEffect),
    d("quota.window.num", P, "11", NoEffect),
    d("quota.window.size.seconds", P, "1", NoEffect),
    d("remote.log.storage.system.enable", Choice(&["false"]), "false", NoEffect),
    n("remote.log.storage.manager.class.name", Text, Refused(NO_REMOTE)),
    d("replica.alter.log.dirs.io.max.bytes.per.second", Long(1, i64::MAX), MAX, InEffect),
    d("replica.fetch.backoff.ms", I, "1000", NoEffect),
    d("replica.fetch.max.bytes", I, "1048576", NoEffect),
    d("replica.fetch.min.bytes", I, "1", NoEffect),
    d("replica.fetch.response.max.bytes", I, "10485760", NoEffect),
    d("replica.fetch.wait.max.ms", I, "500", NoEffect),
    d("replica.high.watermark.checkpoint.interval.ms", L, "5000", InEffect),
    d("replica.lag.time.max.ms", L, "30000", NoEffect),
    n("replica.selector.class", Text, NoEffect),
    d("replica.socket.receive.buffer.bytes", I, "65536", NoEffect),
    d("replica.socket.timeout.ms", I, "30000", NoEffect),
    d("replication.quota.window.num", P, "11", NoEffect),
    d("replication.quota.window.size.seconds", P, "1", NoEffect),
    d("request.timeout.ms", I, "30000", NoEffect),
    d("sasl.enabled.mechanisms", List, "GSSAPI", NoEffect),
    n("sasl.jaas.config", Secret, NoEffect),
    d("sasl.mechanism.controller.protocol", Text, "GSSAPI", NoEffect),
    d("sasl.mechanism.inter.broker.protocol", Text, "GSSAPI", NoEffect),
    d("security.inter.broker.protocol", Choice(&["PLAINTEXT"]), "PLAINTEXT", NoEffect),
    d("share.coordinator.state.topic.min.isr", P, "2", NoEffect),
    d("share.coordinator.state.topic.num.partitions", P, "50", NoEffect),
    d("share.coordinator.state.topic.replication.factor", P, "3", NoEffect),
    d("socket.connection.setup.timeout.max.ms", L, "30000", NoEffect),
    d("socket.connection.setup.timeout.ms", L, "10000", NoEffect),
    d("socket.listen.backlog.size", P, "50", NoEffect),
    d("socket.receive.buffer.bytes", Int(-1, i32::MAX), "102400", NoEffect),
    d("socket.request.max.bytes", P, "104857600", InEffect),
    d("socket.send.buffer.bytes", Int(-1, i32::MAX), "102400", NoEffect),
    d("ssl.client.auth", Choice(&["none", "requested", "required"]), "none", NoEffect),
    n("ssl.key.password", Secret, NoEffect),
    n("ssl.keystore.location", Text, NoEffect),
    n("ssl.keystore.password", Secret, NoEffect),
    n("ssl.truststore.location", Text, NoEffect),
    n("ssl.truststore.password", Secret, NoEffect),
    d("telemetry.max.bytes", P, "1048576", NoEffect),
    d("transaction.abort.timed.out.transaction.cleanup.interval.ms", P, "10000", NoEffect),
    d("transaction.max.timeout.ms", P, "900000", NoEffect),
    d("transaction.partition.verification.enable", Bool, "true", NoEffect),
    d("transaction.remove.expired.transaction.cleanup.interval.ms", P, "3600000", NoEffect),
    d("transaction.state.log.load.buffer.size", P, "5242880", NoEffect),
    d("transaction.state.log.min.isr", P, "2", NoEffect),
    d("transaction.state.log.num.partitions", P, "50", NoEffect),
    d("transaction.state.log.replication.factor", Int(1, 32_767), "3", NoEffect),
    d("transaction.state.log.segment.bytes", P, "104857600", NoEffect),
    d("transaction.two.phase.commit.enable", Bool, "false", NoEffect),
    d("transactional.id.expiration.ms", P, "604800000", NoEffect),
    d("unclean.leader.election.enable", Bool, "false", NoEffect),
    d("unstable.api.versions.enable", Bool, "false", NoEffect),
    d("unstable.feature.versions.enable", Bool, "false", NoEffect),
    n("zookeeper.connect", Text, Refused(NO_ZOOKEEPER)),
];

/// The setting with this name.
pub(crate) fn broker_setting(name: &str) -> Option<&'static Definition> {
    BROKER.iter().find(|definition| definition.name == name)
}

/// Whether this is a name of a family of Kafka's settings that have no effect here and that are not listed one
/// by one: security of listeners that cannot be opened anyway, and settings of plug-ins.
pub(crate) fn has_no_effect(name: &str) -> bool {
    const FAMILIES: &[&str] = &[
        "listener.name.",
        "sasl.",
        "ssl.",
        "metrics.",
        "group.share.",
        "group.streams.",
        "group.consumer.",
        "share.coordinator.",
        "remote.log.",
        "rlmm.config.",
        "rsm.config.",
        "delegation.token.",
        "password.encoder.",
        "security.providers",
        "confluent.",
    ];
    FAMILIES.iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_fit() {
        let mut names: Vec<&str> = BROKER.iter().map(|definition| definition.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        for definition in BROKER {
            if let Some(default) = definition.default {
                assert!(definition.check(default).is_ok(), "{}", definition.name);
            }
        }
    }

    #[test]
    fn every_broker_setting_behind_a_topic_setting_is_known() {
        for topic in highwater_control::topic_configs() {
            for name in topic.broker_names() {
                assert!(broker_setting(name).is_some(), "{name}");
            }
        }
    }
}
