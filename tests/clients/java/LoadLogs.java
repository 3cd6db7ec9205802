import java.io.File;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.record.internal.FileRecords;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.metadata.properties.MetaPropertiesEnsemble;
import org.apache.kafka.server.storage.log.FetchIsolation;
import org.apache.kafka.server.util.FileLock;
import org.apache.kafka.server.util.KafkaScheduler;
import org.apache.kafka.storage.internals.checkpoint.CleanShutdownFileHandler;
import org.apache.kafka.storage.internals.checkpoint.OffsetCheckpointFile;
import org.apache.kafka.storage.internals.checkpoint.PartitionMetadataFile;
import org.apache.kafka.storage.internals.log.LogConfig;
import org.apache.kafka.storage.internals.log.LogDirFailureChannel;
import org.apache.kafka.storage.internals.log.ProducerStateManagerConfig;
import org.apache.kafka.storage.internals.log.UnifiedLog;
import org.apache.kafka.storage.log.metrics.BrokerTopicStats;

/**
 * Loads a stopped log directory with Apache Kafka's own loader, as its LogManager does at start: LoadLogs DIRECTORY clean|unclean. One line a
 * partition, with what the loader made of it; fails on anything it refuses, and on any file that a clean load changes. LoadLogs DIRECTORY lock takes
 * the directory's lock as its LogManager does, says whether it got it, and holds it until its input ends.
 */
public final class LoadLogs {
    private final File directory;
    private final boolean clean;
    private final LogDirFailureChannel failures = new LogDirFailureChannel(10);
    private final KafkaScheduler scheduler = new KafkaScheduler(1);
    private final List<String> wrong = new ArrayList<>();

    private LoadLogs(File directory, boolean clean) {
        this.directory = directory;
        this.clean = clean;
    }

    private Map<TopicPartition, Long> checkpoint(String name) throws Exception {
        return new OffsetCheckpointFile(new File(directory, name), failures).read();
    }

    private static Map<String, Long> sizes(File partition) {
        Map<String, Long> sizes = new TreeMap<>();
        for (File file : partition.listFiles()) {
            sizes.put(file.getName(), file.length());
        }
        return sizes;
    }

    private void load(File partition, Map<TopicPartition, Long> starts, Map<TopicPartition, Long> recoveryPoints) throws Exception {
        TopicPartition name = UnifiedLog.parseTopicPartitionName(partition);
        Map<String, Long> before = sizes(partition);
        Optional<Uuid> id = Optional.empty();
        PartitionMetadataFile metadata = new PartitionMetadataFile(PartitionMetadataFile.newFile(partition), failures);
        if (metadata.exists()) {
            id = Optional.of(metadata.read().topicId());
        } else {
            wrong.add(name + ": no partition.metadata");
        }
        UnifiedLog log = UnifiedLog.create(partition, new LogConfig(Map.of()), starts.getOrDefault(name, 0L), recoveryPoints.getOrDefault(name, 0L),
            scheduler, new BrokerTopicStats(), Time.SYSTEM, 900_000, new ProducerStateManagerConfig(Integer.MAX_VALUE, false), 600_000, failures,
            clean, id);
        long batches = 0;
        long records = 0;
        log.updateHighWatermark(log.logEndOffset());
        long at = log.logStartOffset();
        while (at < log.logEndOffset()) {
            long from = at;
            for (RecordBatch batch : log.read(at, 8 << 20, FetchIsolation.LOG_END, true).records.batches()) {
                batch.ensureValid();
                batches++;
                records += batch.countOrNull();
                at = batch.nextOffset();
            }
            if (at == from) {
                wrong.add(name + ": nothing to read at " + at);
                break;
            }
        }
        System.out.printf("loaded %s start=%d end=%d segments=%d epoch=%s producers=%d batches=%d records=%d%n", name, log.logStartOffset(),
            log.logEndOffset(), log.numberOfSegments(), log.latestEpoch().map(String::valueOf).orElse("none"), log.activeProducers().size(), batches, records);
        log.closeHandlers();
        Map<String, Long> after = sizes(partition);
        for (Map.Entry<String, Long> file : before.entrySet()) {
            // The loader preallocates the last segment's indexes, drops snapshots that no segment needs and epochs without records.
            boolean its = file.getKey().endsWith("index") || file.getKey().endsWith(".snapshot")
                || file.getKey().equals("leader-epoch-checkpoint");
            if (!its && !file.getValue().equals(after.get(file.getKey()))) {
                wrong.add(name + ": " + file.getKey() + " was " + file.getValue() + " bytes, is " + after.get(file.getKey()));
            }
        }
    }

    private boolean run() throws Exception {
        MetaPropertiesEnsemble ensemble = new MetaPropertiesEnsemble.Loader().addLogDirs(List.of(directory.getPath())).load();
        if (!ensemble.errorLogDirs().isEmpty() || ensemble.logDirProps().isEmpty()) {
            wrong.add("meta.properties is not readable");
        }
        System.out.printf("directory node=%s cluster=%s clean=%s%n", ensemble.nodeId(), ensemble.clusterId(),
            new CleanShutdownFileHandler(directory.getPath()).exists());
        if (clean && !new CleanShutdownFileHandler(directory.getPath()).exists()) {
            wrong.add("no clean-shutdown marker");
        }
        Map<TopicPartition, Long> starts = checkpoint("log-start-offset-checkpoint");
        Map<TopicPartition, Long> recoveryPoints = checkpoint("recovery-point-offset-checkpoint");
        scheduler.startup();
        File[] partitions = directory.listFiles(File::isDirectory);
        Arrays.sort(partitions, Comparator.comparing(File::getName));
        for (File partition : partitions) {
            try {
                load(partition, starts, recoveryPoints);
            } catch (Exception | Error e) {
                wrong.add(partition.getName() + ": " + e);
            }
        }
        scheduler.shutdown();
        for (String what : wrong) {
            System.out.println("wrong: " + what);
        }
        return wrong.isEmpty() && partitions.length > 0;
    }

    public static void main(String[] args) throws Exception {
        if (args[1].equals("lock")) {
            System.out.println(new FileLock(new File(args[0], ".lock")).tryLock() ? "locked" : "held by another");
            System.in.readAllBytes();
            return;
        }
        boolean held = new LoadLogs(new File(args[0]), args[1].equals("clean")).run();
        System.exit(held ? 0 : 1);
    }
}
