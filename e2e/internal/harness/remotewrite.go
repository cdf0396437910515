package harness

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/golang/snappy"
	"google.golang.org/protobuf/encoding/protowire"
)

// RemoteWrite is a backend for Prometheus remote write 1.0, which takes samples as Prometheus does: one that is older than
// the newest of its series, or as old and of another value, is refused.
type RemoteWrite struct {
	address string
	before  func(request int) (status int)

	mu         sync.Mutex          // guards everything below
	requests   int                 // that have come
	inside     int                 // of them: that have no answer yet
	most       int                 // that were inside at once
	series     map[string][]Sample // that were taken, by the labels of their series
	outOfOrder []string            // what was refused, the first few
	broken     error               // of requests that could not be read
}

// Sample is one of a series.
type Sample struct {
	Value     float64
	Timestamp int64 // milliseconds
}

// NewRemoteWrite starts such a backend, which ends with the test. Before is called by many goroutines at once, before anything
// of a request is taken, with the number of requests that came before it: it may wait, and a status other than 0 is the answer.
func NewRemoteWrite(tb testing.TB, before func(request int) (status int)) *RemoteWrite {
	tb.Helper()
	r := &RemoteWrite{before: before, series: make(map[string][]Sample)}
	l := listen(tb, "")
	r.address = l.Addr().String()
	server := &http.Server{Handler: r, ReadHeaderTimeout: patience}
	ended := make(chan error, 1)
	go func() { ended <- unlessStopped(server.Serve(l), http.ErrServerClosed) }()
	tb.Cleanup(func() {
		_ = server.Close() // it has no failure that matters
		if err := <-ended; err != nil {
			tb.Errorf("remote write backend: %v", err)
		}
	})
	return r
}

// URL is where to write.
func (r *RemoteWrite) URL() string { return "http://" + r.address + "/api/v1/write" }

// Series returns the samples that were taken, by the labels of their series as name=value, sorted and with commas between.
func (r *RemoteWrite) Series() map[string][]Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string][]Sample, len(r.series))
	for labels, samples := range r.series {
		all[labels] = slices.Clone(samples)
	}
	return all
}

// MostAtOnce returns how many requests were under way at the same time, at most.
func (r *RemoteWrite) MostAtOnce() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

// Check returns an error if a sample came out of order, or a request could not be read.
func (r *RemoteWrite) Check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.outOfOrder) > 0 {
		return errors.Join(r.broken, fmt.Errorf("out of order:\n%s", strings.Join(r.outOfOrder, "\n")))
	}
	return r.broken
}

// ServeHTTP implements http.Handler.
func (r *RemoteWrite) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	compressed, err := io.ReadAll(req.Body)
	r.mu.Lock()
	request := r.requests
	r.requests++
	r.inside++
	r.most = max(r.most, r.inside)
	r.mu.Unlock()
	status := 0
	if r.before != nil {
		status = r.before(request)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
	if status == 0 {
		status = r.take(compressed, err)
	}
	w.WriteHeader(status)
}

// take takes the samples of a request, whose body could be read if err is nil, and returns the answer. Requires r.mu held.
func (r *RemoteWrite) take(compressed []byte, err error) (status int) {
	var all []timeSeries
	if err == nil {
		var body []byte
		if body, err = snappy.Decode(nil, compressed); err == nil {
			all, err = readWriteRequest(body)
		}
	}
	if err != nil {
		r.broken = errors.Join(r.broken, err)
		return http.StatusBadRequest
	}
	status = http.StatusNoContent
	for _, series := range all {
		for _, s := range series.samples {
			taken := r.series[series.labels]
			if n := len(taken); n > 0 && (s.Timestamp < taken[n-1].Timestamp || s.Timestamp == taken[n-1].Timestamp && s != taken[n-1]) {
				status = http.StatusBadRequest
				if len(r.outOfOrder) < 5 {
					r.outOfOrder = append(r.outOfOrder, fmt.Sprintf("%+v behind %+v of %s", s, taken[n-1], series.labels))
				}
				continue
			}
			r.series[series.labels] = append(taken, s)
		}
	}
	return status
}

// timeSeries is what a request has of one series.
type timeSeries struct {
	labels  string // name=value, sorted and with commas between
	samples []Sample
}

// The numbers of fields in prometheus.WriteRequest and what is in it.
const (
	writeTimeSeries   = 1
	timeSeriesLabels  = 1
	timeSeriesSamples = 2
	labelName         = 1
	labelValue        = 2
	sampleValue       = 1
	sampleTimestamp   = 2
)

// readWriteRequest decodes a prometheus.WriteRequest, as far as it is looked at here.
func readWriteRequest(body []byte) (all []timeSeries, err error) {
	err = fields(body, func(number protowire.Number, of []byte, _ uint64) error {
		if number != writeTimeSeries {
			return nil
		}
		var series timeSeries
		var labels []string
		err := fields(of, func(number protowire.Number, of []byte, _ uint64) error {
			switch number {
			case timeSeriesLabels:
				var name, value string
				err := fields(of, func(number protowire.Number, text []byte, _ uint64) error {
					switch number {
					case labelName:
						name = string(text)
					case labelValue:
						value = string(text)
					}
					return nil
				})
				labels = append(labels, name+"="+value)
				return err
			case timeSeriesSamples:
				var s Sample
				err := fields(of, func(number protowire.Number, _ []byte, n uint64) error {
					switch number {
					case sampleValue:
						s.Value = math.Float64frombits(n)
					case sampleTimestamp:
						s.Timestamp = int64(n)
					}
					return nil
				})
				series.samples = append(series.samples, s)
				return err
			}
			return nil
		})
		slices.Sort(labels)
		series.labels = strings.Join(labels, ",")
		all = append(all, series)
		return err
	})
	return all, err
}

// fields calls visit for each field of a message: with its content, or with its number if it is one.
func fields(message []byte, visit func(number protowire.Number, content []byte, n uint64) error) error {
	for len(message) > 0 {
		number, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return protowire.ParseError(size)
		}
		message = message[size:]
		var content []byte
		var n uint64
		switch kind {
		case protowire.BytesType:
			content, size = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(message)
		case protowire.Fixed64Type:
			n, size = protowire.ConsumeFixed64(message)
		default:
			size = protowire.ConsumeFieldValue(number, kind, message)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := visit(number, content, n); err != nil {
			return err
		}
		message = message[size:]
	}
	return nil
}
