# Sourced by benches/*/run: installs what they need on a fresh Debian machine, builds Larder, and sets `build` and
# `python`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
export PATH=$PATH:/usr/sbin # nginx and varnishd are in root's PATH only

say() { printf '==> %s\n' "$*" >&2; }

# Mirrors and networks of fresh machines fail now and then.
retry() {
    local attempt
    for attempt in 1 2 3 4 5; do
        if "$@"; then return 0; fi
        say "attempt $attempt failed: $*"
        sleep $((attempt * 3))
    done
    return 1
}

# packages COMMAND:PACKAGE…: installs the packages whose commands are missing.
packages() {
    local pair missing=() as_root=()
    for pair in "$@"; do
        command -v "${pair%%:*}" > /dev/null || missing+=("${pair#*:}")
    done
    if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null && ! command -v initdb > /dev/null; then
        missing+=(postgresql)
    fi
    python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3 python3-venv)
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if ! command -v apt-get > /dev/null; then
        say "missing, and there is no apt-get to install them: ${missing[*]}"
        return 1
    fi
    [[ $(id -u) -eq 0 ]] || as_root=(sudo)
    say "installing ${missing[*]}"
    # Installed services stay off.
    local apt_get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get)
    retry "${apt_get[@]}" update -q >&2
    retry "${apt_get[@]}" install -q -y --no-install-recommends "${missing[@]}" >&2
}

# environment REQUIREMENTS: sets `python` to a virtual environment with these packages.
environment() {
    local folder=$target/benches/python
    if ! cmp -s "$1" "$folder/installed.txt"; then
        say "installing $(grep -c '==' "$1") packages from PyPI"
        python3 -m venv --clear "$folder"
        retry "$folder/bin/pip" install -q --disable-pip-version-check -r "$1"
        cp "$1" "$folder/installed.txt"
    fi
    python=$folder/bin/python
}

# The program is built by itself; otherwise Cargo would enable dependency features that only tests need.
programs() {
    say "building"
    cargo build --locked --release --bin larder
    cargo build --locked --release --example with_postgres --example floor
}

export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 # leaves no files next to the sources
packages cc:gcc cc:libc6-dev
target=$(cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
build=$target/release
