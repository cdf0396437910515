// Package compat holds the processor against the Collector's batch, whose place it takes:
// the same traffic at the same instants of virtual time through both, configured alike, and
// then item by item what arrives, with whom, when, in which order and with which metadata.
// What differs must be in the table of package migration, with a reason, and what is in the
// table must differ.
//
// It is a module of its own because the processor's module does without batch. Run it with
// make e2e from the root of the repository.
package compat
