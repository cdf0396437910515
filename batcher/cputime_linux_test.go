package batcher_test

import (
	"syscall"
	"time"
)

const rusageThread = 1 // RUSAGE_THREAD

// threadTime is the CPU that the calling thread has taken, which what others do on the machine does not add to. The goroutine must
// keep its thread.
func threadTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
