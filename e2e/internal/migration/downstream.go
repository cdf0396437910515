package migration

import (
	"slices"
	"time"
)

// poison is an item that some do not take. It is alone in its request of busy.
const poison = 13

// The next components.
var (
	instant = &Downstream{Name: "instant", Text: "takes everything at once"}
	slow    = &Downstream{
		Name: "slow", Text: "takes 100 ms for a batch",
		Takes: func(time.Duration, []uint64) time.Duration { return 100 * ms },
	}
	uneven = &Downstream{
		Name: "uneven", Text: "takes 300 ms for a batch of 100 items and more, and no time for a smaller one",
		Takes: func(_ time.Duration, ids []uint64) time.Duration {
			if len(ids) >= 100 {
				return 300 * ms
			}
			return 0
		},
	}
	paused = &Downstream{
		Name: "paused", Text: "answers nothing until 10 s after the start, and at once from then on",
		Takes: func(at time.Duration, _ []uint64) time.Duration { return max(0, 10*time.Second-at) },
	}
	stuck = &Downstream{
		Name: "stuck", Text: "takes an hour for a batch, unless the call is canceled",
		Takes: func(time.Duration, []uint64) time.Duration { return time.Hour },
	}
	away = &Downstream{
		Name: "away", Text: "refuses batches for now until 0.3 s after the start",
		Answer: func(at time.Duration, _ []uint64) Answer {
			if at < 300*ms {
				return RefusedForNow
			}
			return Taken
		},
	}
	picky = &Downstream{
		Name: "picky", Text: "refuses batches with one certain item for good",
		Answer: func(_ time.Duration, ids []uint64) Answer {
			if slices.Contains(ids, poison) {
				return RefusedForGood
			}
			return Taken
		},
	}
	hostile = &Downstream{
		Name: "hostile", Text: "refuses every batch for good",
		Answer: func(time.Duration, []uint64) Answer { return RefusedForGood },
	}
)
