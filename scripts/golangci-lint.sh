#!/bin/sh
# Runs the pinned golangci-lint with the arguments given. The program is built into .bin once and built again when the
# pinned version or Go's has changed: a linter built with an older Go refuses newer code.
set -eu
cd "$(dirname "$0")/.."

version=v2.15.0
bin=$PWD/.bin
want="version ${version#v} built with $(go env GOVERSION) "

case "$("$bin/golangci-lint" version 2>/dev/null || true)" in
*"$want"*) ;;
*)
	echo "golangci-lint: building $version into .bin, which takes a minute or two"
	GOFLAGS='' GOBIN=$bin go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
	;;
esac
exec "$bin/golangci-lint" "$@"
