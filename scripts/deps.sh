#!/bin/sh
# Finds the programs that the tests need. Missing ones are installed with apt on Debian as root; anywhere else they are
# named, and the script fails. Add a line to `programs` for a new one.
set -eu

# need PACKAGES PURPOSE COMMAND...: one COMMAND, a name or a path, is enough; otherwise the Debian PACKAGES are wanted.
need() {
	packages=$1
	purpose=$2
	shift 2
	for candidate in "$@"; do
		if command -v "$candidate" >/dev/null 2>&1; then
			return 0
		fi
	done
	missing="$missing $packages"
	echo "deps: no $packages, for $purpose (looked for: $*)" >&2
}

# programs sets `missing`. Paths may be patterns: /usr/lib/postgresql/*/bin/postgres.
programs() {
	missing=
	need 'gcc libc6-dev' 'the race detector' "${CC:-gcc}" cc clang
	need 'chromium' 'the browser tests' chromium chromium-browser google-chrome google-chrome-stable
	need 'redis-server' 'the Redis tests' redis-server
	need 'nodejs' 'the tests with MSAL Node' node
	need 'npm' 'the tests with MSAL Node' npm
	need 'postgresql' 'the PostgreSQL tests' /usr/lib/postgresql/*/bin/postgres postgres
	if [ "$(uname -s)" = Linux ]; then # other systems have stores of their own
		need 'gnome-keyring' 'the tests of the Secret Service' gnome-keyring-daemon
		need 'dbus-daemon' 'the tests of the Secret Service' dbus-daemon
	fi
}

# no_cluster keeps Debian's postgresql from making a database server of its own and starting it with the machine: tests start
# theirs. Who has that file already has decided.
no_cluster() {
	file=/etc/postgresql-common/createcluster.conf
	if [ ! -e "$file" ]; then
		mkdir -p "${file%/*}"
		echo 'create_main_cluster = false' >"$file"
		export UCF_FORCE_CONFFOLD=1 # the package keeps it, without asking
	fi
}

# can_install tells whether this is Debian and we are root.
can_install() {
	[ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 && grep -q '^ID=debian$' /etc/os-release 2>/dev/null
}

if ! command -v go >/dev/null 2>&1; then
	echo 'deps: no Go: https://go.dev/doc/install (the version is in go.mod)' >&2
	exit 1
fi

programs
if [ -z "$missing" ]; then
	exit 0
fi
if ! can_install; then
	{
		echo 'deps: packages are installed only on Debian and as root. On Debian:'
		echo "  sudo apt-get install --no-install-recommends$missing"
		echo 'Elsewhere, install one of the programs in brackets for each line above.'
	} >&2
	exit 1
fi

export DEBIAN_FRONTEND=noninteractive
set -- -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120
apt-get "$@" update </dev/null
case "$missing" in *postgresql*) no_cluster ;; esac
# shellcheck disable=SC2086 # a list of packages
apt-get "$@" install -y --no-install-recommends $missing </dev/null

programs
if [ -n "$missing" ]; then
	echo "deps: still missing after apt-get install:$missing" >&2
	exit 1
fi
