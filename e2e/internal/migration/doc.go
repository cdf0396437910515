// Package migration is the table of what comes of renaming batch to boundedbatch: in each
// row a configuration of the five keys that both have, traffic, what the next component
// does, and whether anybody can tell the two apart by it, in what, and why.
//
// e2e/compat holds both processors against the table in virtual time, and writes it down
// in docs/compatibility.md. The tests of e2e take its configurations to a built collector.
package migration
