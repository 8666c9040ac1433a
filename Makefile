# The targets that the README names, and those of CI. No target but e2e and
# bench needs a daemon, a registry or root.
GO ?= go
BIN := bin/slim
LDFLAGS := -s -w $(if $(VERSION),-X main.version=$(VERSION))
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: all build test race property fuzz lint demo reproducible e2e bench clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/slim

test:
	$(GO) vet ./...
	$(GO) test -timeout 10m ./...

# race is test with the race detector, which needs a C compiler.
race:
	$(GO) test -race -timeout 15m ./...

# property squashes and filters random stacks of layers, CHECKS of them each, and
# splits a tenth as many.
# Its many temporary files go to memory.
CHECKS ?= 20000
property:
	TMPDIR=/dev/shm $(GO) test -count=1 -timeout 20m -run 'Squash.*Properties|Prune.*Properties' ./internal/flatten -rapid.checks=$(CHECKS) -v
	TMPDIR=/dev/shm $(GO) test -count=1 -timeout 20m -run 'Split.*Properties' ./internal/flatten -rapid.checks=$(shell expr $(CHECKS) / 10) -v

# fuzz runs every fuzz target on FUZZTIME inputs: with a time in its place, go test
# may report the deadline itself as a failure.
FUZZTIME ?= 40000x
fuzz:
	@set -e; for dir in internal/flatten internal/image internal/filter internal/layer; do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p' $$dir/*_test.go); do \
	    $(GO) test -run xxx -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x ./$$dir; \
	  done; \
	done

lint:
	@unformatted=$$(gofmt -l cmd internal testdata); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./... ./testdata/demo ./testdata/many ./testdata/e2e/... ./testdata/bench/...
	$(GO) run $(STATICCHECK) ./... ./testdata/demo ./testdata/many ./testdata/e2e/... ./testdata/bench/...
	$(GO) mod tidy -diff
	$(GO) mod verify

# demo squashes a legacy image that is made on the spot, whole and above its base.
demo: build
	$(GO) run ./testdata/demo demo.tar
	$(BIN) squash docker-archive:demo.tar docker-archive:demo-slim.tar
	$(BIN) squash --base-layers 1 --dry-run docker-archive:demo.tar docker-archive:demo-base.tar

# reproducible builds twice, in two folders, and compares.
reproducible:
	rm -rf bin/a bin/b && mkdir -p bin/a bin/b
	cp -r cmd internal go.mod go.sum bin/b
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o bin/a/slim ./cmd/slim
	cd bin/b && CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o slim ./cmd/slim
	cmp bin/a/slim bin/b/slim && sha256sum bin/a/slim
	rm -rf bin/a bin/b

# e2e checks what slim makes of real images and of random stacks with real engines:
# as root, on Debian 12, with what .ci/run installs.
E2E_DIR ?= /var/tmp/slim-e2e
e2e: build
	testdata/e2e/all.sh $(E2E_DIR) $(BIN)
	$(GO) test -count=1 -timeout 15m ./testdata/e2e/stacks -args -slim $(abspath $(BIN)) -work $(E2E_DIR)

# bench measures slim beside its peers and prints tables, as root; ROUNDS, TABLES,
# CASES and WORK choose, see testdata/bench/bench.sh.
bench: build
	testdata/bench/bench.sh $(BIN)

clean:
	rm -rf bin demo.tar demo-slim.tar coverage.out
