package scaleout

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

const (
	kafkaAgentFile, kafkaGatewayFile = "agent-kafka.yaml", "gateway-kafka.yaml"

	group = "otel-gateways" // of the example
)

// topics are the defaults of exporter and receiver.
var topics = map[harness.Signal]string{
	harness.Traces: "otlp_spans", harness.Logs: "otlp_logs", harness.Metrics: "otlp_metrics",
}

// kafka is Kafka, as far as a client can tell: brokers in this process, which keep everything in memory.
type kafka struct {
	cluster *kfake.Cluster
	admin   *kadm.Client
}

func startKafka(tb testing.TB, partitions int) *kafka {
	tb.Helper()
	var names []string
	for _, topic := range topics {
		names = append(names, topic)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(int32(partitions), names...))
	require.NoError(tb, err)
	tb.Cleanup(cluster.Close)
	k := &kafka{cluster: cluster}
	k.admin = kadm.NewClient(k.client(tb))
	return k
}

// client returns a client that ends with the test.
func (k *kafka) client(tb testing.TB, opts ...kgo.Opt) *kgo.Client {
	tb.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(k.cluster.ListenAddrs()...))...)
	require.NoError(tb, err)
	tb.Cleanup(client.Close)
	return client
}

// environment tells collectors where Kafka is.
func (k *kafka) environment() string {
	var quoted []string
	for _, address := range k.cluster.ListenAddrs() {
		quoted = append(quoted, fmt.Sprintf("%q", address))
	}
	return fmt.Sprintf("KAFKA_BROKERS=[%s]", strings.Join(quoted, ", "))
}

// committed returns the offsets that the group has committed, by partition; absent: none.
func (k *kafka) committed(ctx context.Context, topic string) (map[int32]int64, error) {
	responses, err := k.admin.FetchOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	offsets := make(map[int32]int64)
	for partition, response := range responses[topic] {
		if response.Err != nil {
			return nil, response.Err
		}
		offsets[partition] = response.At
	}
	return offsets, nil
}

// ends returns the offsets behind the last messages, by partition.
func (k *kafka) ends(ctx context.Context, topic string) (map[int32]int64, error) {
	listed, err := k.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	offsets := make(map[int32]int64)
	for partition, end := range listed[topic] {
		if end.Err != nil {
			return nil, end.Err
		}
		offsets[partition] = end.Offset
	}
	return offsets, nil
}

// messages returns all messages of a topic that are there now, by partition and offset.
func (k *kafka) messages(tb testing.TB, topic string) map[int32][]*kgo.Record {
	tb.Helper()
	ends, err := k.ends(tb.Context(), topic)
	require.NoError(tb, err)
	reader := k.client(tb, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer reader.Close()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	found := make(map[int32][]*kgo.Record)
	for !readAll(found, ends) {
		fetches := reader.PollFetches(ctx)
		require.NoError(tb, fetches.Err0())
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset < ends[r.Partition] {
				found[r.Partition] = append(found[r.Partition], r)
			}
		})
	}
	return found
}

func readAll(found map[int32][]*kgo.Record, ends map[int32]int64) bool {
	for partition, end := range ends {
		if int64(len(found[partition])) < end {
			return false
		}
	}
	return true
}

// requireCommittedIsDelivered requires that the backend has all items of all messages before the offsets that are committed. It
// returns how many messages these are.
func (k *kafka) requireCommittedIsDelivered(tb testing.TB, backend *harness.Backend) (count int) {
	tb.Helper()
	for _, signal := range signals {
		topic := topics[signal]
		committed, err := k.committed(tb.Context(), topic)
		require.NoError(tb, err)
		delivered := make(map[uint64]bool) // read after the offsets
		for _, batch := range backend.Ledger(signal).Delivered() {
			for _, id := range batch.IDs {
				delivered[id] = true
			}
		}
		for partition, records := range k.messages(tb, topic) {
			for _, record := range records {
				if record.Offset >= committed[partition] {
					break
				}
				count++
				ids, err := signal.Identities(record.Value)
				require.NoError(tb, err)
				for _, id := range ids {
					require.True(tb, delivered[id], "%s/%d is committed up to %d, and item %d at %d has not been delivered",
						topic, partition, committed[partition], id, record.Offset)
				}
			}
		}
	}
	return count
}

// awaitCommitted waits until everything that is in Kafka is committed.
func (k *kafka) awaitCommitted(tb testing.TB) {
	tb.Helper()
	harness.Within(tb, time.Minute, func(ctx context.Context) error {
		for _, signal := range signals {
			ends, err := k.ends(ctx, topics[signal])
			if err != nil {
				return err
			}
			committed, err := k.committed(ctx, topics[signal])
			if err != nil {
				return err
			}
			for partition, end := range ends {
				if at := committed[partition]; at < end {
					return fmt.Errorf("%s/%d: %d of %d messages are committed", topics[signal], partition, at, end)
				}
			}
		}
		return nil
	})
}

// Gateways are killed while they export and while they do not, come back, and stop as they should. What agents acknowledged is in
// Kafka and arrives; what is committed has arrived, at any time.
func TestKafkaGatewaysAreKilledAndNothingAcknowledgedIsLost(t *testing.T) {
	const between = 20 // batches
	k := startKafka(t, 8)
	backend := harness.NewBackend(t)
	gateways := startGateways(t, kafkaGatewayFile, backend, 2, "{}", k.environment())
	var agents []*harness.Collector
	for range 2 {
		agents = append(agents, harness.StartFile(t, example(kafkaAgentFile), k.environment()))
	}
	load := startLoad(t, agents, 2, 50)
	awaitBatches(t, backend, between)

	progress(t, "one gateway is killed while it exports; the other takes over")
	backend.Hold()
	awaitHeld(t, gateways[0], signals...)
	kill(t, gateways[0])
	progress(t, "%d messages are committed", k.requireCommittedIsDelivered(t, backend))
	backend.Accept()
	awaitBatches(t, backend, between)
	gateways[0].Restart(t)
	awaitDelivered(t, gateways[0])
	awaitBatches(t, backend, between)

	progress(t, "the other is killed; this one takes over")
	kill(t, gateways[1])
	progress(t, "%d messages are committed", k.requireCommittedIsDelivered(t, backend))
	awaitBatches(t, backend, between)
	gateways[1].Restart(t)
	awaitDelivered(t, gateways[1])

	progress(t, "one stops and starts again")
	gateways[0].Stop(t)
	assert.NotZero(t, k.requireCommittedIsDelivered(t, backend))
	gateways[0].Restart(t)
	awaitDelivered(t, gateways[0])

	load.finish()
	k.awaitCommitted(t)
	progress(t, "%d messages are committed, all of them", k.requireCommittedIsDelivered(t, backend))
	requireNothingLost(t, backend, load)
	stopAll(t, agents...)
	stopAll(t, gateways...)
}

// What the test above would see if messages were marked before they are delivered, which is the receiver's default.
func TestOffsetsOfMessagesThatAreMarkedBeforeRunAhead(t *testing.T) {
	k := startKafka(t, 1)
	backend := harness.NewBackend(t)
	backend.Hold()
	k.produce(t, harness.Logs, 1, 20, 10)
	gateways := startGateways(t, kafkaGatewayFile, backend, 1, "receivers: {kafka: {message_marking: {after: false}}}", k.environment())
	harness.Until(t, func(ctx context.Context) error {
		committed, err := k.committed(ctx, topics[harness.Logs])
		if err == nil && committed[0] == 0 {
			err = fmt.Errorf("nothing is committed: %v", committed)
		}
		return err
	})
	assert.Empty(t, backend.Ledger(harness.Logs).Delivered())
	kill(t, gateways[0])
}

// produce writes messages of so many items into each partition.
func (k *kafka) produce(tb testing.TB, signal harness.Signal, partitions, messages, items int) {
	tb.Helper()
	producer := k.client(tb, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer producer.Close()
	var records []*kgo.Record
	for i := range messages {
		for partition := range partitions {
			ids := harness.Range{First: uint64((i*partitions + partition) * items), Items: items}
			records = append(records, &kgo.Record{Topic: topics[signal], Partition: int32(partition), Value: signal.Encoded(ids)})
		}
	}
	require.NoError(tb, producer.ProduceSync(tb.Context(), records...).FirstErr())
}

// kafkaExportTakes is how long the backend takes for each batch of the next test.
const kafkaExportTakes = 20 * time.Millisecond

// A partition waits for each of its messages. So what a gateway delivers is a message for each partition and export, or two
// exports if there are several partitions, as one message begins an export and the others wait for the next: items grow with
// partitions and with messages. Without flush_when_idle each message waits for timeout, too.
func TestKafkaPartitionsWaitForTheirMessages(t *testing.T) {
	file := newResults(t, "scale-out-kafka")
	for _, tt := range []struct {
		idle                        bool
		partitions, messages, items int // messages of each partition
	}{
		{false, 1, 10, 10},
		{false, 8, 10, 10},
		{true, 1, 100, 10},
		{true, 1, 100, 100},
		{true, 8, 50, 10},
		{true, 8, 50, 100},
		{true, 32, 25, 10},
	} {
		name := fmt.Sprintf("flush_when_idle=%v/partitions=%d/items=%d", tt.idle, tt.partitions, tt.items)
		t.Run(name, func(t *testing.T) {
			k := startKafka(t, tt.partitions)
			backend := harness.NewBackend(t)
			backend.Delay(kafkaExportTakes)
			k.produce(t, harness.Logs, tt.partitions, tt.messages, tt.items)
			gateways := startGateways(t, kafkaGatewayFile, backend, 1,
				fmt.Sprintf("processors: {boundedbatch: {flush_when_idle: %v}}", tt.idle), k.environment())
			ledger := backend.Ledger(harness.Logs)
			want := tt.partitions * tt.messages * tt.items
			ledger.Await(t, fmt.Sprintf("%d items", want), func(l *harness.Ledger) bool {
				taken, _ := l.Taken()
				return taken >= want
			})
			batches := ledger.Delivered()
			// From the first arrival: until then the group forms.
			took := batches[len(batches)-1].Answered.Sub(batches[0].Arrived)
			rate := float64(want) / took.Seconds()
			progress(t, "%d items in %v and %d batches: %.0f items/s", want, took.Round(time.Millisecond), len(batches), rate)
			file.record("Kafka/"+name, quantity{rate, "items/s"}, quantity{float64(want) / float64(len(batches)), "items/batch"})
			if tt.idle {
				cycles := 1.0
				if tt.partitions > 1 {
					cycles = 2
				}
				expected := float64(tt.partitions*tt.items) / (cycles * kafkaExportTakes.Seconds())
				// Less than it is, as a fetch is followed by the next when all partitions are done with it, but more than ticks allow.
				assert.GreaterOrEqual(t, rate, expected/4, "of a message for each partition and %v exports", cycles)
			} else {
				// Each message leaves at a tick of its own. The first arrives late, by less than a tick: it waits for a connection.
				assert.GreaterOrEqual(t, took, time.Duration(tt.messages-2)*200*time.Millisecond, "each message waits for timeout")
			}
			stopAll(t, gateways...)
		})
	}
}
