//go:build !linux

package batcher_test

import "time"

var processBegan = time.Now()

// threadTime is the time that passes, for want of something that others on the machine do not add to.
func threadTime() time.Duration { return time.Since(processBegan) }
