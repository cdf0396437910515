//go:build race

package batcher

// raceEnabled: the race detector is on, and gives every small object a block of its own.
const raceEnabled = true
