# Each target is a plain go command that can be run by hand; .ci/run calls the
# same ones.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

# The binary is built without cgo, and so is what is tested. Only the race
# detector needs it.
export CGO_ENABLED ?= 0

SIMTIME ?= 90s
FUZZTIME ?= 5s

# The packages with goroutines and locks of their own. Below them all is pure.
CONCURRENT := . ./internal/transport ./storage/... ./internal/server/...

# The packages that a bug can be planted in.
PURE := ./internal/object ./internal/quorum ./internal/membership ./internal/vnode ./internal/coordinator ./internal/handoff ./internal/reap

.PHONY: help
help: ## list these targets
	@sed -nE 's/^([a-z0-9]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

.PHONY: build
build: ## build the one binary, bin/tanodb, static
	go build -trimpath -o bin/tanodb ./cmd/tanodb

.PHONY: test
test: ## run all tests, as "go test ./..." does
	go test ./...

.PHONY: generate
generate: ## make the code of the .proto files anew; needs protoc (Debian: protobuf-compiler)
	go generate ./internal/server/riakpb

.PHONY: lint
lint: ## check formatting, layers, purity, words, dead code, vet, staticcheck, go.mod
	go mod tidy -diff
	go vet ./...
	go vet -tags planted ./internal/...
	go tool staticcheck ./...
	go test -count=1 ./internal/lint -deadcode

.PHONY: race
race: ## run the tests of the concurrent packages under the race detector
	CGO_ENABLED=1 go test -race -short -timeout 8m $(CONCURRENT)

.PHONY: sim
sim: ## simulate fresh seeds for SIMTIME (90s), and all kept ones
	go test -count=1 ./internal/sim -run '^TestSeeds$$' -simtime=$(SIMTIME) -v

.PHONY: planted
planted: ## plant each known bug in turn and see the simulation find it
	go test -tags planted $(PURE)
	go test -count=1 -tags planted ./internal/sim -run '^(TestPlanted|TestAllHaveBudgets)$$' -v

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (5s)
	targets=$$(grep -roE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sort)
	test -n "$$targets" || { echo "no fuzz target found" >&2; exit 1; }
	while IFS=: read -r file func; do
		go test -run='^$$' -fuzz="^$${func#func }\$$" -fuzztime=$(FUZZTIME) "$$(dirname "$$file")"
	done <<<"$$targets"

.PHONY: bench
bench: ## compile every benchmark and run it once; measure with go test -bench
	go test -run='^$$' -bench=. -benchtime=1x ./...

.PHONY: e2e
e2e: ## try the built binary: real processes, killed, frozen and restarted
	go test -count=1 -timeout 8m -v ./e2e/...

.PHONY: ci
ci: ## all that is checked before a change lands
	.ci/run
