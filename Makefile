# Run "make" or "make help" for what there is to do.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0

PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CAIRN   := bin/cairn
# Where goroutines meet: these are tested under the race detector too, which needs cgo.
RACE    := ./builder ./builder/solve ./builder/progress ./builder/source ./registry/... ./layer/compress

.PHONY: help build install demo test unit race stress fuzz examples lint golden bench bench-peers vuln packages clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

build: ## Build bin/cairn
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(CAIRN) ./cmd/cairn

install: ## Install cairn, with completion for shells, below PREFIX (default /usr/local)
	@if type go >/dev/null 2>&1 || [ ! -e $(CAIRN) ]; then $(MAKE) --no-print-directory build; fi # sudo may know no go
	install -D -m 755 $(CAIRN) $(DESTDIR)$(PREFIX)/bin/cairn
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	$(CAIRN) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/cairn
	$(CAIRN) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_cairn
	$(CAIRN) completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/cairn.fish

demo: build ## Build an image, push it to a registry, pull it back and run it
	@examples/hello/demo $(CAIRN)

test: packages lint unit race examples ## Run all checks and tests; as root on Debian, installs what they need

unit: ## Run the tests of all rooms, and the policy tests
	@.ci/gotest $$(go list ./... | grep -v /examples$$)

race: ## Run the tests of concurrent code under the race detector
	@if type gcc >/dev/null 2>&1; then CGO_ENABLED=1 .ci/gotest -race $(RACE); else echo 'skipped: go test -race needs gcc'; fi

# SEED=2 draws other moments; STRESS='-run TestKill -from 17 -kills 1' does one again.
SEED   ?= 1
STRESS ?= -kills 200 -fulls 50 -cuts 30 -crowds 20 -damages 200 -unreadables 50
stress: packages ## Kill builds, fill and break disks, cut the power, damage stores, crowd them; a thousand transfers through a registry's faults
	go test -count=1 -timeout 0 -v ./examples/stress -seed $(SEED) $(STRESS)
	go test -count=1 ./registry -run '^TestFaults$$' -faults 1000

# FUZZ='1h 4 tarball' takes those whose names match, four at a time; usual are as many as processors.
FUZZ ?= 1h
fuzz: ## Feed every parser of foreign bytes what nobody would write, each for an hour
	@.ci/fuzz $(FUZZ)

examples: build ## Build every example, push it, read it back with other tools and run it
	@.ci/gotest -count=1 -timeout 45m ./examples

lint: ## Run go vet, gofmt and staticcheck
	go vet ./...
	cd examples/go-service && go vet ./...
	cd examples/cross && go vet ./...
	@unformatted=$$(gofmt -s -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "not formatted: $$unformatted"; exit 1; }
	go tool staticcheck ./...

golden: ## Rewrite golden files from what the code does now, and those of the corpus from BuildKit
	go test ./builder ./builder/plan ./builder/progress ./cmd/cairn ./cmd/policy -update
	go test ./examples/corpus -update -timeout 60m

bench: ## Run the Go benchmarks
	go test -run '^$$' -bench . -benchmem ./...

bench-peers: build ## Compare whole builds with BuildKit and Buildah; BENCH='-only steps,warm -runs 3' chooses
	@.ci/packages
	go run ./examples/bench -cairn $(CAIRN) -out examples/bench/RESULTS.md $(BENCH)

vuln: ## Look for known vulnerabilities in what is used; needs vuln.go.dev
	go run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

packages: ## Install what the tests use and is missing: Debian packages, docker's registry of version 3
	@.ci/registry & .ci/packages; wait # the one downloads while the other compiles

clean: ## Remove what make build made
	rm -rf bin
