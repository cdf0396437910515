// Package bench runs the same work through boundedbatch, through the Collector's
// batch processor and through a floor below both, in one process, and compares what it
// costs. There is nothing to import: everything is in the tests. README.md says how it
// is measured and what the results are.
package bench
