import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** produce|consume BOOTSTRAP TOPIC CODEC N, with the Java client. ../README.md describes the records. */
public final class RoundTrip {
    private static final int PARTITIONS = 3;
    private static final byte[] POOL = pool();

    private static byte[] pool() {
        byte[] digits = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);
        byte[] out = new byte[65536];
        long x = 1;
        for (int i = 0; i < out.length; i += 16) {
            x = x * 48271 % 2147483647;
            Arrays.fill(out, i, i + 16, digits[(int) (x % 16)]);
        }
        return out;
    }

    private static byte[] value(String codec, int i) {
        byte[] prefix = (codec + ":" + i + ":").getBytes(StandardCharsets.US_ASCII);
        byte[] out = new byte[1024];
        System.arraycopy(prefix, 0, out, 0, prefix.length);
        System.arraycopy(POOL, (int) (i * 7919L % 64512), out, prefix.length, out.length - prefix.length);
        return out;
    }

    private static void produce(String bootstrap, String topic, String codec, int n) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1))).all().get();
        } catch (ExecutionException e) {
            if (!(e.getCause() instanceof TopicExistsException)) {
                throw e;
            }
        }
        AtomicReference<Exception> failed = new AtomicReference<>();
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "acks", "all", "compression.type", codec, "linger.ms", 5, "batch.size", 131072);
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Header> headers = List.of(new RecordHeader("codec", codec.getBytes(StandardCharsets.US_ASCII)));
            for (int i = 0; i < n; i++) {
                byte[] key = Integer.toString(i).getBytes(StandardCharsets.US_ASCII);
                producer.send(new ProducerRecord<>(topic, i % PARTITIONS, key, value(codec, i), headers), (metadata, error) -> {
                    if (error != null) {
                        failed.compareAndSet(null, error);
                    }
                });
            }
            producer.flush();
        }
        if (failed.get() != null) {
            throw failed.get();
        }
    }

    private static void consume(String bootstrap, String topic, String codec, int n) {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int p = 0; p < PARTITIONS; p++) {
            partitions.add(new TopicPartition(topic, p));
        }
        int records = 0;
        int duplicated = 0;
        int changed = 0;
        BitSet seen = new BitSet(n);
        int[] nextIndex = {0, 1, 2};
        long[] nextOffset = new long[PARTITIONS];
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "none", "check.crcs", true);
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            consumer.seekToBeginning(partitions);
            long quietSince = System.nanoTime();
            while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                ConsumerRecords<byte[], byte[]> polled = consumer.poll(Duration.ofSeconds(1));
                if (!polled.isEmpty()) {
                    quietSince = System.nanoTime();
                } else if (System.nanoTime() - quietSince > 60_000_000_000L) {
                    throw new IllegalStateException("no record within 60 seconds");
                }
                for (ConsumerRecord<byte[], byte[]> record : polled) {
                    records++;
                    int p = record.partition();
                    int i = index(record, codec, n);
                    if (i < 0) {
                        changed++;
                    } else if (seen.get(i)) {
                        duplicated++;
                    } else {
                        seen.set(i);
                        if (i < nextIndex[p] || record.offset() != nextOffset[p]) {
                            changed++;
                        }
                        nextIndex[p] = i + PARTITIONS;
                        nextOffset[p] = record.offset() + 1;
                    }
                }
            }
        }
        int lost = n - seen.cardinality();
        System.out.printf("records=%d lost=%d duplicated=%d changed=%d%n", records, lost, duplicated, changed);
        System.exit(lost == 0 && duplicated == 0 && changed == 0 && records == n ? 0 : 1);
    }

    /** The record's index, or -1 if anything about it is not as it was sent. */
    private static int index(ConsumerRecord<byte[], byte[]> record, String codec, int n) {
        int i;
        try {
            i = Integer.parseInt(new String(record.key(), StandardCharsets.US_ASCII));
        } catch (RuntimeException e) {
            return -1;
        }
        Header[] headers = record.headers().toArray();
        boolean same = i >= 0 && i < n && i % PARTITIONS == record.partition()
            && Arrays.equals(record.value(), value(codec, i))
            && headers.length == 1 && headers[0].key().equals("codec")
            && new String(headers[0].value(), StandardCharsets.US_ASCII).equals(codec);
        return same ? i : -1;
    }

    public static void main(String[] args) throws Exception {
        int n = Integer.parseInt(args[4]);
        switch (args[0]) {
            case "produce" -> produce(args[1], args[2], args[3], n);
            case "consume" -> consume(args[1], args[2], args[3], n);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }
}
