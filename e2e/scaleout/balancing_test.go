package scaleout

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

const gatewayFile, balancingFile = "gateway.yaml", "agent-load-balancing.yaml"

func startBalancingAgents(tb testing.TB, count int, gateways []*harness.Collector) (agents []*harness.Collector) {
	tb.Helper()
	for range count {
		agents = append(agents, harness.StartFileOver(tb, example(balancingFile), among(gateways)))
	}
	return agents
}

// Of three gateways one is killed in the midst of exports and comes back, one is killed and goes away for good, and the last two
// stop as in a rolling update, all under load. Whatever was acknowledged to a sender arrives.
func TestGatewaysAreKilledAndNothingAcknowledgedIsLost(t *testing.T) {
	const (
		senders = 3  // of each signal, protocol and agent
		largest = 50 // items of a request
		between = 30 // batches
	)
	backend := harness.NewBackend(t)
	gateways := startGateways(t, gatewayFile, backend, 3, "{}")
	agents := startBalancingAgents(t, 2, gateways)
	load := startLoad(t, agents, senders, largest)
	awaitBatches(t, backend, between)

	progress(t, "one gateway is killed while it exports, and comes back")
	backend.Hold()
	awaitHeld(t, gateways[0], harness.Traces) // of the others it may be that nothing belongs to it at the moment
	kill(t, gateways[0])
	backend.Accept()
	gateways[0].Restart(t)
	awaitDelivered(t, gateways[0])
	awaitBatches(t, backend, between)

	progress(t, "one is killed and is no more; agents are told")
	backend.Hold()
	awaitHeld(t, gateways[2], harness.Traces)
	kill(t, gateways[2])
	backend.Accept()
	gateways = gateways[:2]
	for _, agent := range agents {
		agent.ConfigureOver(t, among(gateways))
		agent.Reload(t)
	}
	awaitBatches(t, backend, between)

	progress(t, "the others are stopped and started, one after the other")
	for _, gateway := range gateways {
		gateway.Stop(t)
		gateway.Restart(t)
		awaitDelivered(t, gateway)
	}
	awaitBatches(t, backend, between)

	load.finish()
	requireNothingLost(t, backend, load)
	stopAll(t, agents...)
	stopAll(t, gateways...)
}

// What the test above would see if gateways did not wait for the result.
func TestGatewayThatDoesNotWaitLosesWhatItHeld(t *testing.T) {
	backend := harness.NewBackend(t)
	gateways := startGateways(t, gatewayFile, backend, 1, "processors: {boundedbatch: {wait_for_result: false}}")
	agents := startBalancingAgents(t, 1, gateways)
	backend.Hold()
	load := startLoad(t, agents, 1, 50)
	awaitHeld(t, gateways[0], signals...)
	load.finish() // what was sent is acknowledged, and nothing of it has arrived
	kill(t, gateways[0])
	for _, signal := range signals {
		backend.Ledger(signal).Await(t, "the end of all calls", func(l *harness.Ledger) bool { return l.UnderWay() == 0 })
		a := reckon(backend.Ledger(signal), load.journals[signal].Sent())
		progress(t, "%s: %v", signal.Name(), a)
		assert.NotZero(t, a.acknowledged, signal.Name())
		assert.Zero(t, a.arrived, signal.Name())
	}
	stopAll(t, agents...)
}

// The agent for Kubernetes finds its gateways by their name. Here that is an address, which needs no server of names.
func TestAgentFindsGatewaysByName(t *testing.T) {
	backend := harness.NewBackend(t)
	gateways := startGateways(t, gatewayFile, backend, 1, "{}")
	host, port, err := net.SplitHostPort(gateways[0].GRPCAddress())
	require.NoError(t, err)
	agent := harness.StartFile(t, example("agent-kubernetes.yaml"), "GATEWAY_HOST="+host, "GATEWAY_PORT="+port)
	for _, signal := range signals {
		var journal harness.Journal
		for _, client := range agent.Clients(t, nil) {
			ids := journal.Take(100)
			attempts, err := harness.SendPersistently(t.Context(), client, signal, ids) // while it looks up and connects
			require.NoError(t, err)
			journal.NoteAttempts(ids, harness.Acknowledged, attempts)
		}
		a := reckon(backend.Ledger(signal), journal.Sent())
		assert.Equal(t, account{acknowledged: 200, arrived: 200}, account{a.acknowledged, a.arrived, 0})
	}
	agent.Stop(t)
	stopAll(t, gateways...)
}
