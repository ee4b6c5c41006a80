#!/bin/sh
# Repeats every test COUNT times under the race detector, then fuzzes every target for FUZZTIME.
set -eu
cd "$(dirname "$0")/.."
export COATCHECK_STRESS=1 # more rounds in the tests of several processes

go test -race -shuffle=on -count="${COUNT:-20}" -timeout=2h ./...

grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r target; do
		echo "==> ${file%/*}: $target"
		go test -run='^$' -fuzz="^$target\$" -fuzztime="${FUZZTIME:-60s}" "${file%/*}" </dev/null
	done
done
