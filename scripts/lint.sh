#!/bin/sh
# The checks that need no test run, in every module of the repository.
set -eu
cd "$(dirname "$0")/.."
root=$PWD

echo '==> gofmt'
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	printf 'gofmt: not formatted:\n%s\n' "$unformatted" >&2
	exit 1
fi

find . -name go.mod -not -path './.*/*' -not -path '*/testdata/*' | sort | while read -r mod; do
	cd "$root/${mod%/go.mod}"
	echo "==> $mod: go mod tidy -diff, go mod verify"
	go mod tidy -diff
	go mod verify
	echo "==> $mod: go vet"
	go vet ./...
	echo "==> $mod: golangci-lint"
	"$root/scripts/golangci-lint.sh" run --config "$root/.golangci.yml" ./...
done

cd "$root"
for os in darwin windows; do
	echo "==> go vet of what runs on a person's machine, for $os"
	GOOS=$os CGO_ENABLED=0 go vet ./tokencache ./providers/file ./clients/... ./examples/cli
done
