//! Partitions move between a broker's data directories, as clients ask for it and see it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use highwater_broker::{Broker, Settings, Source};
use highwater_engine::batch::BatchBuilder;
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};

/// A directory of this test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("moving-{name}-{}", std::process::id()));
        let _leftover = std::fs::remove_dir_all(&dir);
        Scratch(dir)
    }

    fn dirs(&self) -> [PathBuf; 3] {
        ["a", "b", "c"].map(|name| self.0.join(name))
    }

    /// A broker over the three, which copies so many bytes a second.
    fn broker(&self, rate: u64) -> Broker {
        let dirs = self.dirs().map(|dir| dir.display().to_string()).join(",");
        let settings = [
            ("log.dirs", dirs),
            ("listeners", "PLAINTEXT://127.0.0.1:0".to_owned()),
            ("highwater.shards", "2".to_owned()),
            ("log.segment.bytes", (1 << 20).to_string()),
            ("replica.alter.log.dirs.io.max.bytes.per.second", rate.to_string()),
        ];
        let settings: Vec<_> =
            settings.into_iter().map(|(name, value)| (Source::Flag, name.to_owned(), value)).collect();
        let settings = Settings::from_sources(&settings).expect("settings");
        Broker::start(settings, "127.0.0.1:0".parse().expect("an address"), "localhost").expect("it starts")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _already_gone = std::fs::remove_dir_all(&self.0);
    }
}

struct Client(TcpStream);

impl Client {
    fn of(broker: &Broker) -> Client {
        Client(TcpStream::connect(broker.address()).expect("it accepts"))
    }

    fn ask<R: Request>(&mut self, version: i16, body: &R) -> R::Response {
        let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
        let mut frame = vec![0; 4];
        header.encode(&mut frame, R::header_version(version)).expect("a header");
        body.encode(&mut frame, version).expect("a body");
        let len = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        self.0.write_all(&frame).expect("sent");
        let mut size = [0; 4];
        self.0.read_exact(&mut size).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(size) as usize];
        self.0.read_exact(&mut answer).expect("all of it");
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).expect("a header");
        R::Response::decode(&mut answer, version).expect("a body")
    }

    fn create(&mut self, name: &str) {
        let topic = CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        assert_eq!(self.ask(7, &request).topics[0].error_code, 0);
    }

    /// Appends one batch of 64 KiB; gives its offset.
    fn produce(&mut self, name: &str) -> i64 {
        let value = vec![7; 64 << 10];
        let batch = BatchBuilder::new().record(1_767_225_600_000, None, Some(&value)).build();
        let partition = PartitionProduceData::default().with_records(Some(Bytes::from(batch)));
        let data = TopicProduceData::default().with_name(topic(name)).with_partition_data(vec![partition]);
        let request =
            ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![data]);
        let answer = &self.ask(9, &request).responses[0].partition_responses[0];
        assert_eq!(answer.error_code, 0);
        answer.base_offset
    }

    /// How many batches there are, by reading all of them.
    fn count(&mut self, name: &str) -> i64 {
        let mut next = 0;
        loop {
            let records = self.fetch(name, next);
            let Some(len) = records.get(8..12) else { return next };
            let len = 12 + u32::from_be_bytes(len.try_into().expect("four bytes")) as usize;
            assert_eq!(records.len() % len, 0, "batches of one size");
            next += (records.len() / len) as i64;
        }
    }

    fn fetch(&mut self, name: &str, from: i64) -> Bytes {
        let partition = FetchPartition::default().with_fetch_offset(from).with_partition_max_bytes(64 << 20);
        let of = FetchTopic::default().with_topic(topic(name)).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_max_bytes(64 << 20).with_topics(vec![of]);
        let answer = &self.ask(12, &request).responses[0].partitions[0];
        assert_eq!(answer.error_code, 0);
        answer.records.clone().unwrap_or_default()
    }

    fn move_to(&mut self, name: &str, index: i32, to: &Path) -> i16 {
        let of = AlterReplicaLogDirTopic::default().with_name(topic(name)).with_partitions(vec![index]);
        let path = StrBytes::from_string(to.display().to_string());
        let dir = AlterReplicaLogDir::default().with_path(path).with_topics(vec![of]);
        let answer = self.ask(2, &AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]));
        answer.results[0].partitions[0].error_code
    }

    /// Where the one partition of a topic lies, and where its copy: directory and lag.
    fn places(&mut self, name: &str) -> (Vec<String>, Vec<(String, i64)>) {
        let (mut here, mut copies) = (Vec::new(), Vec::new());
        for dir in self.ask(4, &DescribeLogDirsRequest::default().with_topics(None)).results {
            let path = dir.log_dir.to_string();
            for partition in
                dir.topics.iter().filter(|of| of.name == topic(name)).flat_map(|of| &of.partitions)
            {
                match partition.is_future_key {
                    true => copies.push((path.clone(), partition.offset_lag)),
                    false => here.push(path.clone()),
                }
            }
        }
        (here, copies)
    }

    /// Asks until the topic lies in this directory and nothing moves.
    fn await_moved(&mut self, name: &str, to: &Path) {
        for _ in 0..1_000_000 {
            let (here, copies) = self.places(name);
            if here == [to.display().to_string()] && copies.is_empty() {
                return;
            }
            std::thread::yield_now();
        }
        panic!("it never gets there: {:?}", self.places(name));
    }
}

fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// Names of partitions' directories in a data directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("orders")).collect()
}

#[test]
fn a_partition_moves_while_it_is_written_to_and_is_found_there_again() {
    let scratch = Scratch::new("moves");
    let [a, b, c] = scratch.dirs();
    let broker = scratch.broker(i64::MAX as u64);
    let mut client = Client::of(&broker);
    client.create("orders");
    for offset in 0..50 {
        assert_eq!(client.produce("orders"), offset);
    }
    assert_eq!(client.count("orders"), 50);
    client.await_moved("orders", &a);
    let mut next = 50;
    for to in [&b, &c, &a, &b] {
        assert_eq!(client.move_to("orders", 0, to), 0);
        for _ in 0..5 {
            assert_eq!(client.produce("orders"), next);
            next += 1;
        }
        client.await_moved("orders", to);
        assert_eq!(client.produce("orders"), next);
        next += 1;
        assert_eq!(client.count("orders"), next);
    }
    assert_eq!(client.move_to("orders", 0, &b), 0, "it is there");
    assert_eq!(client.move_to("orders", 0, Path::new("/none")), 57, "LOG_DIR_NOT_FOUND");
    assert_eq!(client.move_to("orders", 1, &a), 3, "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(client.move_to("nobody", 0, &a), 3, "UNKNOWN_TOPIC_OR_PARTITION");
    drop(client);
    broker.stopper().stop();
    broker.wait().expect("a clean stop");
    assert_eq!(names(&b), ["orders-0"]);

    let broker = scratch.broker(i64::MAX as u64);
    let mut client = Client::of(&broker);
    assert_eq!(client.count("orders"), next);
    assert_eq!(client.produce("orders"), next);
    assert_eq!(client.places("orders").0, [b.display().to_string()]);
    drop(client);
    broker.stopper().stop();
    broker.wait().expect("a clean stop");
}

#[test]
fn a_slow_move_is_seen_replaced_ended_and_gone_on_with_by_the_next_start() {
    let scratch = Scratch::new("slow");
    let [a, b, c] = scratch.dirs();
    let broker = scratch.broker(1);
    let mut client = Client::of(&broker);
    client.create("orders");
    client.create("other");
    for offset in 0..200 {
        assert_eq!(client.produce("orders"), offset);
    }
    client.await_moved("orders", &a);
    let copy = |path: &Path, lag| vec![(path.display().to_string(), lag)];
    assert_eq!(client.move_to("orders", 0, &b), 0);
    assert_eq!(client.places("orders"), (vec![a.display().to_string()], copy(&b, 200)));
    assert_eq!(client.move_to("orders", 0, &c), 0, "another directory takes its place");
    assert_eq!(client.places("orders").1, copy(&c, 200));
    assert_eq!(client.move_to("orders", 0, &a), 0, "where it is ends the move");
    assert_eq!(client.places("orders"), (vec![a.display().to_string()], vec![]));
    assert_eq!(client.move_to("orders", 0, &b), 0);
    // Behind the first one, and it waits for that.
    assert_eq!(client.move_to("other", 0, &c), 0);
    assert_eq!(client.produce("orders"), 200);
    let asked = client.places("orders").1;
    assert_eq!(asked.len(), 1);
    drop(client);
    broker.stopper().stop();
    broker.wait().expect("a clean stop");
    let copies = names(&b);
    assert!(copies.iter().any(|name| name.ends_with("-future")), "{copies:?}");

    let broker = scratch.broker(i64::MAX as u64);
    let mut client = Client::of(&broker);
    client.await_moved("orders", &b);
    assert_eq!(client.produce("orders"), 201);
    drop(client);
    broker.stopper().stop();
    broker.wait().expect("a clean stop");
    let broker = scratch.broker(i64::MAX as u64);
    broker.stopper().stop();
    broker.wait().expect("a clean stop");
    assert_eq!([&a, &b, &c].map(|dir| names(dir)), [Vec::new(), vec!["orders-0".to_owned()], Vec::new()]);
}
