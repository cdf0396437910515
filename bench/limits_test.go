package bench

import (
	"fmt"
	"time"
)

// Everything that is promised, in one place. report/spec.go has the aims once more.

// bar is what a measurement is held to.
type bar struct {
	aim float64 // what is wanted, and what the report shows as met or missed
	// held is what the tests enforce where the aim is not reached yet: no change may make it worse. 0: the aim.
	held  float64
	least bool // the more the better
}

func (b bar) enforced() float64 {
	if b.held != 0 {
		return b.held
	}
	return b.aim
}

// missed tells whether a value is beyond what the tests enforce by more than a factor.
func (b bar) missed(value, margin float64) bool {
	if b.least {
		return value*margin < b.enforced()
	}
	return value > b.enforced()*margin
}

// verdict is how the bar is shown beside a value.
func (b bar) verdict(value float64) string {
	shown := fmt.Sprintf("%.4g", b.aim)
	switch {
	case b.missed(value, 1):
		shown += " MISSED"
	case (bar{aim: b.aim, least: b.least}).missed(value, 1):
		shown += " not yet"
	}
	if b.held != 0 {
		shown += fmt.Sprintf(" (%.4g)", b.held)
	}
	return shown
}

// atMost is the verdict on a value with a limit that is enforced as it is.
func atMost(value, limit float64) string { return bar{aim: limit}.verdict(value) }

// claim is a promise about what a load costs.
type claim struct {
	of      quantity
	peer    peer // whose; "" is boundedbatch
	against peer // what of is divided by, round by round; "": nothing
	// medians: the median of all rounds is divided by the median of all rounds, because a round says too little: what is
	// left of it when the producers are subtracted is as large as chance.
	medians bool
	bar
}

func (c *claim) whose() peer {
	if c.peer == "" {
		return boundedbatch
	}
	return c.peer
}

// now is the claim where its aim is not reached yet.
func (c claim) now(held float64) claim {
	c.held = held
	return c
}

// margin is how far a claim may be missed before the tests fail: a count has none, because it is the same on any
// machine.
func (c *claim) margin() float64 {
	if c.against == "" {
		return 1
	}
	return *marginFlag
}

// helperShare is the most CPU of a request, as a share of what exporterhelper takes.
var helperShare = claim{of: cpu, against: helper, bar: bar{aim: 0.20}}

// ownHelperShare is the same of what is left of the CPU when the work of the producers is subtracted.
var ownHelperShare = claim{of: ownCPU, against: helper, medians: true, bar: bar{aim: 0.20}}

// nearFloor is the most CPU of a request, as a multiple of what counting and a move under one mutex take: what no peer's
// slowness hides.
var nearFloor = claim{of: cpu, against: floor, bar: bar{aim: 2, held: 3}}

// fewerBytes is the most that may be allocated for a request, as a share of what batch allocates.
var fewerBytes = claim{of: allocated, against: batch, bar: bar{aim: 0.45}}

// claims are those about loads, by name. Data points have none: finding them takes longer than all the rest, for every
// batcher.
var claims = map[string][]claim{
	"Consume/items=10/producers=1": {
		{of: cpu, against: batch, bar: bar{aim: 0.20, held: 0.35}}, helperShare, fewerBytes, nearFloor,
	},
	"Consume/items=10/producers=8": {
		{of: cpu, against: batch, bar: bar{aim: 0.30, held: 0.45}}, helperShare.now(0.35), fewerBytes,
	},
	"Consume/items=10/producers=64": {
		{of: cpu, against: batch, bar: bar{aim: 0.30, held: 0.45}}, helperShare.now(0.35), fewerBytes.now(0.5),
	},
	"Consume/items=100/producers=1":  {{of: cpu, against: batch, bar: bar{aim: 0.30, held: 0.6}}, helperShare},
	"Consume/items=100/producers=8":  {{of: cpu, against: batch, bar: bar{aim: 0.45, held: 0.65}}, helperShare.now(0.25)},
	"Consume/items=100/producers=64": {{of: cpu, against: batch, bar: bar{aim: 0.40, held: 0.6}}, helperShare.now(0.25)},

	"Busy/items=10/producers=1/work=6us": {{of: ownCPU, against: batch, medians: true, bar: bar{aim: 0.15}}, ownHelperShare},
	"Busy/items=10/producers=8/work=6us": {
		{of: ownCPU, against: batch, medians: true, bar: bar{aim: 0.40, held: 0.65}}, ownHelperShare.now(0.4),
	},
	"Paced/items=10/rate=2000": {
		{of: ownCPU, against: batch, medians: true, bar: bar{aim: 0.15, held: 0.3}},
		ownHelperShare,
	},

	"Telemetry/items=10/producers=1": {{of: cpu, peer: bytes, against: silent, bar: bar{aim: 1.02}}},

	"Unaligned/items=10/size=8192":  {{of: cpu, against: batch, bar: bar{aim: 0.30, held: 0.45}}},
	"Unaligned/items=100/size=8192": {{of: cpu, against: batch, bar: bar{aim: 0.30, held: 0.6}}},
	"Unaligned/items=30/size=1000":  {{of: cpu, against: batch, bar: bar{aim: 0.30, held: 0.75}}},

	"Tenants/items=10/tenants=1000/producers=1": {
		{of: cpu, against: batch, bar: bar{aim: 0.30, held: 0.4}}, {of: allocations, bar: bar{aim: tenantKeys, held: 1.15}},
	},
	"Tenants/items=10/tenants=1000/producers=8": {
		{of: cpu, against: batch, bar: bar{aim: 0.30, held: 0.65}}, {of: allocations, bar: bar{aim: tenantKeys, held: 1.15}},
	},

	"Contest/contest=slow_downstream": {
		{of: speed, against: batch, bar: bar{aim: 9.5, least: true}}, {of: speed, against: helper, bar: bar{aim: 1.1, least: true}},
	},
	"Contest/contest=defaults": {
		{of: speed, against: batch, bar: bar{aim: 2.5, least: true}}, {of: speed, against: queuebatch, bar: bar{aim: 5000, least: true}},
	},
	"Contest/contest=waiting": {
		{of: speed, against: concurrentbatch, bar: bar{aim: 1.7, held: 1, least: true}}, {of: cpu, against: concurrentbatch, bar: bar{aim: 0.55, held: 1.1}},
	},
	"Contest/contest=waiting_defaults": {{of: speed, against: helper, bar: bar{aim: 10, least: true}}},
}

const (
	// allocsPerBatch is the most that boundedbatch may allocate for a batch. Requests have no allowance of their own: a
	// batch of requests of 100 items is made of 82 of them, of requests of one item of 8192, and the limit is the same.
	allocsPerBatch = 10
	// waitingAllocs is the most that it may allocate for a request whose caller waits, its share of the batch included,
	// if a batch is of many requests; what it allocates for the batch has the same limit as if nobody waits.
	waitingAllocs = 2
	// tenantKeys is the most that it may allocate for a request that belongs to a tenant: once for each metadata key.
	tenantKeys = 1
)

// splitShareItems are in the largest request that batch cuts too.
const splitShareItems = 320_000

// splitLimit is the most that CPU and time may grow when the items of a request that is cut double.
const splitLimit = 2.5

var (
	// splitShare is the most time that cutting splitShareItems log records into batches of 100 may take, as a share of
	// batch's.
	splitShare = bar{aim: 0.02, held: 0.025}
	// splitRange is the most that an item of 1,000,000 may cost, as a multiple of one of 10,000.
	splitRange = bar{aim: 1.3}
)

// Walks over a request that it may cost more than without limits in bytes.
const (
	maxBytesWalks    = 1
	memoryLimitWalks = 1.5
	bothLimitsWalks  = 2.5
)

// byteTolerance is by how much a median may be above that, as a factor. A walk among the work
// of a batcher is not quite the same as one among others: while it waits for memory, the
// processor fetches ahead what comes after it, and what comes after is not another walk. And
// medians of the same code differ by a tenth from run to run.
const byteTolerance = 1.2

// What merge_resources has to be worth, for requests of five services.
var (
	mergePrice   = bar{aim: 400}              // ns of CPU for an incoming resource; shown, not enforced
	mergeShare   = bar{aim: 1}                // that, as a share of what encoding and decoding takes less
	mergedCodec  = bar{aim: 0.5, held: 0.65}  // encoding and decoding, of what it takes without; 1 item a request
	mergedShrink = bar{aim: 2.5, least: true} // encoded bytes; 1 item a request
)

// How full batches have to be at 100,000 items a second, as a share of batch's.
var (
	fillDefaults  = bar{aim: 0.98, least: true}
	fillSizeIsMax = bar{aim: 0.90, least: true}
)

// heldOverLimit is the most memory that may be held while downstream hangs, as a multiple of memory_limit.
var heldOverLimit = bar{aim: 1.2}

// What boundedbatch may take while it is idle, whatever the number of tenants it had.
const (
	idleCPU   = 0.2  // percent of a core
	idleShare = 0.01 // of the CPU that batch takes
	// idleSwitches a second are put down to the runtime, which now and then does
	// something for itself. A single timer at the default timeout makes 23 to 40.
	idleSwitches = 10.0
)

// bytesPerTenant is the most that it may keep of a tenant besides its data.
const bytesPerTenant = 1500

// defaultTimeout is that of every peer.
const defaultTimeout = 200 * time.Millisecond
