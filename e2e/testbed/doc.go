// Package testbed puts a built collector into the testbed that the Collector's contrib repository holds its components
// against, once with boundedbatch and once with batch, and compares them. Run it with make testbed from the root of the
// repository, which builds the collector and passes its path in BOUNDEDBATCH_COLLECTOR. It needs Linux: what a process
// takes is read from /proc. With -short, as in CI, one load is enough, and nothing is compared.
//
// Generators, senders, backend, and the child process with the collector are upstream's; loads, configurations and
// limits are those of its scenarios (testbed/tests/scenarios.go). The scenarios themselves are written again here,
// because a scenario of upstream passes when it should not: it ignores what its waits return, and once an agent has died,
// a wait has timed out, or a limit is exceeded, it compares nothing any more, not even that anything was sent. Here
// all of that is an error:
//
//   - otelcol validate refuses the configuration,
//   - the agent ends before it is told to, or with another status than 0,
//   - a wait ends without what it was for,
//   - nothing was sent, or less than half of what the load is, or anything was refused,
//   - what was sent is not what was received.
//
// failing_test.go shows of each that it is.
package testbed
