/* Small librdkafka client beside rdkafka_performance: topic administration, and produce latency in an open loop.
 *
 *   openloop create BOOTSTRAP TOPIC PARTITIONS [NAME=VALUE...]
 *   openloop delete BOOTSTRAP TOPIC
 *   openloop latency BOOTSTRAP TOPIC PARTITIONS RATE SECONDS
 *   openloop disk FILE RATE SECONDS
 *
 * latency sends RATE records of 1 KiB a second, linger 0, acks=all, each at its own time whatever the answers do, and counts a
 * record's latency from the time at which it should have been sent, so that a stalled client or broker cannot hide
 * (coordinated omission). The first second is not counted. Prints
 *   records=N p50=US p90=US p99=US p999=US max=US failed=N late=US
 * in microseconds; late is how far the sending thread itself was ever behind.
 *
 * disk is the raw control: the same schedule without broker or network, each record 4 KiB into blocks of a file that have been written
 * before, one write and one fdatasync for all that are due.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what, const char *why) {
  fprintf(stderr, "openloop: %s: %s\n", what, why);
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
  char error[256];
  if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK) fail(name, error);
}

static rd_kafka_t *producer(rd_kafka_conf_t *conf, const char *bootstrap) {
  char error[256];
  set(conf, "bootstrap.servers", bootstrap);
  rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
  if (!rk) fail("client", error);
  return rk;
}

/* Waits for an admin answer and checks its one topic. */
static void admin_answer(rd_kafka_queue_t *queue, int created) {
  rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 60000);
  size_t count = 0;
  if (!event) fail("admin", "no answer within 60 seconds");
  if (rd_kafka_event_error(event)) fail("admin", rd_kafka_event_error_string(event));
  const rd_kafka_topic_result_t **topics =
      created ? rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count)
              : rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
  if (count != 1) fail("admin", "not one topic in the answer");
  if (rd_kafka_topic_result_error(topics[0])) {
    const char *why = rd_kafka_topic_result_error_string(topics[0]);
    fail(rd_kafka_topic_result_name(topics[0]), why ? why : rd_kafka_err2str(rd_kafka_topic_result_error(topics[0])));
  }
  rd_kafka_event_destroy(event);
}

static void create(const char *bootstrap, const char *name, int partitions, char **settings, int count) {
  rd_kafka_t *rk = producer(rd_kafka_conf_new(), bootstrap);
  rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
  char error[256];
  rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, 1, error, sizeof error);
  if (!topic) fail(name, error);
  for (int i = 0; i < count; i++) {
    char *equals = strchr(settings[i], '=');
    if (!equals) fail(settings[i], "expected NAME=VALUE");
    *equals = 0;
    rd_kafka_NewTopic_set_config(topic, settings[i], equals + 1);
  }
  rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
  admin_answer(queue, 1);
  rd_kafka_NewTopic_destroy(topic);
  rd_kafka_queue_destroy(queue);
  rd_kafka_destroy(rk);
}

static void delete(const char *bootstrap, const char *name) {
  rd_kafka_t *rk = producer(rd_kafka_conf_new(), bootstrap);
  rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
  rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(name);
  rd_kafka_DeleteTopics(rk, &topic, 1, NULL, queue);
  admin_answer(queue, 0);
  rd_kafka_DeleteTopic_destroy(topic);
  rd_kafka_queue_destroy(queue);
  rd_kafka_destroy(rk);
}

static int64_t start_ns, step_ns; /* record i is due at start_ns + i * step_ns */
static int64_t *latency_ns;       /* -1: not answered, -2: failed */
static int64_t late_ns;
static atomic_llong answered;
static atomic_int done;

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
  (void)rk, (void)opaque;
  int64_t i = (int64_t)(intptr_t)message->_private;
  latency_ns[i] = message->err ? -2 : now_ns() - (start_ns + i * step_ns);
  atomic_fetch_add(&answered, 1);
}

static void *poll_answers(void *rk) {
  while (!atomic_load(&done)) rd_kafka_poll(rk, 100);
  return NULL;
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* Prints what was measured, without the first second. */
static void report(const char *what, int64_t rate, int64_t count) {
  int64_t *counted = latency_ns + rate, n = 0, failed = 0;
  for (int64_t i = 0; i < count - rate; i++) {
    if (counted[i] < 0) failed++;
    else counted[n++] = counted[i];
  }
  if (n == 0) fail(what, "no record was answered");
  qsort(counted, n, sizeof *counted, ascending);
#define AT(permille) (counted[(n - 1) * (permille) / 1000] / 1000)
  printf("records=%" PRId64 " p50=%" PRId64 " p90=%" PRId64 " p99=%" PRId64 " p999=%" PRId64 " max=%" PRId64 " failed=%" PRId64
         " late=%" PRId64 "\n",
         n, AT(500), AT(900), AT(990), AT(999), counted[n - 1] / 1000, failed, late_ns / 1000);
}

static void prepare(int64_t rate, int64_t count) {
  latency_ns = malloc(count * sizeof *latency_ns);
  if (!latency_ns) fail("memory", strerror(errno));
  for (int64_t i = 0; i < count; i++) latency_ns[i] = -1;
  prctl(PR_SET_TIMERSLACK, 1);
  step_ns = INT64_C(1000000000) / rate;
}

/* Waits until record i is due. */
static void await_due(int64_t i, int64_t rate) {
  int64_t due = start_ns + i * step_ns, behind;
  struct timespec at = {due / 1000000000, due % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {}
  behind = now_ns() - due;
  if (i >= rate && behind > late_ns) late_ns = behind;
}

static void disk(const char *path, int64_t rate, int64_t seconds) {
  enum { BLOCK = 4096, BLOCKS = 16384, MOST = 64 };
  static char blocks[MOST * BLOCK] __attribute__((aligned(BLOCK)));
  int64_t count = rate * (seconds + 1);
  int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (file < 0) fail(path, strerror(errno));
  for (int i = 0; i < BLOCKS / MOST; i++)
    if (write(file, blocks, sizeof blocks) != (ssize_t)sizeof blocks) fail(path, strerror(errno));
  if (fsync(file)) fail(path, strerror(errno));
  prepare(rate, count);
  start_ns = now_ns() + 10000000;
  for (int64_t i = 0, next; i < count; i = next) {
    await_due(i, rate);
    int64_t due = (now_ns() - start_ns) / step_ns + 1, at = i % BLOCKS;
    next = due < count ? due : count;
    if (next > i + MOST) next = i + MOST;
    if (next - i > BLOCKS - at) next = i + BLOCKS - at;
    if (pwrite(file, blocks, (next - i) * BLOCK, at * BLOCK) != (next - i) * BLOCK || fdatasync(file)) fail(path, strerror(errno));
    int64_t now = now_ns();
    for (int64_t j = i; j < next; j++) latency_ns[j] = now - (start_ns + j * step_ns);
  }
  close(file);
  unlink(path);
  report(path, rate, count);
}

static void latency(const char *bootstrap, const char *topic, int partitions, int64_t rate, int64_t seconds) {
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "linger.ms", "0");
  set(conf, "acks", "all");
  set(conf, "socket.nagle.disable", "true");
  /* The Java client's default. librdkafka's, a million, lets a broker that falls behind answer a request for each record. */
  set(conf, "max.in.flight.requests.per.connection", "5");
  rd_kafka_conf_set_dr_msg_cb(conf, delivered);
  rd_kafka_t *rk = producer(conf, bootstrap);
  rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
  const struct rd_kafka_metadata *metadata;
  if (rd_kafka_metadata(rk, 0, rkt, &metadata, 30000)) fail(topic, "no metadata");
  rd_kafka_metadata_destroy(metadata);

  int64_t count = rate * (seconds + 1);
  prepare(rate, count);
  char payload[1024];
  for (size_t i = 0; i < sizeof payload; i++) payload[i] = "0123456789abcdef"[i * 7919 % 4099 % 16];
  pthread_t poller;
  if (pthread_create(&poller, NULL, poll_answers, rk)) fail("thread", strerror(errno));
  start_ns = now_ns() + 10000000;
  for (int64_t i = 0; i < count; i++) {
    await_due(i, rate);
    if (rd_kafka_produce(rkt, i % partitions, RD_KAFKA_MSG_F_COPY | RD_KAFKA_MSG_F_BLOCK, payload, sizeof payload, NULL, 0,
                         (void *)(intptr_t)i))
      fail("produce", rd_kafka_err2str(rd_kafka_last_error()));
  }
  for (int i = 0; i < 300 && atomic_load(&answered) < count; i++)
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 100000000}, NULL);
  atomic_store(&done, 1);
  pthread_join(poller, NULL);

  report(topic, rate, count);
  rd_kafka_topic_destroy(rkt);
  rd_kafka_destroy(rk);
}

int main(int argc, char **argv) {
  if (argc >= 5 && !strcmp(argv[1], "create")) create(argv[2], argv[3], atoi(argv[4]), argv + 5, argc - 5);
  else if (argc == 4 && !strcmp(argv[1], "delete")) delete(argv[2], argv[3]);
  else if (argc == 7 && !strcmp(argv[1], "latency")) latency(argv[2], argv[3], atoi(argv[4]), atoll(argv[5]), atoll(argv[6]));
  else if (argc == 5 && !strcmp(argv[1], "disk")) disk(argv[2], atoll(argv[3]), atoll(argv[4]));
  else fail("usage", "create B TOPIC PARTITIONS [NAME=VALUE...] | delete B TOPIC | latency B TOPIC PARTITIONS RATE SECONDS | disk FILE RATE SECONDS");
  return 0;
}
