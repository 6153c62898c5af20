#!/bin/sh
# Makes .venv in this project and fetches wal-g into .local/bin. Nothing outside the project is written, except
# pip's own cache. `scripts/setup.sh constraints` writes constraints.txt instead.
#
# .venv/.ready is written last and holds a fingerprint of all that went in, the project's path included. So a set-up
# that was interrupted, moved or outdated is seen: without the stamp .venv is built anew, with an old one completed.
set -eu
cd -- "$(dirname -- "$0")/.."
project=$(pwd -P)
venv_python=.venv/bin/python
stamp=.venv/.ready
oldest_python=3.11 # pyproject.toml says the same

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

find_python() {
    # The exact version that constraints.txt was resolved with comes first.
    for name in ${PYTHON:-} python3.11 python3 python3.12 python3.13 python3.14; do
        # What it prints is the interpreter behind a virtual environment: .venv itself may be active, and is replaced.
        "$name" -c 'import sys; sys.version_info < (3, 11) and sys.exit(1); print(sys._base_executable)' 2>/dev/null || continue
        return
    done
    fail "no Python >= $oldest_python found (looked for python3.11 ... python3.14 and python3 on PATH)." \
        "Hint: install one (Debian: apt-get install python3 python3-venv) or name it: PYTHON=/path/to/python3 make setup"
}

need_venv_module() {
    "$1" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$1 cannot make virtual environments: its venv module is missing." \
            "Hint: apt-get install python3-venv (Debian, Ubuntu), or name another: PYTHON=/path/to/python3 make setup"
}

fingerprint() {
    "$venv_python" - "$project" \
        requirements.txt requirements-no-deps.txt constraints.txt pyproject.toml scripts/setup.sh <<'PYTHON'
import hashlib, pathlib, sys
digest = hashlib.sha256()
for name in sys.argv[2:]:
    digest.update(pathlib.Path(name).read_bytes())
print(digest.hexdigest(), "%d.%d" % sys.version_info[:2], sys.argv[1])
PYTHON
}

is_ready() {
    [ -f "$stamp" ] && now=$(fingerprint 2>/dev/null) && [ "$now" = "$(cat "$stamp")" ]
}

one_at_a_time() {
    # The lock hangs on descriptor 9 and ends with this shell, however it ends. Python takes it, so that no flock(1)
    # is needed.
    mkdir -p .local
    exec 9>.local/setup.lock
    "$1" - <<'PYTHON'
import fcntl
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("setup: another set-up is at work in this folder; waiting for it", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
PYTHON
}

quiet_pip() {
    # A home that cannot be written has no place for pip's cache.
    cache=
    [ -n "${HOME:-}" ] && [ -w "$HOME" ] || cache=--no-cache-dir
    python=$1
    shift
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore "$python" -m pip --quiet $cache "$@"
}

same_venv() {
    # Its stamp tells that it was complete once, in this place, and with this Python.
    [ -f "$stamp" ] || return 1
    ready_with=$(cut -d ' ' -f 2 "$stamp") && ready_at=$(cut -d ' ' -f 3- "$stamp")
    [ "$ready_at" = "$project" ] || return 1
    "$venv_python" -c "import pip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$ready_with')" 2>/dev/null
}

make_venv() {
    if same_venv; then
        say "something changed since the last set-up: completing .venv"
        rm -f "$stamp" # an interruption from here on means: build anew
        return
    fi
    [ ! -e .venv ] || say "the old .venv is incomplete or was made elsewhere: building it anew"
    need_venv_module "$1"
    rm -rf .venv
    say "making .venv with $1 ($("$1" -V 2>&1))"
    "$1" -m venv .venv
}

install_packages() {
    say "installing the packages of requirements.txt as constraints.txt pins them (one to three minutes)"
    quiet_pip "$venv_python" install -r requirements.txt -c constraints.txt
    quiet_pip "$venv_python" install --no-deps -r requirements-no-deps.txt -c constraints.txt
    # Without build isolation the pinned setuptools of .venv builds it, and nothing more is downloaded.
    quiet_pip "$venv_python" install --no-deps --no-build-isolation -e .
}

setup() {
    if is_ready; then return; fi
    python=$(find_python)
    one_at_a_time "$python"
    if is_ready; then return; fi # the one we waited for did it
    make_venv "$python"
    install_packages
    "$venv_python" -m pgdrill.repository.tools.install_walg --into .local/bin
    fingerprint > "$stamp.new"
    mv "$stamp.new" "$stamp"
    say "ready: make demo, make test, make help"
}

constraints() {
    python=$(find_python)
    need_venv_module "$python"
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    trap 'exit 130' INT TERM
    say "resolving requirements.txt in a fresh environment"
    "$python" -m venv "$fresh/venv"
    quiet_pip "$fresh/venv/bin/python" install -r requirements.txt
    quiet_pip "$fresh/venv/bin/python" install --no-deps -r requirements-no-deps.txt
    {
        printf '# Written by "make constraints" with Python %s: requirements.txt resolved in a fresh environment.\n' \
            "$("$fresh/venv/bin/python" -c 'import platform; print(platform.python_version())')"
        printf '# The oldest Python to support resolves (PYTHON=/usr/bin/python3 make constraints): packages drop old patch\n'
        printf '# releases too, so what a newer one resolves may not install on an older one.\n'
        # Only pins: whatever a machine's pip settings would add (links, indexes) is that machine's business.
        "$fresh/venv/bin/python" -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9][A-Za-z0-9._-]*==[^ ]+$'
    } > "$fresh/constraints.txt"
    cp "$fresh/constraints.txt" constraints.txt
    say "wrote constraints.txt ($(grep -c "^[^#]" constraints.txt) packages)"
}

case "${1:-setup}" in
    setup) setup ;;
    constraints) constraints ;;
    *) fail "unknown word '$1'; use: scripts/setup.sh [setup|constraints]" ;;
esac
