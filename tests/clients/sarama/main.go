// Command sarama-client is one of the round-trip programs: sync|async produce|consume BOOTSTRAP TOPIC CODEC N, with
// IBM/sarama. ../README.md describes the records.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/IBM/sarama"
)

const partitions = 3

var pool = makePool()

func makePool() []byte {
	out, x := make([]byte, 0, 65536), uint64(1)
	for len(out) < 65536 {
		x = x * 48271 % 2147483647
		out = append(out, bytes.Repeat([]byte{"0123456789abcdef"[x%16]}, 16)...)
	}
	return out
}

func value(codec string, i int) []byte {
	out := make([]byte, 0, 1024)
	out = append(out, codec...)
	out = append(out, ':')
	out = strconv.AppendInt(out, int64(i), 10)
	out = append(out, ':')
	start := i * 7919 % 64512
	return append(out, pool[start:start+1024-len(out)]...)
}

func message(topic, codec string, i int) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{
		Topic: topic, Partition: int32(i % partitions),
		Key: sarama.StringEncoder(strconv.Itoa(i)), Value: sarama.ByteEncoder(value(codec, i)),
		Headers: []sarama.RecordHeader{{Key: []byte("codec"), Value: []byte(codec)}},
	}
}

func config(codec string) (*sarama.Config, error) {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.MaxVersion
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Return.Successes = true
	cfg.Producer.Return.Errors = true
	cfg.Producer.Partitioner = sarama.NewManualPartitioner
	// One request in flight keeps the order of each partition through retries.
	cfg.Net.MaxOpenRequests = 1
	if err := cfg.Producer.Compression.UnmarshalText([]byte(codec)); err != nil {
		return nil, err
	}
	return cfg, nil
}

func create(bootstrap, topic string, cfg *sarama.Config) error {
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, cfg)
	if err != nil {
		return err
	}
	defer admin.Close()
	err = admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false)
	if errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return nil
	}
	return err
}

func produceSync(bootstrap, topic, codec string, n int) error {
	cfg, err := config(codec)
	if err != nil {
		return err
	}
	if err := create(bootstrap, topic, cfg); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, cfg)
	if err != nil {
		return err
	}
	defer producer.Close()
	// The first hundred one by one, each waiting for its own answer; then a thousand per call.
	for i := 0; i < n; {
		if i < 100 {
			if _, _, err := producer.SendMessage(message(topic, codec, i)); err != nil {
				return err
			}
			i++
			continue
		}
		var batch []*sarama.ProducerMessage
		for ; i < n && len(batch) < 1000; i++ {
			batch = append(batch, message(topic, codec, i))
		}
		if err := producer.SendMessages(batch); err != nil {
			return err
		}
	}
	return nil
}

func produceAsync(bootstrap, topic, codec string, n int) error {
	cfg, err := config(codec)
	if err != nil {
		return err
	}
	cfg.Producer.Idempotent = true
	if err := create(bootstrap, topic, cfg); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	producer, err := sarama.NewAsyncProducer([]string{bootstrap}, cfg)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		var first error
		for answered := 0; answered < n; answered++ {
			select {
			case <-producer.Successes():
			case e := <-producer.Errors():
				if first == nil {
					first = e
				}
			}
		}
		failed <- first
	}()
	for i := 0; i < n; i++ {
		producer.Input() <- message(topic, codec, i)
	}
	err = <-failed
	return errors.Join(err, producer.Close())
}

type tally struct{ records, duplicated, changed, distinct int }

func consume(bootstrap, topic, codec string, n int) error {
	cfg, err := config("none")
	if err != nil {
		return err
	}
	client, err := sarama.NewClient([]string{bootstrap}, cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	defer consumer.Close()
	var sum tally
	for p := int32(0); p < partitions; p++ {
		if err := consumePartition(client, consumer, topic, codec, n, p, &sum); err != nil {
			return fmt.Errorf("partition %d: %w", p, err)
		}
	}
	lost := n - sum.distinct
	fmt.Printf("records=%d lost=%d duplicated=%d changed=%d\n", sum.records, lost, sum.duplicated, sum.changed)
	if lost != 0 || sum.duplicated != 0 || sum.changed != 0 || sum.records != n {
		return errors.New("not what was sent")
	}
	return nil
}

func consumePartition(client sarama.Client, consumer sarama.Consumer, topic, codec string, n int, p int32, sum *tally) error {
	end, err := client.GetOffset(topic, p, sarama.OffsetNewest)
	if err != nil || end == 0 {
		return err
	}
	part, err := consumer.ConsumePartition(topic, p, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	defer part.Close()
	seen, nextIndex, nextOffset := map[int]bool{}, int(p), int64(0)
	for {
		var m *sarama.ConsumerMessage
		select {
		case m = <-part.Messages():
		case <-time.After(60 * time.Second):
			return errors.New("no message within 60 seconds")
		}
		sum.records++
		switch i, err := strconv.Atoi(string(m.Key)); {
		case err != nil || i < 0 || i >= n || int32(i%partitions) != p || !bytes.Equal(m.Value, value(codec, i)) ||
			len(m.Headers) != 1 || string(m.Headers[0].Key) != "codec" || string(m.Headers[0].Value) != codec:
			sum.changed++
		case seen[i]:
			sum.duplicated++
		default:
			seen[i] = true
			sum.distinct++
			if i < nextIndex || m.Offset != nextOffset {
				sum.changed++
			}
			nextIndex, nextOffset = i+partitions, m.Offset+1
		}
		if m.Offset >= end-1 {
			return nil
		}
	}
}

func main() {
	if len(os.Args) != 7 {
		fmt.Fprintln(os.Stderr, "usage: sarama-client sync|async produce|consume BOOTSTRAP TOPIC CODEC N")
		os.Exit(2)
	}
	kind, verb, bootstrap, topic, codec := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	n, err := strconv.Atoi(os.Args[6])
	if err == nil {
		switch {
		case verb == "consume":
			err = consume(bootstrap, topic, codec, n)
		case kind == "sync":
			err = produceSync(bootstrap, topic, codec, n)
		default:
			err = produceAsync(bootstrap, topic, codec, n)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
