//go:build !race

package batcher

// raceEnabled: the race detector is off.
const raceEnabled = false
