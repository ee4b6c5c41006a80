# Thin targets; anything longer than two lines lives in scripts/.
# `make test` is the whole check: it needs Go, and on Debian as root it installs the rest.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help deps lint test bench bench-check stress example

# Tests skip where the browser, the server or the Node.js that they need is not installed, except here.
test stress: export COATCHECK_REQUIRE_BROWSER = 1
test stress: export COATCHECK_REQUIRE_SERVERS = 1
test stress: export COATCHECK_REQUIRE_NODE = 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

deps: ## install what the tests need (Debian, as root), or say what is missing
	@scripts/deps.sh
	@scripts/golangci-lint.sh version

lint: ## check gofmt, go vet, golangci-lint, go mod tidy and go mod verify
	@scripts/lint.sh

test: deps lint ## check everything: deps, lint, then every test under the race detector, with an eye on secrets
	@scripts/test.sh

bench: ## run every benchmark once, with allocations
	go test -run='^$$' -bench=. -benchmem ./...

bench-check: ## measure against otter, MSAL Go and bare Redis and PostgreSQL, and fail if a bar is missed: 4 minutes, 5 GB
	go run -C bench . -check

stress: deps ## repeat every test and fuzz every target: COUNT=20 FUZZTIME=60s
	@scripts/stress.sh

example: ## run the example application
	go run ./examples/webapp
