#!/usr/bin/env bash
# How does a bare Debian 12 become a machine that runs weir? This script: Python packages into .venv, Java, jars into .jars.
# Safe to repeat and quick when nothing is missing. A step that fails says in one sentence what to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Settings of the surrounding machine that would bring other packages than the locked ones, or put them elsewhere.
# An index, a proxy and certificates of one's own (PIP_INDEX_URL, https_proxy, PIP_CERT) stay in force.
unset PIP_FIND_LINKS PIP_NO_INDEX PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT PIP_REQUIREMENT PIP_EDITABLE PIP_REQUIRE_VIRTUALENV
unset PIP_NO_BINARY PIP_ONLY_BINARY PIP_NO_DEPS PIP_PRE PIP_UPGRADE PIP_DRY_RUN PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1

LOCKS=(deploy/local/requirements-build.lock deploy/local/requirements.lock pyproject.toml)
LOG=$(mktemp "${TMPDIR:-/tmp}/weir-setup.XXXXXX")
trap 'rm -f "$LOG"' EXIT

say() { printf '%s\n' "$*" >&2; }
fail() {
	say "setup: $*"
	exit 1
}

# Root, or sudo that asks for no password: then system packages can be installed.
may_install() { command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; }

apt_install() {
	local as=() proxies=http_proxy,https_proxy,all_proxy,no_proxy,HTTP_PROXY,HTTPS_PROXY,ALL_PROXY,NO_PROXY
	if [ "$(id -u)" != 0 ]; then
		as=(sudo -n)
		# By name: a value on the command line would show the proxy's password to everybody.
		if sudo -n "--preserve-env=$proxies" true 2>/dev/null; then as+=("--preserve-env=$proxies"); fi
	fi
	say "  installing $* by apt"
	"${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >"$LOG" 2>&1 || true
	if ! "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >>"$LOG" 2>&1 </dev/null; then
		fail "apt could not install $* ($(grep -E '^(E|Err)' "$LOG" | tail -1)). Check the network, install it by hand, and run make setup again."
	fi
}

python_is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
	local candidate
	for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
		if command -v "$candidate" >/dev/null && python_is_new_enough "$candidate"; then
			command -v "$candidate"
			return
		fi
	done
	fail "Python 3.11 or newer is needed, found $(python3 --version 2>&1 | head -1 || true). Install one (Debian 12: apt-get install python3 python3-venv), or name it with PYTHON=..."
}

pip_install() {
	# Two retries: without a network the default five only make the sentence below come later.
	if .venv/bin/python -m pip install --quiet --retries 2 "$@" >"$LOG" 2>&1 </dev/null; then return; fi
	local cause
	if grep -q 'No space left on device' "$LOG"; then
		fail "the disk of $PWD or of pip's cache is full. Make room and run make setup again."
	elif grep -q 'DO NOT MATCH THE HASHES' "$LOG"; then
		fail "a Python package is not the one that was locked ($(grep -A1 -m1 'DO NOT MATCH' "$LOG" | tail -1 | xargs)). The index gave another file: check PIP_INDEX_URL and pip's configuration."
	elif cause=$(grep -m1 -oE 'Failed to establish a new connection[^)"]*|Name or service not known|Temporary failure in name resolution|Cannot connect to proxy[^)"]*|Missing dependencies for SOCKS support|Tunnel connection failed[^)"]*|Read timed out|Connection (refused|reset)[^)"]*|Network is unreachable' "$LOG"); then
		fail "no connection to the Python package index ($cause). Check the network, or PIP_INDEX_URL and the proxy settings, and run make setup again; what arrived is kept."
	fi
	tail -20 "$LOG" >&2
	fail "pip could not install the locked packages; its last lines are above."
}

set_up_python() {
	local python key
	# The path is part of it: a virtual environment does not survive being moved.
	key=$({ cat "${LOCKS[@]}" && printf '%s' "$PWD"; } | sha256sum | cut -d' ' -f1)
	if [ "$(cat .venv/.weir-setup 2>/dev/null)" = "$key" ] && python_is_new_enough .venv/bin/python; then return; fi
	python=$(find_python)
	if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
		may_install || fail "Python's venv module is missing. Run: apt-get install python3-venv (as root), then make setup again."
		apt_install python3-venv
	fi
	rm -f .venv/.weir-setup
	if ! { [ "$(cat .venv/.weir-path 2>/dev/null)" = "$PWD" ] && python_is_new_enough .venv/bin/python; }; then
		say "[1/4] $("$python" --version): making the virtual environment .venv"
		"$python" -m venv --clear "$(readlink -f .venv)" >"$LOG" 2>&1 || fail "the virtual environment could not be made: $(tail -1 "$LOG")"
		printf '%s' "$PWD" >.venv/.weir-path
	fi
	say "[2/4] $(grep -c '==' deploy/local/requirements.lock) Python packages, each checked against its hash (Spark is the large one, 450 MB)"
	pip_install --require-hashes -r deploy/local/requirements-build.lock
	pip_install --no-build-isolation --require-hashes -r deploy/local/requirements.lock
	pip_install --no-build-isolation --no-deps -e .
	printf '%s' "$key" >.venv/.weir-setup
}

# Java finds no class below a folder whose path holds a colon, an exclamation mark or a sign that takes four bytes (an emoji). Then what
# Java loads lies in the user's cache, and .venv and .jars are links to it.
place_for_java() {
	local LC_ALL=C name cache
	local odd=$'[:!\xf0-\xf4]'
	if ! [[ $PWD =~ $odd ]]; then return; fi
	cache="${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/weir/$(printf '%s' "$PWD" | sha256sum | cut -c1-16)"
	if [[ $cache =~ $odd ]]; then
		fail "Java cannot load programs below $PWD nor below $cache: their names hold a colon, an exclamation mark or an emoji. Set XDG_CACHE_HOME to a folder whose path holds none."
	fi
	mkdir -p "$cache/.venv" "$cache/.jars" || fail "$cache cannot be made. Set XDG_CACHE_HOME to a folder that you may write in."
	for name in .venv .jars; do
		if ! [ -L "$name" ]; then
			rm -rf "$name"
			say "$name is a link to $cache/$name: Java cannot load programs below $PWD"
		fi
		ln -sfn "$cache/$name" "$name"
	done
}

# The command as pip writes it names this folder in its first line, which some names break (a quote), and lets PYTHONPATH go first.
write_command() {
	cat >.venv/bin/weir <<-'END'
		#!/bin/sh
		# The command `weir` of this checkout. Modules of another Python, such as the pyspark of a SPARK_HOME, are not for it.
		unset PYTHONPATH PYTHONHOME
		command=$0
		[ ! -L "$command" ] || command=$(readlink -f -- "$command")
		exec "$(dirname -- "$command")/python" -P -s -m weir "$@"
	END
	chmod +x .venv/bin/weir
	# The file in which pip notes this folder is read in the locale's letters, and without the blanks at its end. It may keep Python from
	# starting: -S leaves it out.
	.venv/bin/python -S - <<-'END'
		import os, pathlib
		line = f"import sys; sys.path += [folder for folder in [{os.getcwd()!a}] if folder not in sys.path]\n"
		for file in pathlib.Path(".venv/lib").glob("python*/site-packages/_weir.pth"):
		    file.write_text(line, encoding="ascii")
	END
}

set_up_java() {
	local sentence
	if .venv/bin/python -m lakehouse.machine.java >/dev/null 2>&1; then return; fi
	if may_install; then
		say "[3/4] no Java 17 or 21 here"
		apt_install openjdk-17-jre-headless
	fi
	sentence=$(.venv/bin/python -m lakehouse.machine.java 2>&1) || fail "$sentence"
}

set_up_jars() {
	# Each run compares every jar with its hash: it takes a quarter of a second, and one that was cut is fetched again.
	.venv/bin/python -m deploy.local.jars fetch || exit 1
}

place_for_java
set_up_python
write_command
set_up_java
set_up_jars
say "weir is set up: .venv/bin/weir --help"
