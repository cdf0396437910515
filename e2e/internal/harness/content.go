package harness

import (
	"fmt"
	"math"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Bulky is where the identities of bulky items begin. They have a text besides, of 10 bytes to
// 1 MiB, about as many between 10 and 100 bytes as between 100 kB and 1 MB. The smallest have
// nothing else but their identity.
const Bulky uint64 = 1 << 40

// Giant is the identity of an item with a text of 5 MiB. Those around it are bulky.
const Giant uint64 = 1 << 41

const (
	leastBulk = 10
	mostBulk  = 1 << 20
	giantBulk = 5 << 20
	slimBulk  = 200 // an item with less is slim
)

// bulk returns the length of the text of an item; 0: it has none.
func bulk(id uint64) int {
	switch {
	case id < Bulky:
		return 0
	case id == Giant:
		return giantBulk
	}
	part := float64(mix(^id)>>11) / (1 << 53) // 0 <= part < 1
	return int(leastBulk * math.Pow(float64(mostBulk)/leastBulk, part))
}

// text returns the text of an item that is bulky.
func text(id uint64) string {
	n, from := bulk(id), 0
	if n < giantBulk {
		from = int(mix(id) % (giantBulk - mostBulk))
	}
	return letters()[from : from+n]
}

// slim tells if an item has nothing but its identity and its text.
func slim(id uint64) bool { return id >= Bulky && bulk(id) < slimBulk }

// letters is what texts are cut from.
var letters = sync.OnceValue(func() string {
	var b strings.Builder
	b.Grow(giantBulk)
	for i := range uint64(giantBulk) {
		b.WriteByte(' ' + byte(mix(i)%95))
	}
	return b.String()
})

// textKey is the attribute with the text, where it is in one.
const textKey = "e2e.text"

// How many neighbours share a resource, a scope, a metric or profile. They are primes, so that
// the borders fall at every phase to each other and to the borders of requests.
const (
	perResource = 89
	perScope    = 13
	perMetric   = 7
	perProfile  = 5
)

// TenantKey is the resource attribute that names the tenant.
const TenantKey = "tenant.id"

// resources is how many different resources there are. The first is bare, each of the
// others is of a tenant of its own.
const resources = 23

// Tenant returns the value of the attribute tenant.id of the resource of an item; unset
// where the resource is bare.
func Tenant(id uint64) (name string, set bool) {
	variant := id / perResource % resources
	return tenantName(variant), variant != 0
}

func tenantName(variant uint64) string { return fmt.Sprintf("tenant-%d", variant) }

// walk calls resource, scope and item in the order in which a request nests them. An
// item is the first of its scope if one was begun for it.
func walk(ids Range, resource, scope func(variant uint64), item func(id uint64, first bool)) {
	for i := range uint64(ids.Items) {
		id := ids.First + i
		inner := i == 0
		if i == 0 || id%perResource == 0 {
			resource(id / perResource % resources)
			inner = true
		}
		if inner || id%perScope == 0 {
			scope(id / perScope % 5)
			inner = true
		}
		item(id, inner)
	}
}

// fillResource makes one of the resources; the first is bare.
func fillResource(variant uint64, r pcommon.Resource) (schemaURL string) {
	if variant == 0 {
		return ""
	}
	r.Attributes().PutStr("service.name", fmt.Sprintf("service-%d", variant))
	r.Attributes().PutStr(TenantKey, tenantName(variant))
	r.Attributes().PutInt("host.slot", int64(variant))
	r.Attributes().PutEmptySlice("host.roles").AppendEmpty().SetStr("edge")
	r.SetDroppedAttributesCount(uint32(variant))
	return fmt.Sprintf("https://schemas.test/resource/1.%d.0", variant)
}

// fillScope makes one of the scopes; the first is bare.
func fillScope(variant uint64, s pcommon.InstrumentationScope) (schemaURL string) {
	if variant == 0 {
		return ""
	}
	s.SetName(fmt.Sprintf("scope-%d", variant))
	s.SetVersion(fmt.Sprintf("v0.%d", variant))
	s.Attributes().PutBool("scope.even", variant%2 == 0)
	s.SetDroppedAttributesCount(uint32(variant) + 10)
	return fmt.Sprintf("https://schemas.test/scope/1.%d.0", variant)
}

// fillAttributes adds some attributes of several types.
func fillAttributes(id uint64, m pcommon.Map) {
	h := mix(id)
	m.PutStr("code", fmt.Sprintf("%08x", uint32(h)))
	if h%2 == 0 {
		m.PutDouble("share", float64(h%1000)/1000)
	}
	if h%5 == 0 {
		m.PutEmptyMap("nested").PutEmptyBytes("raw").FromRaw([]byte{byte(h >> 8), 0, byte(h >> 16)})
	}
}

// spanID is never zero, which would say that there is none.
func spanID(id uint64) (out pcommon.SpanID) {
	putBigEndian(out[:], id+1)
	return out
}

func traceID(id uint64) (out pcommon.TraceID) {
	putBigEndian(out[:8], mix(id))
	putBigEndian(out[8:], id+1)
	return out
}

func putBigEndian(to []byte, v uint64) {
	for i := range to {
		to[i] = byte(v >> (8 * (len(to) - 1 - i)))
	}
}

// timestamp is a point in time at least 50 years after 1970.
func timestamp(id uint64) pcommon.Timestamp {
	return pcommon.Timestamp(1_600_000_000_000_000_000 + id*1_000_003)
}

// mix scatters consecutive numbers (the finalizer of SplitMix64).
func mix(v uint64) uint64 {
	v += 0x9e3779b97f4a7c15
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}

// identityKey is the attribute with the identity of a log record or data point. A
// span has its identity in its span ID, a sample in its first value.
const identityKey = "e2e.item"

func putIdentity(id uint64, m pcommon.Map) { m.PutInt(identityKey, int64(id)) }

func identity(m pcommon.Map) (id uint64, known bool) {
	v, ok := m.Get(identityKey)
	if !ok || v.Type() != pcommon.ValueTypeInt {
		return 0, false
	}
	return uint64(v.Int()), true
}
