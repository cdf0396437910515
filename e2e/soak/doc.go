// Package soak puts a built collector under load for as long as it takes to see whether it
// holds: more load than its backend takes, and a steady load for half an hour and more.
// Run it with make soak from the root of the repository, which takes three quarters of an
// hour and says every few seconds how far it is.
//
// In make e2e the same tests run for seconds. That shows that they work, and that the
// collector does what it should for so long; of rates and slopes there is too little to tell.
package soak
