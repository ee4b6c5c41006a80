#!/bin/sh
# Runs every test of both modules under the race detector, and fails too if one of them prints a secret. The secrets of tests begin with
# "marker-"; tokens of the local authorization server are JWTs. -v makes passing tests print what they log.
set -eu
cd "$(dirname "$0")/.."

out=$(mktemp)
trap 'rm -f "$out" "$out.failed"' EXIT

# Each process would sleep for a second at its end, so that the detector sees more of goroutines that go on. None does: tests look.
export GORACE=atexit_sleep_ms=0

# SQLite is C that was translated, which the detector makes several times slower; it looks at all that is written in Go.
unlooked='-gcflags=modernc.org/sqlite/lib=-race=false -d=checkptr=0'

run() {
	go test -v -race "$unlooked" -shuffle=on -timeout=8m "$@" 2>&1 || touch "$out.failed"
}

# Tests with real servers and processes have answers come in time, so they run one package after the other, but for those that
# need few processors; and those of providers mostly wait, so more of them at once than there are processors.
busy='/(examples/cli|examples/webapi|examples/webapp|internal/failures|internal/fleet|internal/flows|internal/interop|internal/migration|internal/testserver|providers/redis|providers/session|providers/sql)$'
{
	# shellcheck disable=SC2046 # a list of packages
	run $(go list ./... | grep -vE "$busy")
	(cd bench && run ./...)
	run -p=2 -parallel=8 ./internal/flows ./internal/interop ./internal/migration
	run -p=2 -parallel=8 ./examples/cli ./internal/testserver ./providers/redis ./providers/session
	run -p=1 -parallel=8 ./providers/sql
	run -p=1 ./internal/fleet ./internal/failures ./examples/webapi ./examples/webapp
} | tee "$out" | grep -E '^(ok|FAIL|panic:) ' || true

if grep -nE 'marker-|eyJ[A-Za-z0-9_-]{8,}\.' "$out"; then
	echo 'test: a secret was printed, see the lines above' >&2
	exit 1
fi
if [ -e "$out.failed" ]; then
	grep -vE '^ *(=== |--- (PASS|SKIP)|PASS$)' "$out"
	exit 1
fi
