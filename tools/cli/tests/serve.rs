//! The program as people run it: started, asked, stopped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A directory of this test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("highwater-cli-{name}-{}", std::process::id()));
        let _leftover = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _already_gone = std::fs::remove_dir_all(&self.0);
    }
}

fn highwater(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args(args);
    command
}

fn run(args: &[&str]) -> Output {
    highwater(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running broker; killed at the end if it was not stopped.
struct Broker {
    child: Child,
    at: String,
    /// The line that it prints when it is ready.
    ready: String,
}

impl Broker {
    /// Starts one and waits for its line.
    fn start(data: &Path, args: &[&str]) -> Broker {
        Broker::start_in(Path::new("."), data, args)
    }

    fn start_in(at: &Path, data: &Path, args: &[&str]) -> Broker {
        let mut child = highwater(&["serve", "--listen", "127.0.0.1:0", "--config", "highwater.shards=2"])
            .current_dir(at)
            .arg("--data")
            .arg(data)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let at = line.strip_prefix("highwater: ready on ").and_then(|rest| rest.split(',').next());
        let at = at.unwrap_or_else(|| panic!("no ready line: {line:?}; {}", errors(&mut child))).to_owned();
        Broker { child, at, ready: line }
    }

    fn topics(&self, args: &[&str]) -> Output {
        run(&[&["topics"], args, &["--bootstrap", &self.at]].concat())
    }

    /// Sends a signal and waits for the end.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        (status.code(), errors(&mut self.child))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_waited_for = self.child.wait();
    }
}

fn errors(child: &mut Child) -> String {
    let mut all = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut all).unwrap();
    }
    all
}

#[test]
fn topics_survive_a_clean_stop_and_a_kill() {
    let scratch = Scratch::new("survive");
    let broker = Broker::start(&scratch.data(), &[]);
    let created = broker.topics(&["create", "orders", "--partitions", "3", "--config", "retention.ms=1000"]);
    assert_eq!(
        text(&created.stdout),
        "created topic orders with 3 partitions\n",
        "{}",
        text(&created.stderr)
    );
    let described = text(&broker.topics(&["describe", "orders"]).stdout);
    let (status, log) = broker.end("-TERM");
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("stopped cleanly"), "{log}");
    assert!(scratch.data().join(".kafka_cleanshutdown").exists());

    let broker = Broker::start(&scratch.data(), &[]);
    assert!(!scratch.data().join(".kafka_cleanshutdown").exists());
    let again = text(&broker.topics(&["describe", "orders"]).stdout);
    assert_eq!(again.lines().next(), described.lines().next());
    assert!(again.contains("retention.ms=1000"), "{again}");
    assert!(broker.topics(&["create", "late"]).status.success());
    broker.end("-KILL");

    let broker = Broker::start(&scratch.data(), &[]);
    assert_eq!(text(&broker.topics(&["list"]).stdout), "late\norders\n");
    let (status, log) = broker.end("-INT");
    assert_eq!(status, Some(0), "{log}");
    let verified = run(&["verify", scratch.data().to_str().unwrap()]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
}

#[test]
fn a_topic_is_altered_and_deleted_and_its_name_is_free_again() {
    let scratch = Scratch::new("alter");
    let broker = Broker::start(&scratch.data(), &[]);
    assert!(broker.topics(&["create", "t", "--partitions", "2"]).status.success());
    let shrunk = broker.topics(&["alter", "t", "--partitions", "1"]);
    assert_eq!(shrunk.status.code(), Some(1));
    let why = text(&shrunk.stderr);
    assert!(why.contains("INVALID_PARTITIONS") && why.contains('2') && why.contains('1'), "{why}");
    let altered = broker.topics(&["alter", "t", "--partitions", "4", "--config", "segment.bytes=2000000"]);
    assert!(altered.status.success(), "{}", text(&altered.stderr));
    let described = text(&broker.topics(&["describe", "t"]).stdout);
    assert!(described.contains("partitions 4") && described.contains("segment.bytes=2000000"), "{described}");
    let refused = broker.topics(&["alter", "t", "--config", "cleanup.policy=shrink"]);
    assert!(text(&refused.stderr).contains("INVALID_CONFIG"), "{}", text(&refused.stderr));
    for _ in 0..3 {
        assert!(broker.topics(&["delete", "t"]).status.success());
        assert!(broker.topics(&["create", "t"]).status.success());
    }
    assert_eq!(broker.topics(&["delete", "never"]).status.code(), Some(1));
}

#[test]
fn a_directory_s_name_does_not_depend_on_where_the_broker_was_started() {
    let scratch = Scratch::new("absolute");
    let broker = Broker::start_in(&scratch.0, Path::new("data"), &[]);
    let expected = format!("data in {}\n", scratch.data().display());
    assert!(broker.ready.ends_with(&expected), "{}", broker.ready);
    let two = run(&["serve", "--data", "a,b"]);
    assert_eq!(two.status.code(), Some(2));
    assert!(text(&two.stderr).contains("give --data again for each more"), "{}", text(&two.stderr));
}

#[test]
fn a_second_serve_is_refused_with_the_process_id_of_the_first() {
    let scratch = Scratch::new("second");
    let broker = Broker::start(&scratch.data(), &[]);
    let second = run(&["serve", "--listen", "127.0.0.1:0", "--data", scratch.data().to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(2));
    let why = text(&second.stderr);
    assert!(why.contains(&format!("process {}", broker.child.id())), "{why}");
    let other = Scratch::new("second-port");
    let same_port = run(&["serve", "--listen", &broker.at, "--data", other.data().to_str().unwrap()]);
    assert_eq!(same_port.status.code(), Some(2));
    assert!(text(&same_port.stderr).contains("--listen"), "{}", text(&same_port.stderr));
}

#[test]
fn a_port_by_itself_is_answered_with_the_flag_that_takes_it() {
    for args in [&["serve", "--port", "1234"][..], &["serve", "--port=1234"]] {
        let refused = run(args);
        let why = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{why}");
        assert!(why.contains("'--port") && why.contains("--listen 127.0.0.1:9092"), "{why}");
    }
}

#[test]
fn a_directory_of_somebody_elses_is_left_untouched() {
    let scratch = Scratch::new("foreign");
    std::fs::create_dir_all(scratch.data()).unwrap();
    std::fs::write(scratch.data().join("thesis.txt"), "mine").unwrap();
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--data", scratch.data().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("thesis.txt"), "{}", text(&refused.stderr));
    let left: Vec<_> =
        std::fs::read_dir(scratch.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["thesis.txt"]);
}

#[test]
fn apache_kafkas_topics_are_not_touched_while_no_catalog_knows_them() {
    let scratch = Scratch::new("apache");
    let partition = scratch.data().join("orders-0");
    std::fs::create_dir_all(&partition).unwrap();
    let meta = "#\n#now\ncluster.id=abc\ndirectory.id=AAAAAAAAAAAAAAAAAAAB9A\nnode.id=1\nversion=1\n";
    std::fs::write(scratch.data().join("meta.properties"), meta).unwrap();
    std::fs::write(partition.join("00000000000000000000.log"), "").unwrap();
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--data", scratch.data().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    let why = text(&refused.stderr);
    assert!(why.contains("Apache Kafka") && why.contains("orders-0"), "{why}");
    assert_eq!(std::fs::read_to_string(scratch.data().join("meta.properties")).unwrap(), meta);
}

#[test]
fn settings_that_cannot_be_are_refused_with_what_can() {
    for (setting, expected) in [
        ("num.partitions=0", "at least 1"),
        ("num.partitons=2", "num.partitions"),
        ("log.cleanup.policy=shrink", "compact"),
        ("listeners=SSL://:9093", "PLAINTEXT"),
    ] {
        let refused = run(&["serve", "--config", setting]);
        assert_eq!(refused.status.code(), Some(2), "{setting}");
        assert!(text(&refused.stderr).contains(expected), "{setting}: {}", text(&refused.stderr));
    }
}

#[test]
fn partitions_go_to_the_emptiest_directory_and_settings_without_effect_are_named_once() {
    let scratch = Scratch::new("dirs");
    let (first, second) = (scratch.0.join("a"), scratch.0.join("b"));
    let file = scratch.0.join("server.properties");
    std::fs::write(
        &file,
        "# Kafka's\nnum.network.threads=3\nnum.partitions=9\nprocess.roles=broker,controller\n",
    )
    .unwrap();
    let (second_arg, file_arg) = (second.to_str().unwrap(), file.to_str().unwrap());
    let more = ["--data", second_arg, "--config-file", file_arg, "--config", "num.partitions=4"];
    let broker = Broker::start(&first, &more);
    assert!(broker.topics(&["create", "t"]).status.success());
    let partitions = |dir: &Path| {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("t-")).count()
    };
    assert_eq!((partitions(&first), partitions(&second)), (2, 2));
    let (status, log) = broker.end("-TERM");
    assert_eq!(status, Some(0), "{log}");
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("without effect")).collect();
    assert!(matches!(warnings[..], [one] if one.contains("num.network.threads, process.roles")), "{log}");
    // Given in the other order, they are the same directories.
    let broker = Broker::start(&second, &["--data", first.to_str().unwrap()]);
    assert_eq!(text(&broker.topics(&["list"]).stdout), "t\n");
}

#[test]
fn bytes_that_are_no_request_close_their_connection_and_nothing_else() {
    let scratch = Scratch::new("bytes");
    let broker = Broker::start(&scratch.data(), &[]);
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[0xff; 16],
        &[0x7f, 0xff, 0xff, 0xff, 0],
        &[0, 0, 0, 0],
        &[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 7, 0xff, 0xff],
    ] {
        let mut stream = TcpStream::connect(&broker.at).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // A reset is as good as a close: the bytes behind the bad ones were not read.
        let _reset = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{bytes:?}: {answer:?}");
    }
    assert!(broker.topics(&["list"]).status.success());
    let (_, log) = broker.end("-TERM");
    assert!(log.contains("HTTP") && log.contains("the connection is closed"), "{log}");
}
