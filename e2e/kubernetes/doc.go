// Package kubernetes tests examples/scale-out/kubernetes/ without a cluster. Manifests are decoded strictly, so that a key that
// is misspelt or given twice fails, and judged by the code of the API server itself, defaults and all. What they say is held
// against the configurations they run: the same text, memory, ports, and the time that a pod is given to end.
//
// It is a module of its own for what it needs of Kubernetes. Run it with make manifests-test from the root of the repository.
package kubernetes
