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
LIVES ?= 2
LIFETIME ?= 0
LIFEOPS ?= 1000000
FUZZTIME ?= 5s
PACKAGES ?= ./...
COSTROUNDS ?= 5

# The packages with goroutines and locks of their own. Below them all is pure.
CONCURRENT := . ./internal/transport ./storage/... ./internal/mapreduce ./internal/server/...

# The packages with files that only a build with planted bugs has.
PLANTED = ./cmd/tanodb ./internal/planted ./internal/sim $(PURE)

# The packages with tests of what a planted bug does.
PURE := ./internal/object ./internal/quorum ./internal/membership ./internal/vnode ./internal/handoff

.PHONY: help
help: ## list these targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

.PHONY: build
build: ## build the one binary, bin/tanodb, static
	go build -trimpath -o bin/tanodb ./cmd/tanodb

.PHONY: release
release: ## build VERSION (v1.2.3) for all platforms into DIR (dist), with packages and checksums
	deploy/release.sh "$(VERSION)" "$(or $(DIR),dist)"

.PHONY: test
test: ## run all tests, as "go test ./..." does
	go test $(PACKAGES)

.PHONY: generate
generate: ## make the code of the .proto files anew; needs protoc (Debian: protobuf-compiler)
	go generate ./internal/server/riakpb

.PHONY: lint
lint: ## check formatting, layers, purity, words, dead code, vet, staticcheck, go.mod
	go mod tidy -diff
	go vet ./...
	go vet -tags planted $(PLANTED)
	go vet -tags unmeasured . ./cmd/...
	go tool staticcheck ./...
	go test -count=1 ./internal/lint -deadcode

.PHONY: race
race: ## run the tests of the concurrent packages under the race detector
	CGO_ENABLED=1 go test -race -short -parallel 1 -timeout 14m $(CONCURRENT)

.PHONY: sim
sim: ## simulate fresh seeds for SIMTIME (90s), and all kept ones
	go test -count=1 ./internal/sim -run '^TestSeeds$$' -simtime=$(SIMTIME) -v

.PHONY: life
life: ## simulate LIVES (2) lives of LIFEOPS (1000000) operations, to their ends or for LIFETIME
	go test -count=1 -timeout 3h ./internal/sim -run '^TestLife$$' -lives=$(LIVES) -lifetime=$(LIFETIME) -life-ops=$(LIFEOPS) -v

.PHONY: planted
planted: ## plant each known bug in turn and see the simulation find it
	go test -tags planted -run '^TestPlanted' $(PURE)
	go test -count=1 -tags planted ./internal/sim -run '^(TestPlanted|TestPlantedInScenarios|TestPlantedLife|TestAllHaveBudgets)$$' -v

.PHONY: reliability-report
reliability-report: ## run seeds for SIMTIME, lives and planted bugs, and write the table of docs/testing.md
	report=$$(mktemp)
	failed=0
	go test -count=1 -timeout 3h ./internal/sim -run '^TestSeeds$$' -simtime=$(SIMTIME) -report="$$report" || failed=1
	go test -count=1 -timeout 3h ./internal/sim -run '^TestLife$$' -lives=$(LIVES) -lifetime=$(LIFETIME) -life-ops=$(LIFEOPS) -report="$$report" || failed=1
	go test -count=1 -tags planted ./internal/sim -run '^TestPlanted$$' -hunt -report="$$report" || failed=1
	go test -count=1 ./internal/sim -run '^TestPublish$$' -publish="$$report"
	rm "$$report"
	exit "$$failed"

# Each package with targets is built once, with what guides the fuzzing, and each
# target is given one core. What one finds is in the testdata of its package. Before Go 1.27
# the end of the time is sometimes told as a failure without an input (golang/go#75804).
.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (5s), two at a time
	targets=$$(grep -roE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sort)
	test -n "$$targets" || { echo "no fuzz target found" >&2; exit 1; }
	export out=$$(mktemp -d) cache=$$(go env GOCACHE)/fuzz
	trap 'rm -rf "$$out"' EXIT
	built() { mkdir -p "$$out/$$1" && go test -c -fuzz=. -ldflags="-s -w" -o "$$out/$$1/fuzz.test" "$$1"; }
	export -f built
	sed 's|/[^/]*$$||' <<<"$$targets" | sort -u | xargs -n 1 -P 2 bash -c 'built "$$1"' built
	one() {
		local dir=$${1%/*} func=$${1##*:func } said
		said=$$(cd "$$dir" && "$$out/$$dir/fuzz.test" -test.run='^$$' -test.fuzz="^$$func\$$" -test.fuzztime=$(FUZZTIME) \
			-test.parallel=1 -test.fuzzcachedir="$$cache/$$dir" 2>&1) || {
			grep -qx '    context deadline exceeded' <<<"$$said" && ! grep -q 'Failing input' <<<"$$said"
		} || { echo "$$dir $$func: $$said"; return 1; }
		echo "$$dir $$func: $$(grep '^fuzz: elapsed' <<<"$$said" | tail -n 1)"
	}
	export -f one
	xargs -d '\n' -n 1 -P 2 bash -c 'one "$$1"' one <<<"$$targets"

.PHONY: bench
bench: ## compile every benchmark and run it once; measure with go test -bench
	go test -run='^$$' -bench=. -benchtime=1x $$(grep -rlE '^func Benchmark' --include='*_test.go' . | xargs -n 1 dirname | sort -u)

.PHONY: cost
cost: ## measure what metrics, traces, TLS and users cost: COSTROUNDS (5) rounds of real clusters side by side
	go test -count=1 -timeout 2h ./e2e -run '^TestCost$$' -cost=$(COSTROUNDS) -v

.PHONY: e2e
e2e: ## try the built binary: real processes, killed, frozen and restarted
	go test -count=1 -timeout 8m -v ./e2e/...

.PHONY: ci
ci: ## all that is checked before a change lands
	.ci/run
