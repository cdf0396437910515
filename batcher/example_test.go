package batcher_test

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

func Example() {
	// Where the batches go: an OTLP client, a file, another Collector component.
	next := func(_ context.Context, ld plog.Logs) error {
		fmt.Println("a batch of", ld.LogRecordCount())
		return nil
	}
	b, err := batcher.New(batcher.Logs(), batcher.Settings{
		Timeout:              time.Minute, // no record waits longer
		SendBatchSize:        3,
		SendBatchMaxSize:     3,
		QueueSize:            100, // no more records are held, whatever next does
		BlockOnOverflow:      true,
		MaxConcurrentExports: 1,
		ShutdownTimeout:      10 * time.Second,
	}, next)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := b.Start(); err != nil {
		fmt.Println(err)
		return
	}
	for range 7 {
		ld := plog.NewLogs()
		ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body().SetStr("hello")
		if err := b.Consume(context.Background(), ld); err != nil {
			fmt.Println("not accepted:", err)
		}
	}
	if err := b.Shutdown(context.Background()); err != nil {
		fmt.Println("not delivered:", err)
	}
	// Output:
	// a batch of 3
	// a batch of 3
	// a batch of 1
}
