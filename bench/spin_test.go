package bench

import (
	"sync"
	"sync/atomic"
	"time"
)

// spin is work that takes the same number of instructions each time, and no memory.
func spin(turns int) {
	x := uint64(turns) | 1
	for range turns {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	if x == 0 { // never, which the compiler does not know
		spun.Add(1)
	}
}

var spun atomic.Int64

// nsPerTurn is how long a turn of spin takes if nobody disturbs it.
var nsPerTurn = sync.OnceValue(func() float64 {
	const turns = 1_000_000
	least := time.Hour
	for range 10 {
		began := time.Now()
		spin(turns)
		least = min(least, time.Since(began))
	}
	return float64(least) / turns
})
