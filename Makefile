# scrubd. `make help` lists what can be made.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

GO      ?= go
PREFIX  ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
SHAREDIR ?= $(PREFIX)/share
MANDIR  ?= $(SHAREDIR)/man
DESTDIR ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# A mount point for `make run`; without one a sample is made in a file.
DATA ?=
# More flags of `scrubd run` for `make run`.
RUNFLAGS ?=
# The time that each fuzz target gets: in `make fuzz`, and within `make test-unit`.
FUZZTIME ?= 1m
SHORTFUZZTIME ?= 5s
# How long `make soak` soaks each filesystem, on which geometries, and with
# which seed; and how long `make test-lab` does. More flags: SOAKFLAGS.
T ?= 10m
GEOMETRY ?= all
SEED ?= 1
SOAKFLAGS ?=
SOAKTIME ?= 2m
# `make campaign`: faults, their SEED, their kind (single, double, lost), and
# whether xfs_scrub is tried on a copy of each as well.
N ?= 20
KIND ?= single
PEER ?= yes
# What `make bench` runs.
BENCH ?= .

# The one thing that needs a C compiler is the race detector.
export CGO_ENABLED := 0

LABCTL := $(GO) run ./internal/lab/labctl

# Only packages whose tests import internal/lab have tests that need root or the
# lab: lab.Require is what keeps them from running elsewhere.
LAB_PACKAGES = $$($(GO) list -f '{{.ImportPath}}: {{.TestImports}} {{.XTestImports}}' ./... | \
	awk -F ': ' '/[[ ]github.com\/scrubd\/scrubd\/internal\/lab[] ]/ { print $$1 }')
SCRUBD := bin/scrubd

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/scrubd
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '-s -w -X main.buildVersion=$(VERSION)' -o $(SCRUBD) ./cmd/scrubd

.PHONY: run
run: build ## Check a sample XFS in a file, or the one mounted at DATA=PATH
	@.ci/sample $(SCRUBD) "$(DATA)" $(RUNFLAGS)

.PHONY: demo
demo: build lab ## Damage one record in the lab: what xfs_scrub does to the file, and what scrubd does
	@$(LABCTL) demo

.PHONY: test
test: ## Run every level of tests and the linters; list what could not run
	@.ci/levels

.PHONY: test-unit
test-unit: ## Tests without root: three architectures, vet, race, properties, short fuzz
	@for arch in amd64 arm64 386; do \
		echo "build and vet: $$arch"; \
		GOARCH=$$arch $(GO) build ./...; \
		GOARCH=$$arch $(GO) vet ./...; \
	done
	SCRUBD_TEST='' CGO_ENABLED=1 $(GO) test -race -timeout 15m ./...
	@.ci/fuzz $(SHORTFUZZTIME)

.PHONY: test-root
test-root: deps ## Tests on loop-mounted XFS, as root
	@$(LABCTL) root >/dev/null || echo 'make: the newest xfsprogs could not be had; tests that need them are skipped' >&2
	SCRUBD_TEST=root CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 20m $(LAB_PACKAGES)

.PHONY: test-lab
test-lab: deps ## Tests in the lab kernel, which has online scrub and repair
	@$(MAKE) lab || echo 'make: the lab could not be made; its tests are skipped' >&2
	SCRUBD_TEST=lab SCRUBD_SOAK_TIME=$(SOAKTIME) $(GO) test -count=1 -timeout 45m $(LAB_PACKAGES)

.PHONY: campaign
campaign: build lab ## Damage N filesystems at random (SEED, KIND); what scrubd and xfs_scrub make of them (docs/campaign.md)
	@$(LABCTL) campaign --n $(N) --seed $(SEED) --kind $(KIND) $(if $(filter no,$(PEER)),--no-peer) \
		--scrubd $(SCRUBD) --results bin/campaign-$(KIND)-$(SEED).jsonl

.PHONY: killtest
killtest: deps lab ## Kill N repairing runs in the lab at moments that SEED draws, and every fifth with its machine
	SCRUBD_TEST=lab,root SCRUBD_TEST_KILLS=$(N) SCRUBD_TEST_SEED=$(SEED) \
		$(GO) test -count=1 -timeout 240m -v -run '^(TestKilledRunsInLab|TestPowerLossInLab)$$' ./cmd/scrubd

.PHONY: bench
bench: deps ## Benchmarks, the ratio to the raw floor among them (BENCH=REGEXP)
	@$(MAKE) lab || echo 'make: the lab could not be made; its benchmarks are skipped' >&2
	@mkdir -p bin
	SCRUBD_TEST=root,lab $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m ./... | tee bin/bench.txt

.PHONY: soak
soak: build lab ## Run scrubd without pause on healthy, busy filesystems (T=10m GEOMETRY=all SEED=1)
	@$(LABCTL) soak --geometry '$(GEOMETRY)' --time '$(T)' --seed '$(SEED)' --results bin/soak.json $(SOAKFLAGS)

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME (1m)
	@.ci/fuzz $(FUZZTIME)

.PHONY: lint
lint: ## golangci-lint (compiled from go.mod's tool line), shellcheck
	$(GO) tool golangci-lint run ./...
	@.ci/need shellcheck shellcheck
	shellcheck .ci/*

.PHONY: fmt
fmt: ## Format the Go files
	$(GO) tool golangci-lint fmt ./...

.PHONY: lab
lab: deps ## Make the lab kernel and the root with the newest xfsprogs (kept in the cache)
	@$(LABCTL) kernel
	@$(LABCTL) root

# Debian packages that the rigs need. Without root nothing can be installed:
# what is missing then shows as skipped tests.
.PHONY: deps
deps:
	@if [[ $$(id -u) == 0 ]]; then $(LABCTL) deps; fi

.PHONY: install
install: build ## Install below DESTDIR and PREFIX
	install -D -m 0755 $(SCRUBD) '$(DESTDIR)$(SBINDIR)/scrubd'
	$(SCRUBD) gen-man bin/man
	install -d '$(DESTDIR)$(MANDIR)/man5' '$(DESTDIR)$(MANDIR)/man8'
	install -m 0644 bin/man/*.5 '$(DESTDIR)$(MANDIR)/man5/'
	install -m 0644 bin/man/*.8 '$(DESTDIR)$(MANDIR)/man8/'
	$(SCRUBD) gen-shells bin/share
	cd bin/share && find . -type f -exec install -D -m 0644 '{}' '$(DESTDIR)$(SHAREDIR)/{}' \;
	$(SCRUBD) units install --root '$(DESTDIR)/' --prefix '$(PREFIX)' --program '$(SBINDIR)/scrubd'

.PHONY: uninstall
uninstall: build ## Remove what install put there
	$(SCRUBD) units uninstall --root '$(DESTDIR)/' --prefix '$(PREFIX)'
	rm -f '$(DESTDIR)$(SBINDIR)/scrubd' '$(DESTDIR)$(MANDIR)'/man8/scrubd.8 '$(DESTDIR)$(MANDIR)'/man8/scrubd-*.8 \
		'$(DESTDIR)$(MANDIR)/man8/scrubd.service.8' '$(DESTDIR)$(MANDIR)/man5/scrubd.toml.5' \
		'$(DESTDIR)$(SHAREDIR)/bash-completion/completions/scrubd' '$(DESTDIR)$(SHAREDIR)/zsh/site-functions/_scrubd' \
		'$(DESTDIR)$(SHAREDIR)/fish/vendor_completions.d/scrubd.fish'

.PHONY: clean
clean: ## Remove bin/; the lab's cache stays
	rm -rf bin
