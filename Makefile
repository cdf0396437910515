# make help lists the targets. make test needs Go, gcc (for -race), make and git; the others build what they need
# into .bin/ at the versions pinned below internal/tools/.

GO        ?= go
FUZZTIME  ?= 20s
# How far bench-gate lets a ratio miss its bar, as a factor. CI allows for its neighbours; a release does not.
MARGIN    ?= 1
# How long the testbed keeps up each load, and how often its two processors take turns.
TESTCASE_DURATION ?= 15s
PAIRS     ?= 7
# How often test-concurrent runs each test.
RUNS      ?= 100
# Extra flags for go test, such as TESTFLAGS=-v or TESTFLAGS='-run TestBudget'.
TESTFLAGS ?=

# Where make run listens. make demo takes free ports of its own.
OTLP_GRPC_PORT ?= 4317
OTLP_HTTP_PORT ?= 4318
METRICS_PORT   ?= 8888

BIN       := .bin
COLLECTOR := $(BIN)/otelcol/otelcol
# That of examples/scale-out/.
SCALEOUT  := $(BIN)/otelcol-scale-out/otelcol-scale-out
QUICKSTART := examples/quickstart.yaml

# Every module whose code is ours, the root first; internal/tools/ and internal/tools/lint/ hold only versions.
MODULES := . $(filter-out internal/tools internal/tools/lint,$(patsubst %/go.mod,%,$(sort $(wildcard */go.mod */*/go.mod */*/*/go.mod))))

# What goes into the collector: a change in any of these rebuilds it.
COMPONENT := go.mod go.sum $(wildcard boundedbatchzextension/page.*) $(shell find . -name '*.go' ! -name '*_test.go' ! -path './.*/*' \
	! -path './e2e/*' ! -path './bench/*' ! -path './internal/tools/*' ! -path './cmd/*') $(wildcard $(foreach module,headerssetter panicker,e2e/$(module)/*.go e2e/$(module)/go.*))

# -buildvcs=false: tools and collector are the same whatever git says about the checkout, and a checkout that git does
# not trust (another owner) builds too. GOWORK=off: each module is built by itself, as its users do.
export GOFLAGS := $(GOFLAGS) -buildvcs=false
export GOWORK  := off

# What the plain tests of batcher/ leave behind for cover-check.
COVER := -coverpkg=./batcher -coverprofile=$(BIN)/cover.out

# The oldest Go that works, as go.mod says.
OLDEST := go$(shell awk '$$1 == "go" { print $$2 }' go.mod)

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

# All that make help lists.
.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*\#\# .*/\1/p' Makefile)

all: generate fmt lint test ## generate, fmt, lint and test; what make does by itself

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

# --- code ---------------------------------------------------------------------------------------------------------

# mdatagen names the package after the directory that holds metadata.yaml, whatever the checkout is called: hence a link
# (or a copy, in generate-check) named boundedbatchprocessor. The extension's directory has the right name.
generate: $(BIN)/mdatagen ## write the generated code, documentation.md and config.schema.json
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	ln -s "$(CURDIR)" "$$tmp/boundedbatchprocessor"; \
	echo "mdatagen metadata.yaml"; \
	$(BIN)/mdatagen "$$tmp/boundedbatchprocessor/metadata.yaml"; \
	$(BIN)/mdatagen "$$tmp/boundedbatchprocessor/boundedbatchzextension/metadata.yaml"
	$(GO) test -count=1 -run '^TestSchemaDescribesTheConfiguration$$' . -update-schema

generate-check: $(BIN)/mdatagen ## fail if the generated files are not what metadata.yaml says
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; mkdir "$$tmp/boundedbatchprocessor"; \
	tar --exclude=./.git --exclude=./$(BIN) -cf - . | tar -xf - -C "$$tmp/boundedbatchprocessor"; \
	$(BIN)/mdatagen "$$tmp/boundedbatchprocessor/metadata.yaml"; \
	$(BIN)/mdatagen "$$tmp/boundedbatchprocessor/boundedbatchzextension/metadata.yaml"; \
	if ! diff -r -u --exclude=.git --exclude=$(BIN) . "$$tmp/boundedbatchprocessor"; then \
		echo "generated files are stale (- as they are, + as generated): run make generate" >&2; exit 1; \
	fi; \
	echo "generated files are up to date"

fmt: $(BIN)/golangci-lint ## format all Go code (gofumpt, import order)
	$(BIN)/golangci-lint fmt

fmt-check: $(BIN)/golangci-lint ## fail if make fmt would change something
	@$(BIN)/golangci-lint fmt --diff || { echo "not formatted: run make fmt" >&2; exit 1; }
	@echo "formatted"

lint: $(BIN)/golangci-lint ## golangci-lint over every module
	@failed=; for module in $(MODULES); do \
		echo "golangci-lint in $$module"; \
		(cd "$$module" && "$(CURDIR)/$(BIN)/golangci-lint" run ./...) || failed="$$failed $$module"; \
	done; \
	if [ -n "$$failed" ]; then echo "lint found something in:$$failed" >&2; exit 1; fi

# --- tests --------------------------------------------------------------------------------------------------------

test: ## go vet and all tests of the component, with the race detector and without
	@echo "go vet, then go test -race (the first time compiles the Collector's modules: about 2 minutes)"
	$(GO) vet ./...
	$(GO) test -race $(TESTFLAGS) ./...
	@echo "go test: heap, allocations and time are not what they are with the race detector"
	@mkdir -p $(BIN)
	$(GO) test $(COVER) $(TESTFLAGS) ./batcher/...

test-race: ## the same tests three times, in random order
	$(GO) test -race -count=3 -shuffle=on $(TESTFLAGS) ./...

test-concurrent: ## the stress tests (named *ConcurrentSafe), each RUNS (100) times
	@found=$$($(GO) test -race -list 'ConcurrentSafe$$' ./... | awk '/^Test/'); \
	if [ -z "$$found" ]; then echo "no test is named *ConcurrentSafe" >&2; exit 1; fi; \
	echo "$(RUNS) times:" $$found
	$(GO) test -race -run 'ConcurrentSafe$$' -count=$(RUNS) -timeout 60m $(TESTFLAGS) ./...

cover: ## the statements of batcher/ that its own tests execute; fails below 95 %, and lists the others
	@mkdir -p $(BIN)
	$(GO) test $(COVER) ./batcher/...
	@internal/tools/cover.sh $(BIN)/cover.out

cover-check: ## the same, from what make test has left
	@internal/tools/cover.sh $(BIN)/cover.out

# -short leaves out profiles where they take longest: make test has them. Not every kernel for amd64 executes programs of
# 32 bits: where it does not, the tests are built and the output says so. REQUIRE_386=1 makes that a failure.
vet-ports: ## build and vet the component and its tests for 386 and arm64, and run the tests of 386
	@for arch in 386 arm64; do \
		echo "go build, go vet for $$arch"; \
		GOARCH=$$arch CGO_ENABLED=0 $(GO) build ./...; \
		GOARCH=$$arch CGO_ENABLED=0 $(GO) vet ./...; \
	done
	@echo "go test for 386"; \
	probe=$$(GOARCH=386 CGO_ENABLED=0 $(GO) test -run '^$$' ./internal/metadata 2>&1 || true); \
	if grep -F 'exec format error' <<<"$$probe"; then \
		if [ -n "$(REQUIRE_386)" ]; then echo "REQUIRE_386 is set, and nothing of 386 can be executed here" >&2; exit 1; fi; \
		echo "the tests for 386 are built and not run: nothing of 386 can be executed here"; \
		GOARCH=386 CGO_ENABLED=0 $(GO) test -c -o /dev/null ./...; \
	else \
		GOARCH=386 CGO_ENABLED=0 $(GO) test -short $(TESTFLAGS) ./...; \
	fi

# What cannot be had fails: nothing else would have been tested.
test-oldest: ## go vet and the tests of the component with the oldest Go that go.mod allows, which Go fetches
	@GOTOOLCHAIN=$(OLDEST) $(GO) version | grep -F ' $(OLDEST) ' || \
		{ echo "$(OLDEST), the oldest that go.mod allows, cannot be had here: nothing was tested with it" >&2; exit 1; }
	GOTOOLCHAIN=$(OLDEST) $(GO) vet ./...
	GOTOOLCHAIN=$(OLDEST) $(GO) test -short $(TESTFLAGS) ./...

test-tools: ## the tests of the programs beside the component: migration, demo, release checks, report of results
	@for module in cmd/boundedbatch-migrate internal/tools/demo internal/tools/release bench/report; do \
		echo "$(GO) test in $$module"; \
		$(GO) vet -C "$$module" ./...; \
		$(GO) test -C "$$module" -race $(TESTFLAGS) ./...; \
	done

fuzz: ## every fuzz target for FUZZTIME (20s)
	@GO="$(GO)" FUZZTIME=$(FUZZTIME) internal/tools/fuzz.sh
	@# Configurations are long: without a limit the time goes into making them shorter.
	@cd cmd/boundedbatch-migrate && FUZZFLAGS="-fuzzminimizetime 20x" GO="$(GO)" FUZZTIME=$(FUZZTIME) ../../internal/tools/fuzz.sh

# Limits are ratios to batch, measured in the same process: they hold on any machine that is not too busy.
bench-gate: ## fail where what is promised of CPU, allocations, memory or throughput is missed (module bench/); 5 minutes
	$(GO) test -C bench -count=1 -v -timeout 20m $(TESTFLAGS) . -margin $(MARGIN)

# Idleness has a file of its own, see bench/README.md: it is measured ten times.
bench-results: ## the gate and all cases beyond it, every round written to bench/results/; 20 minutes
	$(GO) test -C bench -count=1 -v -timeout 60m -skip '^(TestIdle|TestMemoryOfTenant)$$' $(TESTFLAGS) . -full \
		-results "results/ratios-$$(nproc)-cores.txt" -commit "$$(git describe --always --dirty --exclude '*')"

# Other programs on the machine cost this one more than the others: what it compares differs by a few percent.
bench-pipeline: ## whole Collectors with boundedbatch and with others, written to bench/results/ (module bench/pipeline)
	@echo "about 15 minutes; the first time compiles a collector: 1 to 4 minutes more"
	$(GO) test -C bench/pipeline -count=1 -v -timeout 40m $(TESTFLAGS) . -margin $(MARGIN) \
		-results "../results/pipeline-$$(nproc)-cores.txt" -commit "$$(git describe --always --dirty --exclude '*')"

bench-report: ## the pages of docs/ that have results, and docs/plots/, from bench/results/ and e2e/results/; says what is missing
	$(GO) run -C bench/report .

bench-report-check: ## fail if they are not what the results say
	@$(GO) run -C bench/report . -check
	@echo "docs/performance.md, docs/testbed.md, docs/endurance.md and their plots are what the results say"

bench-compare: ## what a request costs at BASE (HEAD) and in the working tree, as a benchstat table
	bench/compare.sh $(or $(BASE),HEAD)

bench: ## all comparisons with other batchers as Go benchmarks
	@echo "about 12 minutes"
	$(GO) test -C bench -run '^$$' -bench . -benchmem -timeout 30m $(TESTFLAGS) ./...

e2e: $(COLLECTOR) ## a real collector between real OTLP clients and a real backend (module e2e/)
	@echo "end to end against $(COLLECTOR)"
	BOUNDEDBATCH_COLLECTOR="$(CURDIR)/$(COLLECTOR)" $(GO) test -C e2e -count=1 -timeout 15m $(TESTFLAGS) ./...
	@echo "and in one process, with the race detector (the first time compiles a collector: 1 to 4 minutes)"
	$(GO) test -C e2e/pooling -race -count=1 -timeout 15m $(TESTFLAGS) ./...
	@echo "and beside batch, in virtual time"
	$(GO) test -C e2e/compat -race -count=1 -timeout 15m $(TESTFLAGS) ./...

# Other programs on the machine cost this one as they cost bench-pipeline. The page is written whether the limits are met or
# not: it shows which.
testbed: $(COLLECTOR) ## the Collector's own testbed, with boundedbatch and with batch, written to docs/testbed.md
	@echo "about 40 minutes, or 8 with TESTCASE_DURATION=5s PAIRS=3; the first time compiles the testbed: 1 to 4 minutes more"
	@mkdir -p e2e/results; status=0; \
	BOUNDEDBATCH_COLLECTOR="$(CURDIR)/$(COLLECTOR)" TESTCASE_DURATION=$(TESTCASE_DURATION) $(GO) test -C e2e/testbed -count=1 -v \
		-timeout 120m $(TESTFLAGS) . -margin $(MARGIN) -pairs $(PAIRS) -results "../results/testbed-$$(nproc)-cores.txt" \
		-commit "$$(git describe --always --dirty --exclude '*')" || status=$$?; \
	$(GO) run -C bench/report .; exit $$status

testbed-short: $(COLLECTOR) ## one load of it: everything that is sent arrives, and what should fail does
	@echo "about 20 s; the first time compiles the testbed: 1 to 4 minutes"
	BOUNDEDBATCH_COLLECTOR="$(CURDIR)/$(COLLECTOR)" TESTCASE_DURATION=5s $(GO) test -C e2e/testbed -short -count=1 -timeout 10m $(TESTFLAGS) .

# Each of its tests compares the collector with itself: other programs on the machine disturb little.
soak: $(COLLECTOR) ## overload, and a steady load for half an hour, written to e2e/results/ (module e2e/soak); 50 minutes
	BOUNDEDBATCH_COLLECTOR="$(CURDIR)/$(COLLECTOR)" $(GO) test -C e2e/soak -count=1 -v -timeout 90m $(TESTFLAGS) . -soak \
		-results "$(CURDIR)/e2e/results" -commit "$$(git describe --always --dirty --exclude '*')"

observe-test: ## dashboards/ with a real Prometheus that scrapes collectors under faults (module e2e/observe/); 1 minute
	@for program in "$${BOUNDEDBATCH_PROMETHEUS:-prometheus}" "$${BOUNDEDBATCH_PROMTOOL:-promtool}"; do \
		command -v "$$program" >/dev/null || { \
			echo "$$program is needed and not here; Debian's package prometheus has it (apt-get install prometheus)" >&2; exit 1; }; \
	done
	@$(MAKE) --no-print-directory $(COLLECTOR)
	BOUNDEDBATCH_COLLECTOR="$(CURDIR)/$(COLLECTOR)" $(GO) test -C e2e/observe -count=1 -timeout 10m $(TESTFLAGS) ./...

scale-out: $(SCALEOUT) ## examples/scale-out/ with agents and gateways that are killed (module e2e/scaleout); 2 minutes
	BOUNDEDBATCH_COLLECTOR="$(CURDIR)/$(SCALEOUT)" $(GO) test -C e2e/scaleout -count=1 -v -timeout 15m $(TESTFLAGS) .

# Gateways wait for a slow backend, so that other programs on the machine disturb little.
scale-out-results: $(SCALEOUT) ## what one, two and four gateways hand on, written to e2e/results/ and docs/scale-out.md
	BOUNDEDBATCH_COLLECTOR="$(CURDIR)/$(SCALEOUT)" $(GO) test -C e2e/scaleout -count=1 -v -timeout 15m \
		-run '^(TestThroughputGrowsWithGateways|TestKafkaPartitionsWaitForTheirMessages)$$' $(TESTFLAGS) . \
		-results "$(CURDIR)/e2e/results" -commit "$$(git describe --always --dirty --exclude '*')"
	BOUNDEDBATCH_COLLECTOR="$(CURDIR)/$(SCALEOUT)" $(GO) test -C e2e/scaleout -count=1 -run '^TestPageHasWhatWasMeasured$$' . -update

manifests-test: ## the manifests of examples/scale-out/kubernetes/ by the code of the API server (module e2e/kubernetes)
	@echo "the first time compiles what it needs of Kubernetes: a minute or two"
	$(GO) vet -C e2e/kubernetes ./...
	$(GO) test -C e2e/kubernetes -count=1 $(TESTFLAGS) ./...

browser-test: $(COLLECTOR) ## the page of the boundedbatchz extension in a real browser (module e2e/browser/); half a minute
	@command -v "$${BOUNDEDBATCH_CHROMIUM:-chromium}" >/dev/null || { \
		echo "chromium is needed and not here; Debian's package chromium has it (apt-get install chromium)" >&2; exit 1; }
	BOUNDEDBATCH_COLLECTOR="$(CURDIR)/$(COLLECTOR)" $(GO) test -C e2e/browser -count=1 -timeout 10m $(TESTFLAGS) .

browser-picture: ## the same, and docs/inside.png anew, which has to be looked at
	@$(MAKE) --no-print-directory browser-test TESTFLAGS='-screenshot "$(CURDIR)/docs/inside.png"'

# --- collector ----------------------------------------------------------------------------------------------------

otelcol: $(COLLECTOR) ## build the collector with ocb into .bin/otelcol/

$(COLLECTOR): builder-config.yaml $(BIN)/builder $(COMPONENT)
	@echo "building the collector with ocb: 1 to 4 minutes the first time, seconds later"
	$(BIN)/builder --config builder-config.yaml
	@touch $@

$(SCALEOUT): examples/scale-out/builder-config.yaml $(BIN)/builder $(COMPONENT)
	@echo "building the collector of examples/scale-out/ with ocb: up to 10 minutes the first time, seconds later"
	$(BIN)/builder --config examples/scale-out/builder-config.yaml
	@touch $@

run: export OTLP_GRPC_PORT := $(OTLP_GRPC_PORT)
run: export OTLP_HTTP_PORT := $(OTLP_HTTP_PORT)
run: export METRICS_PORT := $(METRICS_PORT)
run: $(COLLECTOR) ## start the collector on examples/quickstart.yaml, until Ctrl-C
	@$(COLLECTOR) validate --config $(QUICKSTART)
	@echo
	@echo "  $(QUICKSTART) is valid; the collector starts now and stops with Ctrl-C."
	@echo
	@echo "  send      OTLP/gRPC to localhost:$(OTLP_GRPC_PORT), OTLP/HTTP to http://localhost:$(OTLP_HTTP_PORT); in another terminal:"
	@echo "              make $(BIN)/telemetrygen"
	@echo "              $(BIN)/telemetrygen logs --logs 100000 --rate 0 --otlp-insecure --otlp-endpoint localhost:$(OTLP_GRPC_PORT)"
	@echo "  look at   one line per batch, below"
	@echo "  metrics   http://localhost:$(METRICS_PORT)/metrics, names that begin with otelcol_processor_boundedbatch_:"
	@echo "              accepted_items, delivered_items    taken over from senders, handed on"
	@echo "              held_items, capacity_items         kept at this moment, by state; the most it can be"
	@echo "              batches                            by trigger: size, timeout, pressure, ..."
	@echo "              refused_items, failed_items, dropped_items    by cause; absent or 0 while all is well"
	@echo
	@exec $(COLLECTOR) --config $(QUICKSTART)

demo: $(COLLECTOR) $(BIN)/telemetrygen ## the same with traffic on all signals; prints a table, fails if an item is missing
	@$(GO) build -C internal/tools/demo -o "$(CURDIR)/$(BIN)/demo" .
	@$(BIN)/demo -collector $(COLLECTOR) -telemetrygen $(BIN)/telemetrygen -config $(QUICKSTART) -logs $(BIN)/demo-logs

# --- release ------------------------------------------------------------------------------------------------------

licences: $(BIN)/release ## write docs/licences.md, the dependencies of the component with their licences
	$(BIN)/release licences docs/licences.md

licences-check: $(BIN)/release ## fail if docs/licences.md is not that, or a licence is not accepted
	@$(BIN)/release licences -check docs/licences.md

release-check: $(BIN)/release $(BIN)/apidiff ## whether this checkout can be released as VERSION (v0.1.0): all that is missing
	@RELEASE="$(BIN)/release" APIDIFF="$(CURDIR)/$(BIN)/apidiff" VERSION="$(VERSION)" internal/tools/release-check.sh

$(BIN)/release: $(wildcard internal/tools/release/*.go internal/tools/release/go.mod)
	@$(GO) build -C internal/tools/release -o "$(CURDIR)/$@" .
	@touch $@

$(BIN)/apidiff: internal/tools/release/go.mod
	@$(GO) build -C internal/tools/release -o "$(CURDIR)/$@" golang.org/x/exp/cmd/apidiff
	@touch $@

# --- tools --------------------------------------------------------------------------------------------------------

package-builder       := go.opentelemetry.io/collector/cmd/builder
package-mdatagen      := go.opentelemetry.io/collector/cmd/mdatagen
package-telemetrygen  := github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen
package-gotestsum     := gotest.tools/gotestsum
package-benchstat     := golang.org/x/perf/cmd/benchstat
package-golangci-lint := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
package-gofumpt       := mvdan.cc/gofumpt

TOOLS      := $(addprefix $(BIN)/,builder mdatagen telemetrygen gotestsum benchstat)
LINT_TOOLS := $(addprefix $(BIN)/,golangci-lint gofumpt)

tools: $(TOOLS) $(LINT_TOOLS) ## build every pinned tool into .bin/

# touch: go build leaves the time of a binary that needed no change.
$(TOOLS): $(BIN)/%: internal/tools/go.mod
	@echo "building $@ (a minute or less)"
	@$(GO) build -C internal/tools -o "$(CURDIR)/$@" $(package-$*)
	@touch $@

$(LINT_TOOLS): $(BIN)/%: internal/tools/lint/go.mod
	@echo "building $@ (golangci-lint: 1 to 3 minutes)"
	@$(GO) build -C internal/tools/lint -o "$(CURDIR)/$@" $(package-$*)
	@touch $@

# -e: a test of a dependency may need a module version that is not to be had; tools and testbed build without it.
tidy: ## go mod tidy in every module
	@for module in $(filter-out e2e/testbed,$(MODULES)); do echo "tidy $$module"; $(GO) mod tidy -C "$$module"; done
	@for module in internal/tools internal/tools/lint e2e/testbed; do echo "tidy $$module"; $(GO) mod tidy -C "$$module" -e; done

clean: ## remove .bin/: tools, collector, logs
	rm -rf $(BIN)
