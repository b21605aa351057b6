#!/bin/sh
# Makes .venv of the checkout ready: `sh deploy/local/ready.sh sandbox|dev`. Make calls it before all else.
# Here: what the machine itself must bring, checked and named. install.py beside this does the installing.
set -eu

here=$(dirname "$0")

fail() {
    printf 'yika: %s\n' "$@" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

has_venv() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

# The embedded stand-in database has no wheel from 3.14 on, so these come first.
in_reach() {
    "$1" -c 'import sys; sys.exit(sys.version_info >= (3, 14))' >/dev/null 2>&1
}

# Nothing to do, nearly always.
own=$here/../../.venv/bin/python
if [ -z "${PYTHON:-}" ] && "$own" -I "$here/install.py" --is-ready "$1" 2>/dev/null; then
    exit 0
fi

command -v git >/dev/null 2>&1 || printf 'yika: git is missing: sudo apt install git\n' >&2

python='' later='' without_venv='' old=''
for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python3.15}; do
    command -v "$name" >/dev/null 2>&1 || continue
    if ! is_new_enough "$name"; then
        old=${old:-$name}
    elif ! has_venv "$name"; then
        without_venv=${without_venv:-$name}
    elif in_reach "$name"; then
        python=$name
        break
    else
        later=${later:-$name}
    fi
done
python=${python:-$later}

if [ -z "$python" ]; then
    if [ -n "$without_venv" ]; then
        package=$("$without_venv" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        [ "$without_venv" = python3 ] && package=python3-venv
        fail "$package is missing: sudo apt install $package"
    elif [ -n "$old" ]; then
        fail "$old is $("$old" -V 2>&1 | cut -d' ' -f2), and Python 3.11 or later is needed." \
            "Install one beside it, or name one that is there: make PYTHON=/path/to/python3.12"
    elif [ -n "${PYTHON:-}" ]; then
        fail "$PYTHON, named by PYTHON, is not there"
    else
        fail "python3 is missing: sudo apt install python3 python3-venv"
    fi
fi

exec "$python" -I "$here/install.py" "$1"
