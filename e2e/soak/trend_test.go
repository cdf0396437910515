package soak

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// point is a number at a time since the beginning.
type point struct {
	at    time.Duration
	value float64
}

// trend is how much something grows in a day, if it goes on as it did: the median of the slopes
// between any two points (Theil and Sen), and the ends of its 95 % confidence interval. A few
// points far off do not move it.
type trend struct{ slope, low, high float64 }

const day = 24 * time.Hour

// trendOf requires two points at least, at different times.
func trendOf(points []point) trend {
	var slopes []float64
	for i, p := range points {
		for _, q := range points[:i] {
			slopes = append(slopes, (p.value-q.value)/(p.at-q.at).Seconds()*day.Seconds())
		}
	}
	slices.Sort(slopes)
	n, all := float64(len(points)), float64(len(slopes))
	// How far from the middle the slopes are that bound the interval, by Kendall's statistic. With
	// very few points that is beyond all of them.
	apart := 1.96 * math.Sqrt(n*(n-1)*(2*n+5)/18)
	low := max(0, int(math.Floor((all-apart)/2)))
	high := min(len(slopes)-1, int(math.Ceil((all+apart)/2)))
	return trend{slope: median(slopes), low: slopes[low], high: slopes[high]}
}

// median requires sorted numbers, one at least.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// inBlocks returns the medians of that many successive parts of the points. What follows closely
// upon each other is alike, and an interval made of it all would be too narrow. Requires a point
// for each block.
func inBlocks(points []point, blocks int) (medians []point) {
	for i := range blocks {
		part := points[i*len(points)/blocks : (i+1)*len(points)/blocks]
		var values []float64
		at := time.Duration(0)
		for _, p := range part {
			values = append(values, p.value)
			at += p.at
		}
		slices.Sort(values)
		medians = append(medians, point{at / time.Duration(len(part)), median(values)})
	}
	return medians
}

// blocks is how many parts a soak is divided into.
const blocks = 30

// growth is the trend of points in blocks.
func growth(points []point) trend { return trendOf(inBlocks(points, min(blocks, len(points)))) }

// check returns an error unless what was measured proves that it grows by no more than limit a
// day.
func (t trend) check(limit float64) error {
	switch {
	case t.low > limit:
		return fmt.Errorf("grows by %.3g a day (95 %% between %.3g and %.3g): more than %.3g", t.slope, t.low, t.high, limit)
	case t.high > limit:
		return fmt.Errorf("may grow by more than %.3g a day (%.3g, 95 %% between %.3g and %.3g): measure longer", limit, t.slope, t.low, t.high)
	}
	return nil
}

// series is what a soak of half an hour may measure of something that grows by so much a day: a
// level, noise, some of which lasts for a few points, and a few points far off.
func series(seed uint64, perDay, noise float64) (points []point) {
	const every = 10 * time.Second
	rng := rand.New(rand.NewPCG(seed, 0))
	lasting := 0.0
	for at := time.Duration(0); at < 30*time.Minute; at += every {
		lasting = 0.5*lasting + rng.NormFloat64()
		value := 1e6 + perDay*at.Seconds()/day.Seconds() + noise*(lasting+rng.NormFloat64())
		if rng.IntN(50) == 0 {
			value += 100 * noise
		}
		points = append(points, point{at, value})
	}
	return points
}

func TestFlatSeriesPassesHoweverNoisy(t *testing.T) {
	for seed := range uint64(200) {
		require.NoError(t, growth(series(seed, 0, 10)).check(3000), "seed %d", seed)
		require.NoError(t, growth(series(seed, -5000, 10)).check(3000), "seed %d: what shrinks does not bleed", seed)
	}
	assert.Equal(t, trend{}, growth(series(1, 0, 0)), "without noise")
}

func TestBleedingSeriesFails(t *testing.T) {
	for seed := range uint64(200) {
		require.ErrorContains(t, growth(series(seed, 6000, 10)).check(3000), "grows by", "seed %d", seed)
	}
	bled := growth(series(1, 2000, 0))
	assert.InDelta(t, 2000, bled.slope, 1e-6)
	assert.InDelta(t, 2000, bled.low, 1e-6)
	assert.InDelta(t, 2000, bled.high, 1e-6)
}

func TestTooMuchNoiseIsNoProof(t *testing.T) {
	const runs = 200
	unknown := 0
	for seed := range uint64(runs) {
		if err := growth(series(seed, 0, 1000)).check(3000); err != nil && strings.Contains(err.Error(), "measure longer") {
			unknown++
		}
	}
	assert.GreaterOrEqual(t, unknown, runs*90/100, "an interval of 95 %% has the truth in it")
}

// The interval is what it is called: at least nine times out of ten, allowing for noise that
// lasts, the truth is in it.
func TestConfidenceIntervalContainsTheTruth(t *testing.T) {
	const runs, truth = 1000, 700.0
	within, width := 0, 0.0
	for seed := range uint64(runs) {
		got := growth(series(seed, truth, 10))
		require.LessOrEqual(t, got.low, got.slope)
		require.LessOrEqual(t, got.slope, got.high)
		if got.low <= truth && truth <= got.high {
			within++
		}
		width += (got.high - got.low) / runs
	}
	t.Logf("the truth is in %d of %d intervals, which are %.0f wide", within, runs, width)
	assert.GreaterOrEqual(t, within, runs*90/100)
	assert.Less(t, within, runs, "an interval that contains everything says nothing")
}

func TestTrendOfFewPoints(t *testing.T) {
	got := trendOf([]point{{0, 1}, {time.Hour, 2}})
	assert.Equal(t, trend{24, 24, 24}, got)
	got = trendOf([]point{{0, 0}, {time.Hour, 1}, {2 * time.Hour, 4}})
	assert.Equal(t, trend{48, 24, 72}, got)
	assert.Equal(t, []point{{time.Second, 2}, {4 * time.Second, 7}},
		inBlocks([]point{{0, 1}, {time.Second, 2}, {2 * time.Second, 3}, {3 * time.Second, 9}, {4 * time.Second, 7}, {5 * time.Second, 7}}, 2))
}
