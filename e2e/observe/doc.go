// Package observe tests dashboards/ with a real Prometheus that scrapes built collectors: under load and under faults, of which
// each makes its alert fire, and go away when the fault does. Every query of the dashboard and every rule must show something.
//
// It needs prometheus and promtool in PATH, or their paths in BOUNDEDBATCH_PROMETHEUS and BOUNDEDBATCH_PROMTOOL, and a
// collector in BOUNDEDBATCH_COLLECTOR. It is a module of its own so that make e2e does not need them. Run it with
// make observe-test from the root of the repository.
//
// Times in the rules are minutes. Here a minute of them is a second: the rules are the files in dashboards/ with
// each 5m, say, as 5s, and are evaluated each second on scrapes of each second. The unit tests of the rules, which
// promtool runs, have the times as they are.
package observe
