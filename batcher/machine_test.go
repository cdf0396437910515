package batcher_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// Limits of what a fuzzer can ask for, so that it tries many short programs.
const (
	mostSteps    = 100
	mostItems    = 1200
	mostProfiles = 300 // to check them takes several times as long
)

// FuzzBatcher runs a batcher as a state machine and compares it with batchertest.Model after every step.
// The settings are choices of someSettings, and the program has two bytes for each step, see machine.step.
// Nothing moves between two steps, so that a program does nearly the same each time.
func FuzzBatcher(f *testing.F) {
	f.Add(uint8(0), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, signal uint8, settings, program []byte) {
		synctest.Test(t, func(t *testing.T) {
			switch signal % 4 {
			case 0:
				runMachine(t, batchertest.Traces(), settings, program)
			case 1:
				runMachine(t, batchertest.Logs(), settings, program)
			case 2:
				runMachine(t, batchertest.Metrics(), settings, program)
			case 3:
				runMachine(t, batchertest.Profiles(), settings, program)
			}
		})
	})
}

// machine is a batcher with its surroundings: callers, and a downstream whose export calls wait for
// their answers.
type machine[T any] struct {
	*rig[T]
	set     batcher.Settings
	model   *batchertest.Model
	callers []*machineCaller // whose Consume has not returned
	order   int
	down    *shuttingDown // nil: not yet
	did     []string      // a word for each step

	mu    sync.Mutex     // guards everything below
	calls []*machineCall // whose answer is not given, in the order in which they began
	mode  int            // the answer that calls get when they begin
}

// machineCaller is a call of Consume.
type machineCaller struct {
	*batchertest.Request
	cancel context.CancelFunc
	ended  time.Time // when it returned
	result chan error
}

// machineCall is an export call.
type machineCall struct {
	batchertest.Batch
	answer chan int // one slot
}

// shuttingDown is a call of Shutdown.
type shuttingDown struct {
	began    time.Time
	deadline time.Time // zero: none
	took     time.Duration
	err      error
	done     chan struct{}
}

func (d *shuttingDown) over() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// cut tells whether the time has come when exports are canceled and what is left is dropped.
func (d *shuttingDown) cut() bool {
	return !d.deadline.IsZero() && !time.Now().Before(d.deadline.Add(-min(time.Second, d.deadline.Sub(d.began)/20)))
}

func runMachine[T any](t *testing.T, kind batchertest.Kind[T], settings, program []byte) {
	set := someSettings(&batcher.Written{Left: settings})
	set.Retry.RandomizationFactor = 0
	m := &machine[T]{set: set, model: batchertest.NewModel(kind.Name(), set)}
	m.rig = newRig(t, kind, set, m.respond)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%+v\n%s", set, strings.Join(m.did, "\n"))
		}
	})
	most := mostItems
	if kind.Name() == "profiles" {
		most = mostProfiles
	}
	for n := 0; len(program) >= 2 && n < mostSteps && m.next < most && !t.Failed(); n++ {
		what := m.step(program[0], int(program[1]))
		program = program[2:]
		m.settle(what)
	}
	m.finish(len(program) == 1)
}

// step does one thing, by three bits of its first byte; the others and the second byte say how.
func (m *machine[T]) step(op byte, arg int) (what string) {
	what, how := "", int(op>>3)
	switch op & 7 {
	case 0, 1:
		ctx, cancel := context.WithCancel(context.Background())
		switch how / 4 {
		case 5:
			cancel()
		case 6:
			ctx, cancel = context.WithTimeout(ctx, 5*time.Millisecond)
		case 7:
			ctx, cancel = context.WithTimeout(ctx, 25*time.Millisecond)
		}
		what = m.consume(ctx, cancel, how%4, requestItems(arg))
		m.order++
	case 2:
		for i := range 2 + how%4 {
			ctx, cancel := context.WithCancel(context.Background())
			what = m.consume(ctx, cancel, i*(how/4), requestItems(arg))
		}
		m.order++
	case 3:
		what = "cancel"
		if len(m.callers) > 0 {
			m.callers[arg%len(m.callers)].cancel()
		}
	case 4:
		d := time.Duration(1+arg) * time.Millisecond
		if arg >= 120 {
			d = time.Duration(arg-60) * 2 * time.Millisecond
		}
		what = fmt.Sprint("wait ", d)
		time.Sleep(d)
	case 5:
		what = fmt.Sprintf("answer call %d with %d", arg, how%answers)
		if calls := m.waiting(); len(calls) > 0 {
			m.give(calls[arg%len(calls)], how%answers)
		}
	case 6:
		what = fmt.Sprint("mode ", how%answers)
		m.setMode(how % answers)
	case 7:
		switch how % 4 {
		case 0, 1:
			what = "consume nothing"
			data := m.kind.New(0)
			if how%4 == 1 {
				data = m.kind.Bare()
			}
			err := m.Consume(m.t.Context(), data)
			if m.down == nil && err != nil {
				m.t.Errorf("an empty request is refused with %v", err)
			}
		case 2:
			what = fmt.Sprint("answer all with ", how/4)
			for _, c := range m.waiting() {
				m.give(c, how/4)
			}
		case 3:
			what = "shutdown"
			m.shutdown(arg)
		}
	}
	return what
}

// requestItems is how many items a request has by one byte: any number up to 64, and some greater ones.
func requestItems(arg int) int {
	if arg < 192 {
		return 1 + arg%64
	}
	return 5 * (arg - 191)
}

// consume starts a caller.
func (m *machine[T]) consume(ctx context.Context, cancel context.CancelFunc, tenant, items int) string {
	name := fmt.Sprint(tenant)
	ctx = client.NewContext(ctx, client.Info{Metadata: client.NewMetadata(map[string][]string{"tenant": {name}, "secret": {"s"}})})
	c := &machineCaller{
		Request: &batchertest.Request{First: m.next, Items: items, Tenant: name, Order: m.order},
		cancel:  cancel, result: make(chan error, 1),
	}
	m.next += items
	m.model.Sent(c.Request)
	m.callers = append(m.callers, c)
	data := m.kind.Make(c.First, items)
	go func() {
		err := m.Consume(ctx, data)
		c.ended = time.Now()
		c.result <- err
	}()
	return fmt.Sprintf("consume %d items of %s", items, name)
}

// shutdown begins one if none has; its own deadline is up to 120 ms away if arg is odd.
func (m *machine[T]) shutdown(arg int) {
	if m.down != nil {
		return
	}
	d := &shuttingDown{began: time.Now(), done: make(chan struct{})}
	m.down = d
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	limit := m.set.ShutdownTimeout
	if arg%2 == 1 {
		own := time.Duration(arg/2) * time.Millisecond
		ctx, cancel = context.WithTimeout(ctx, own)
		if limit == 0 || own < limit {
			limit = own
		}
	}
	if limit > 0 || arg%2 == 1 {
		d.deadline = d.began.Add(limit)
	}
	go func() {
		defer cancel()
		d.err = m.Shutdown(ctx)
		d.took = time.Since(d.began)
		close(d.done)
	}()
}

// The answers of downstream.
const (
	answerAccept = iota
	answerHold   // none, until there is another one or the context ends
	answerDeaf   // none, until there is another one
	answerRetryable
	answerPermanent
	answerPart          // one item is named as failed, retryably
	answerPartPermanent // one item is named as failed for good
	answerThrottle
	answerDie
	answerSlow // accepts 7 ms later
	answerSlowRetryable
	answerPoison // some items are refused whenever they come
	answers
)

// waiting are the calls that wait for an answer.
func (m *machine[T]) waiting() []*machineCall {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.calls)
}

func (m *machine[T]) setMode(mode int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mode = mode
}

// give answers a call that has no answer yet.
func (m *machine[T]) give(c *machineCall, answer int) {
	select {
	case c.answer <- answer % answers:
	default:
	}
}

// respond is what downstream does with a batch.
func (m *machine[T]) respond(b batchertest.Batch) (err error) {
	if failed := m.model.Began(b); failed != nil {
		m.t.Error(failed)
	}
	if secret := client.FromContext(b.Ctx).Metadata.Get("secret"); secret != nil {
		m.t.Error("metadata that is no key is handed on")
	}
	c := &machineCall{b, make(chan int, 1)}
	m.mu.Lock()
	m.calls = append(m.calls, c)
	answer := m.mode
	m.mu.Unlock()
	var accepted []int
	defer func() { // also when it dies
		m.model.Ended(b, accepted)
		m.mu.Lock()
		m.calls = slices.DeleteFunc(m.calls, func(other *machineCall) bool { return other == c })
		m.mu.Unlock()
	}()
	for answer == answerHold || answer == answerDeaf {
		ended := b.Ctx.Done()
		if answer == answerDeaf {
			ended = nil
		}
		select {
		case answer = <-c.answer:
		case <-ended:
			return b.Ctx.Err()
		}
	}
	if answer == answerSlow || answer == answerSlowRetryable {
		select {
		case <-time.After(7 * time.Millisecond):
		case <-b.Ctx.Done():
			return b.Ctx.Err()
		}
	}
	some := b.IDs[len(b.IDs)/2]
	rest := slices.DeleteFunc(slices.Clone(b.IDs), func(id int) bool { return id == some })
	switch answer {
	case answerRetryable, answerSlowRetryable:
		return errRefused
	case answerPermanent:
		return consumererror.NewPermanent(errRefused)
	case answerPart:
		accepted = rest
		return m.kind.Partial(errRefused, m.kind.Make(some, 1))
	case answerPartPermanent:
		accepted = rest
		return consumererror.NewPermanent(m.kind.Partial(errRefused, m.kind.Make(some, 1)))
	case answerThrottle:
		return errBusy
	case answerDie:
		defer runtime.Goexit() // see TestSlotOfADyingExportGoesOn
		panic("downstream")
	case answerPoison:
		if i := slices.IndexFunc(b.IDs, func(id int) bool { return id%23 == 7 }); i >= 0 {
			return poisoned(b.IDs[i])
		}
	}
	accepted = b.IDs
	return nil
}

// errBusy asks for a pause.
var errBusy = func() error {
	s, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(15 * time.Millisecond)})
	if err != nil {
		panic(err)
	}
	return s.Err()
}()

// settle waits until nothing moves, looks at the callers that have returned, and compares the batcher
// with the model.
func (m *machine[T]) settle(what string) {
	synctest.Wait()
	s := m.Stats()
	m.callers = slices.DeleteFunc(m.callers, func(c *machineCaller) bool {
		select {
		case err := <-c.result:
			m.returned(c, err)
			return true
		default:
			switch {
			case !c.Since.IsZero():
			case m.down == nil && m.set.WaitForResult && m.set.BlockOnOverflow && s.WaitingCallers == 0 && s.Dropped[batcher.DroppedItemTooLarge] == 0:
				c.Since = time.Now()
			default:
				c.Order = -1 // others may be accepted before it
			}
			return false
		}
	})
	m.did = append(m.did, what)
	m.check(what)
}

func (m *machine[T]) check(what string) {
	if err := m.Check(); err != nil {
		m.t.Errorf("after %s: %v", what, err)
	}
	s := m.Stats()
	checkIdentity(m.t, s)
	if m.down != nil && m.down.cut() {
		return
	}
	if err := m.model.Check(&s, time.Now()); err != nil {
		m.t.Errorf("after %s: %v", what, err)
	}
}

// returned looks at the answer of a call of Consume.
func (m *machine[T]) returned(c *machineCaller, err error) {
	defer c.cancel()
	is := func(reasons ...error) bool {
		return slices.ContainsFunc(reasons, func(reason error) bool { return errors.Is(err, reason) })
	}
	full := is(batcher.ErrOverflow, batcher.ErrTooLarge)
	refused := full || is(batcher.ErrShutdown, context.Canceled, context.DeadlineExceeded)
	since := c.Since
	c.Since = time.Time{}
	switch waits := m.set.WaitForResult; {
	case err == nil && waits:
		if n := m.model.Undelivered(c.Request); n > 0 {
			m.t.Errorf("%d items of %+v are not delivered, the outcome is nil", n, c.Request)
		}
		c.Since = since
		return
	case err == nil:
		c.Since = c.ended
		return
	case is(batcher.ErrItemTooLarge):
		return
	case waits && !refused && m.model.Delivered(c.Request):
		m.t.Errorf("all items of %+v are delivered, the outcome is %v", c.Request, err)
	case !waits && !refused:
		m.t.Errorf("%+v is refused with %v", c.Request, err)
	}
	switch {
	case isPartial(err) && (full || !m.set.WaitForResult):
		m.refused(partial(m.t, m.kind, err))
	case full && len(m.set.ResourceKeys) == 0, !m.set.WaitForResult:
		ids := make([]int, c.Items)
		for i := range ids {
			ids[i] = c.First + i
		}
		m.refused(ids)
	}
}

func (m *machine[T]) refused(ids []int) {
	if err := m.model.Refused(ids); err != nil {
		m.t.Error(err)
	}
}

// finish lets everything come to an end, and checks that it does. Where the batcher is to be at rest
// before its shutdown, it must come to rest by itself.
func (m *machine[T]) finish(atRest bool) {
	t := m.t
	release := func() {
		m.setMode(answerAccept)
		for _, c := range m.waiting() {
			m.give(c, answerAccept)
		}
		synctest.Wait()
	}
	if atRest && m.down == nil {
		release()
		time.Sleep(time.Hour)
		m.settle("an hour of rest")
		s := m.Stats()
		require.Empty(t, m.callers, "%+v", s)
		require.Zero(t, s.Held, "%+v", s)
		require.Zero(t, s.HeldBytes, "%+v", s)
		require.Zero(t, s.LivePartitions, "%+v", s)
		require.Zero(t, m.Partitions())
		require.False(t, m.Armed(), "an idle batcher wakes up")
		m.shutdown(0)
		synctest.Wait()
		require.True(t, m.down.over())
		require.NoError(t, m.down.err)
		require.Zero(t, m.down.took)
	}
	m.shutdown(0)
	synctest.Wait()
	if !m.down.deadline.IsZero() {
		time.Sleep(time.Until(m.down.deadline))
		synctest.Wait()
		require.True(t, m.down.over(), "the deadline has passed")
	}
	release()
	if !m.down.over() {
		time.Sleep(time.Hour)
	}
	require.True(t, m.down.over(), "downstream accepts everything")
	m.settle("the shutdown")
	require.Empty(t, m.callers, "%+v", m.Stats())

	s := m.Stats()
	checkIdentity(t, s)
	require.Zero(t, s.Held, "%+v", s)
	require.Zero(t, s.HeldBytes, "%+v", s)
	require.Zero(t, s.WaitingCallers, "%+v", s)
	require.Zero(t, m.Partitions())
	require.False(t, m.Armed())
	require.ErrorIs(t, m.Consume(t.Context(), m.kind.Make(m.next, 1)), batcher.ErrShutdown)
	require.Equal(t, m.down.err, m.Shutdown(t.Context()), "the same again")
	dropped := s.Dropped[batcher.DroppedShutdown]
	var u *batcher.Undelivered
	if errors.As(m.down.err, &u) {
		require.Equal(t, dropped, u.InFlight+u.Sealed+u.Retrying, "%v", m.down.err)
	} else {
		require.NoError(t, m.down.err)
		require.Zero(t, dropped)
	}
}
