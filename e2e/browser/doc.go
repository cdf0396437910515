// Package browser tests the page of the boundedbatchz extension with a real browser, before a built collector with traffic:
// what is in its tables, its links, that it can be read in light and in dark and on a narrow screen, and that nothing is wrong by
// the browser's own account.
//
// It needs chromium in PATH, or its path in BOUNDEDBATCH_CHROMIUM, and a collector in BOUNDEDBATCH_COLLECTOR. It is a module of
// its own so that make e2e does not need them. Run it with make browser-test from the root of the repository.
package browser
