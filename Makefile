# Run "make" or "make help" for what there is to do.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0
# All targets compile alike, so that they share Go's build cache.
export GOFLAGS     ?= -trimpath

PREFIX  ?= /usr/local
# Without git, the version is a constant in cmd/cairn/command/version.go.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
LINK    := github.com/cairn-build/cairn/cmd/cairn/command
CAIRN   := bin/cairn
# The program of the isolation mode gvisor is a module of its own.
GVISOR   = $(dir $(CAIRN))$(patsubst cairn%,cairn-gvisor%,$(notdir $(CAIRN)))
GCC      = $(shell type -P gcc)
ALL      = $(shell go list ./...)
# End-to-end tests: the scripts of the command line, the corpus, the examples.
E2E      = $(shell go list ./cmd/cairn ./examples/...)
# Packages with the most goroutines and locks are tested under the race detector where
# there is a C compiler for it, and then not a second time without it.
RACE     = $(shell go list ./builder/sandbox ./builder ./builder/worker ./builder/snapshot ./builder/solve ./builder/progress ./builder/source \
             ./builder/cache/remote ./registry/... ./layer/compress ./layer/once ./layer/store ./layer/diff)
# Unit tests that take too long for "check".
SLOW     = $(shell go list ./builder ./builder/worker ./builder/sandbox ./layer/diff)

.PHONY: help build install demo check test unit race e2e stress fuzz lint golden bench bench-peers bench-pods picture release vuln packages clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

build: ## Build bin/cairn and bin/cairn-gvisor
	go build -v -trimpath -ldflags '-s -w -X $(LINK).version=$(VERSION) -X $(LINK).commit=$(COMMIT)' -o $(CAIRN) ./cmd/cairn
	go build -C cmd/cairn-gvisor -v -trimpath -ldflags '-s -w' -o $(abspath $(GVISOR)) .

install: ## Install cairn, manual pages and shell completions below PREFIX (default /usr/local)
	@if type go >/dev/null 2>&1 || [ ! -e $(CAIRN) ]; then $(MAKE) --no-print-directory build; fi # go may be missing from the PATH of sudo
	install -D -m 755 $(CAIRN) $(DESTDIR)$(PREFIX)/bin/cairn
	install -D -m 755 $(GVISOR) $(DESTDIR)$(PREFIX)/bin/cairn-gvisor
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	$(CAIRN) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/cairn
	$(CAIRN) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_cairn
	$(CAIRN) completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/cairn.fish
	$(CAIRN) man $(DESTDIR)$(PREFIX)/share/man/man1

demo: build ## Build an image, push it to a registry, pull it back and run it
	@examples/hello/demo $(CAIRN)

check: lint ## Check format, vet, staticcheck, policy and unit tests: the fast ones, for every change
	@.ci/gotest $(filter-out $(E2E) $(SLOW),$(ALL))

test: packages lint unit race e2e ## Run all checks and tests; as root on Debian, installs the packages that they need

unit: ## Run the unit tests of packages that "race" does not cover, and the policy tests
	@.ci/gotest $(filter-out $(E2E) $(if $(GCC),$(RACE)),$(ALL))
	@cd cmd/cairn-gvisor && ../../.ci/gotest ./...

race: ## Run the tests of concurrent packages under the race detector
	@if [ -n '$(GCC)' ]; then CGO_ENABLED=1 .ci/gotest -race $(RACE); else echo 'no gcc: "unit" tests these without the race detector'; fi

e2e: build ## Run the scripts of the command line, the corpus and the examples, read back with other tools
	@.ci/gotest -count=1 $(E2E)

# SEED=2 chooses other moments; STRESS='-run TestKill -from 17 -kills 1' repeats a single one.
SEED   ?= 1
STRESS ?= -kills 200 -fulls 50 -cuts 30 -crowds 20 -damages 200 -unreadables 50
stress: packages ## Kill builds, fill and break disks, cut the power, damage stores, run many at once; 1,000 transfers through registry faults
	go test -count=1 -timeout 0 -v ./examples/internal/stress -seed $(SEED) $(STRESS)
	go test -count=1 -timeout 0 ./registry -run '^TestFaults$$' -faults 1000

# FUZZ='1h 4 tarball' runs the targets whose names match, four at a time; the default is one for each processor.
FUZZ ?= 1h
fuzz: ## Fuzz every parser of untrusted input, each for an hour
	@.ci/fuzz $(FUZZ)

lint: ## Run go vet, gofmt and staticcheck
	go vet ./...
	cd examples/go-service && go vet ./...
	cd examples/cross && go vet ./...
	cd cmd/cairn-gvisor && go vet ./...
	@unformatted=$$(gofmt -s -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "not formatted: $$unformatted"; exit 1; }
	go tool staticcheck ./...

golden: ## Rewrite golden files from the current output, and those of the corpus from BuildKit's
	go test ./builder ./builder/plan ./builder/progress ./cmd/cairn ./cmd/cairn/command ./cmd/policy -update
	go test ./examples/internal/corpus -update -timeout 60m

bench: ## Run the Go benchmarks
	go test -run '^$$' -bench . -benchmem ./...

bench-peers: build ## Compare whole builds with BuildKit and Buildah; BENCH='-only steps,warm -runs 3' chooses
	@.ci/packages
	go run ./examples/internal/bench -cairn $(CAIRN) -out examples/internal/bench/RESULTS.md $(BENCH)
	go run ./examples/internal/bench -cairn $(CAIRN) -applications -out examples/internal/bench/APPLICATIONS.md $(BENCH)

picture: build ## Draw the pictures of a build in README.md again; as root, with Go's module proxy
	go run ./examples/internal/picture -cairn $(CAIRN) -o .github/build

release: ## Build the files of a release in dist/: binaries, Cairn's own image, checksums
	@.ci/release dist

bench-pods: build ## Compare steps in pods of several kinds with commands that run without a builder; BENCH='-only fork -runs 3' chooses
	@.ci/packages
	go run ./examples/internal/podbench -cairn $(CAIRN) -out examples/internal/podbench/RESULTS.md $(BENCH)

vuln: ## Look for known vulnerabilities in dependencies; needs vuln.go.dev
	go run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

packages: ## Install the Debian packages that tests use, and docker's registry version 3
	@.ci/registry & .ci/packages; wait # one downloads while the other compiles

clean: ## Remove the outputs of build and release
	rm -rf bin dist
