#!/bin/sh
# Writes deploy/lock/*.txt from pyproject.toml: `sh deploy/local/lock.sh [--upgrade]`. Without --upgrade, pins
# that still fit stay. uv resolves for all platforms at once, from an environment that is thrown away.
set -eu

cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

python=${PYTHON:-python3}
[ -x .venv/bin/python ] && python=.venv/bin/python
"$python" -m venv "$scratch"
"$scratch/bin/python" -m pip --quiet --disable-pip-version-check install 'uv>=0.13,<0.14'

compile() {
    kind=$1
    shift
    # The file of before is read for the pins that stay.
    [ -f "deploy/lock/$kind.txt" ] && cp "deploy/lock/$kind.txt" "$scratch/$kind.txt"
    # No comments of uv's: they name the registry, or files of this machine.
    "$scratch/bin/uv" --quiet pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
        --only-binary :all: --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
        --output-file "$scratch/$kind.txt" "$@"
    {
        printf '# Written by "make lock" from pyproject.toml. What pip may install is named by its hash.\n'
        cat "$scratch/$kind.txt"
    } >"$scratch/$kind.new"
    mv "$scratch/$kind.new" "deploy/lock/$kind.txt"
    printf 'deploy/lock/%s.txt: %s packages\n' "$kind" "$(grep -c '^[a-z].*==' "deploy/lock/$kind.txt")"
}

compile dev --extra embedded --extra tracing --extra dev "$@"
# The others are constrained by it, so that it holds every pin of theirs.
sed -n 's/^\([a-z].*==[^\\]*[^\\ ]\) *\\*$/\1/p' deploy/lock/dev.txt >"$scratch/pins"
compile sandbox --extra embedded --constraint "$scratch/pins"
compile runtime --constraint "$scratch/pins"
compile tracing --extra tracing --constraint "$scratch/pins"
