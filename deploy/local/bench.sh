#!/bin/sh
# Makes ready what `make bench` needs beside .venv: `sh deploy/local/bench.sh PYTHON`. Programs come from apt, and only
# those that are missing; the peers' packages are locked and go into .bench and the peers' own folders.
set -eu

cd "$(dirname "$0")/../.."
python=$1

fail() {
    printf 'yika: %s\n' "$@" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

go_packages=/usr/share/gocode/src
missing=''
command -v wrk >/dev/null 2>&1 || missing="$missing wrk"
command -v taskset >/dev/null 2>&1 || missing="$missing util-linux"
command -v go >/dev/null 2>&1 || missing="$missing golang-go"
[ -d "$go_packages/go.mongodb.org/mongo-driver" ] || missing="$missing golang-mongodb-mongo-driver-dev"
[ -d "$go_packages/github.com/golang-jwt/jwt" ] || missing="$missing golang-github-golang-jwt-jwt-dev"
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
command -v npm >/dev/null 2>&1 || missing="$missing npm"

if [ -n "$missing" ]; then
    command -v apt-get >/dev/null 2>&1 || fail "missing, and this is no Debian where they could be had:$missing"
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        fail "missing: sudo apt install$missing"
    fi
    printf 'Installing%s ...\n' "$missing"
    as_root apt-get update -q >/dev/null
    # shellcheck disable=SC2086  one word a package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >/dev/null
fi

node -e 'const [major, minor] = process.versions.node.split("."); process.exit(major > 20 || (major == 20 && minor >= 19) ? 0 : 1)' ||
    fail "node is $(node --version), and the peers' packages need 20.19 or later"

mkdir -p .bench

# What was installed last is written down beside it; an install that was interrupted is begun anew.
is_installed() {
    [ -f ".bench/$1.installed" ] && [ "$(cat ".bench/$1.installed")" = "$2" ]
}

peer=bench/peers/fastapi_motor
wanted=$("$python" -c 'import sys; print(sys.version)' | cat - "$peer/requirements.txt" | sha256sum)
if ! is_installed fastapi "$wanted"; then
    printf 'Installing the packages of %s ...\n' "$peer"
    rm -rf .bench/fastapi .bench/fastapi.installed
    "$python" -m venv .bench/fastapi
    .bench/fastapi/bin/python -I -m pip --quiet --quiet --no-input --disable-pip-version-check install \
        --only-binary=:all: --no-deps --require-hashes -r "$peer/requirements.txt"
    printf '%s\n' "$wanted" >.bench/fastapi.installed
fi

peer=bench/peers/fastify
wanted=$(node --version | cat - "$peer/package.json" "$peer/package-lock.json" | sha256sum)
if ! is_installed fastify "$wanted" || [ ! -d "$peer/node_modules" ]; then
    printf 'Installing the packages of %s ...\n' "$peer"
    rm -f .bench/fastify.installed
    (cd "$peer" && npm ci --ignore-scripts --loglevel=error)
    printf '%s\n' "$wanted" >.bench/fastify.installed
fi

# Debian's Go packages are sources in a GOPATH; the build itself is cached by Go.
GO111MODULE=off GOPATH=${go_packages%/src} GOFLAGS='' CGO_ENABLED=0 GOCACHE="$PWD/.bench/go-cache" \
    go build -o .bench/go-peer bench/peers/go/main.go
