#!/usr/bin/env bash
# How is a bare Debian 12 set up to run weir? This script installs Python packages into .venv, Java, jars into .jars, and Prometheus
# into .tools.
# Safe to repeat, and fast when nothing is missing. If a step fails, it prints what to do in one sentence.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Unset variables that would install other packages than the locked ones, or install them elsewhere.
# A custom index, proxy and certificates (PIP_INDEX_URL, https_proxy, PIP_CERT) stay in force.
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

# As root, or with sudo without a password, system packages can be installed.
may_install() { command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; }

apt_update() { as_root apt-get update -qq >"$LOG" 2>&1 || true; }

apt_install() {
	say "  installing $* by apt"
	apt_update
	if ! as_root apt-get install -y -qq --no-install-recommends "$@" >>"$LOG" 2>&1 </dev/null; then
		fail "apt could not install $* ($(grep -E '^(E|Err)' "$LOG" | tail -1)). Check the network, install it by hand, and run make setup again."
	fi
}

as_root() {
	local as=() proxies=http_proxy,https_proxy,all_proxy,no_proxy,HTTP_PROXY,HTTPS_PROXY,ALL_PROXY,NO_PROXY
	if [ "$(id -u)" != 0 ]; then
		as=(sudo -n)
		# By name, since every user could read the proxy's password in a value on the command line.
		if sudo -n "--preserve-env=$proxies" true 2>/dev/null; then as+=("--preserve-env=$proxies"); fi
	fi
	"${as[@]}" env DEBIAN_FRONTEND=noninteractive "$@"
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
	# Two retries: without a network the default five only delay the message below.
	if .venv/bin/python -m pip install --quiet --retries 2 "$@" >"$LOG" 2>&1 </dev/null; then return; fi
	local cause
	if grep -q 'No space left on device' "$LOG"; then
		fail "the disk of $PWD or of pip's cache is full. Free some space and run make setup again."
	elif grep -q 'DO NOT MATCH THE HASHES' "$LOG"; then
		fail "a Python package is not the one that was locked ($(grep -A1 -m1 'DO NOT MATCH' "$LOG" | tail -1 | xargs)). The index returned another file: check PIP_INDEX_URL and pip's configuration."
	elif cause=$(grep -m1 -oE 'Failed to establish a new connection[^)"]*|Name or service not known|Temporary failure in name resolution|Cannot connect to proxy[^)"]*|Missing dependencies for SOCKS support|Tunnel connection failed[^)"]*|Read timed out|Connection (refused|reset)[^)"]*|Network is unreachable' "$LOG"); then
		fail "no connection to the Python package index ($cause). Check the network, or PIP_INDEX_URL and the proxy settings, and run make setup again; downloaded packages are kept."
	fi
	tail -20 "$LOG" >&2
	fail "pip could not install the locked packages; its last lines are above."
}

set_up_python() {
	local python key
	# The key includes the path, since a virtual environment cannot be moved.
	key=$({ cat "${LOCKS[@]}" && printf '%s' "$PWD"; } | sha256sum | cut -d' ' -f1)
	if [ "$(cat .venv/.weir-setup 2>/dev/null)" = "$key" ] && python_is_new_enough .venv/bin/python; then return; fi
	python=$(find_python)
	if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
		may_install || fail "Python's venv module is missing. Run: apt-get install python3-venv (as root), then make setup again."
		apt_install python3-venv
	fi
	rm -f .venv/.weir-setup
	if ! { [ "$(cat .venv/.weir-path 2>/dev/null)" = "$PWD" ] && python_is_new_enough .venv/bin/python; }; then
		say "[1/5] $("$python" --version): creating the virtual environment .venv"
		"$python" -m venv --clear "$(readlink -f .venv)" >"$LOG" 2>&1 || fail "the virtual environment could not be created: $(tail -1 "$LOG")"
		printf '%s' "$PWD" >.venv/.weir-path
	fi
	say "[2/5] $(grep -c '==' deploy/local/requirements.lock) Python packages, each checked against its hash (Spark is the large one, 450 MB)"
	pip_install --require-hashes -r deploy/local/requirements-build.lock
	pip_install --no-build-isolation --require-hashes -r deploy/local/requirements.lock
	pip_install --no-build-isolation --no-deps -e .
	printf '%s' "$key" >.venv/.weir-setup
}

# Java finds no classes below a folder whose path has a colon, an exclamation mark or a four-byte character (an emoji). In that case .venv and
# .jars are put into the user's cache and linked from here.
place_for_java() {
	local LC_ALL=C name cache
	local odd=$'[:!\xf0-\xf4]'
	if ! [[ $PWD =~ $odd ]]; then return; fi
	cache="${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/weir/$(printf '%s' "$PWD" | sha256sum | cut -c1-16)"
	if [[ $cache =~ $odd ]]; then
		fail "Java cannot load programs below $PWD nor below $cache: their paths have a colon, an exclamation mark or an emoji. Set XDG_CACHE_HOME to a folder whose path has none."
	fi
	mkdir -p "$cache/.venv" "$cache/.jars" || fail "$cache cannot be created. Set XDG_CACHE_HOME to a folder with write permission."
	for name in .venv .jars; do
		if ! [ -L "$name" ]; then
			rm -rf "$name"
			say "$name is a link to $cache/$name: Java cannot load programs below $PWD"
		fi
		ln -sfn "$cache/$name" "$name"
	done
}

# pip's own script has this folder in its first line, which breaks with some names (a quote), and would let PYTHONPATH take precedence.
write_command() {
	cat >.venv/bin/weir <<-'END'
		#!/bin/sh
		# The command `weir` of this checkout. It must not import modules of another Python, such as the pyspark of a SPARK_HOME.
		unset PYTHONPATH PYTHONHOME
		command=$0
		[ ! -L "$command" ] || command=$(readlink -f -- "$command")
		exec "$(dirname -- "$command")/python" -P -s -m weir "$@"
	END
	chmod +x .venv/bin/weir
	# Python reads pip's file with this folder's path in the locale's encoding and strips trailing blanks, so rewrite it in ASCII. -S skips it
	# here, since the file may prevent Python from starting.
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
		say "[3/5] no Java 17 or 21 found"
		apt_install openjdk-17-jre-headless
	fi
	sentence=$(.venv/bin/python -m lakehouse.machine.java 2>&1) || fail "$sentence"
}

set_up_jars() {
	# Every run checks all hashes, which takes a quarter of a second, and fetches truncated jars again.
	.venv/bin/python -m deploy.local.jars fetch || exit 1
}

# Debian's packages are unpacked, not installed: an installed Prometheus would start by itself, on ports of its own choice. apt has checked
# their signatures. Without them everything but `weir up --with-prometheus` and its tests works.
TEMPLATES=/usr/share/prometheus/alertmanager
PROMETHEUS_PACKAGES=(prometheus prometheus-alertmanager prometheus-pushgateway)
set_up_prometheus() {
	local tools=.tools/prometheus
	if [ "$(cat "$tools/.weir-setup" 2>/dev/null)" != "${PROMETHEUS_PACKAGES[*]}" ]; then
		unpack_prometheus "$tools" || return 0
	fi
	# Debian's Alertmanager looks for its templates there alone.
	if ! [ -e "$TEMPLATES/default.tmpl" ]; then
		if may_install; then
			as_root mkdir -p "$TEMPLATES"
			as_root cp "$tools$TEMPLATES"/*.tmpl "$TEMPLATES"
		else
			say "  Alertmanager needs root once: mkdir -p $TEMPLATES && cp $PWD/$tools$TEMPLATES/*.tmpl $TEMPLATES"
		fi
	fi
}

unpack_prometheus() {
	local tools=$1 fresh package
	if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
		say "  no apt: for weir up --with-prometheus, put prometheus, promtool and alertmanager on PATH"
		return 1
	fi
	say "[5/5] Prometheus, Alertmanager and Pushgateway, from Debian"
	mkdir -p .tools
	fresh=$(mktemp -d .tools/new.XXXXXX)
	if ! fetch_packages "$fresh"; then
		if may_install; then apt_update; fi
		if ! fetch_packages "$fresh"; then
			rm -rf "$fresh"
			say "  apt has no ${PROMETHEUS_PACKAGES[*]} ($(grep -E '^(E|Err)' "$LOG" | tail -1)): weir up --with-prometheus will not work"
			return 1
		fi
	fi
	for package in "$fresh"/*.deb; do
		# Not each has templates.
		dpkg-deb --fsys-tarfile "$package" | tar -x -C "$fresh" --wildcards './usr/bin/*' ".$TEMPLATES/*.tmpl" 2>"$LOG" || true
	done
	rm -f "$fresh"/*.deb
	[ -x "$fresh/usr/bin/promtool" ] || fail "Debian's package of Prometheus has no promtool ($(tail -1 "$LOG")). Report this."
	printf '%s' "${PROMETHEUS_PACKAGES[*]}" >"$fresh/.weir-setup"
	rm -rf "$tools"
	mv "$fresh" "$tools"
}

fetch_packages() { (cd "$1" && apt-get download -qq -o APT::Sandbox::User=root "${PROMETHEUS_PACKAGES[@]}") >"$LOG" 2>&1; }

place_for_java
set_up_python
write_command
set_up_java
set_up_jars
set_up_prometheus
say "weir is set up: .venv/bin/weir --help"
