#!/usr/bin/env bash
# Which versions does weir run with? Writes the lock files, with hashes and without the address of any registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
	tools=$(mktemp -d)
	trap 'rm -rf "$tools"' EXIT
	.venv/bin/python -m venv "$tools"
	"$tools/bin/pip" install --quiet uv
	uv="$tools/bin/uv"
fi
export UV_CUSTOM_COMPILE_COMMAND="make lock"
options=(--quiet --generate-hashes --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 --no-config "$@")
"$uv" pip compile "${options[@]}" --extra dev --extra kaggle pyproject.toml --output-file deploy/local/requirements.lock
"$uv" pip compile "${options[@]}" deploy/local/requirements-build.in --output-file deploy/local/requirements-build.lock
"$uv" pip compile "${options[@]}" tests/readers/requirements.in --output-file tests/readers/requirements.lock
.venv/bin/python -m deploy.local.jars lock
.venv/bin/python -m deploy.local.jars lock --wanted deploy/yarn/jars.in
