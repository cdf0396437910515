package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A pipeline is three processes: senders, a Collector and a backend. Each is the test binary
// again, told by roleVariable what to be. It takes orders from its standard input and answers
// each on its standard output, one JSON value a line, and ends with its input: so also when
// the test process dies.
const roleVariable = "BOUNDEDBATCH_PIPELINE_ROLE"

// order is what the test asks of a child.
type order struct {
	Do string

	Address string         // of whom to send to
	Config  map[string]any // of the Collector, without addresses

	Requests int // to send, and how many of them a second
	Rate     float64

	Items int // of each request; or to wait for

	Profile string // the file to write a profile to
}

// answer is what a child says to an order.
type answer struct {
	Err string // empty: done

	Address string // where it listens

	Items, Batches int64 // that have arrived so far

	CPU     time.Duration // of the process so far
	Mallocs uint64        // objects allocated so far
	Bytes   uint64        // the same in bytes
	GCs     uint32        // collections so far

	Elapsed time.Duration // of what was ordered
	Waited  time.Duration // for answers to requests, of all senders together
	Longest time.Duration // the same for a single request
}

// role does what it is ordered to. It is not called again before it has returned.
type role func(order) (answer, error)

// roles make what a child is to be, and what ends it.
var roles = map[string]func() (role, func()){
	"collector": newCollector, "senders": newSenders, "backend": newBackend,
}

// serve is the main function of a child.
func serve(name string) error {
	begin := roles[name]
	if begin == nil {
		return fmt.Errorf("%s: unknown role %q", roleVariable, name)
	}
	do, end := begin()
	defer end()
	orders, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		a, err := do(o)
		if err != nil {
			a.Err = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

// child is a process that takes orders.
type child struct {
	role    string
	command *exec.Cmd
	in      io.Closer
	orders  *json.Encoder
	answers *json.Decoder
	stopped bool
}

// start makes a child, which ends with the test at the latest.
func start(tb testing.TB, role string) *child {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	c := &child{role: role, command: exec.CommandContext(tb.Context(), self)}
	for _, v := range os.Environ() {
		// The Go runtime of all children is as it comes, the garbage collector above all.
		if name, _, _ := strings.Cut(v, "="); name != "GOGC" && name != "GOMEMLIMIT" && name != "GODEBUG" {
			c.command.Env = append(c.command.Env, v)
		}
	}
	c.command.Env = append(c.command.Env, roleVariable+"="+role)
	c.command.Stderr = os.Stderr
	in, err := c.command.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	c.in, c.orders, c.answers = in, json.NewEncoder(in), json.NewDecoder(out)
	if err := c.command.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.stop(tb) })
	return c
}

// ask gives an order and waits for its answer.
func (c *child) ask(tb testing.TB, o order) answer {
	tb.Helper()
	late := time.AfterFunc(patience, func() { _ = c.command.Process.Kill() })
	defer late.Stop()
	var a answer
	err := c.orders.Encode(o)
	if err == nil {
		err = c.answers.Decode(&a)
	}
	if err != nil {
		tb.Fatalf("%s, asked to %s: %v", c.role, o.Do, err)
	}
	if a.Err != "" {
		tb.Fatalf("%s, asked to %s: %s", c.role, o.Do, a.Err)
	}
	return a
}

// stop lets the child end what it does and waits for it.
func (c *child) stop(tb testing.TB) {
	tb.Helper()
	if c.stopped {
		return
	}
	c.stopped = true
	late := time.AfterFunc(patience, func() { _ = c.command.Process.Kill() })
	defer late.Stop()
	_ = c.in.Close()
	if err := c.command.Wait(); err != nil && !tb.Failed() {
		tb.Errorf("%s: %v", c.role, err)
	}
}

// patience is how long an order may take before the child is taken for dead.
const patience = time.Minute
