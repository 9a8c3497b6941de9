# SPDX-License-Identifier: GPL-2.0-only
# The scripts in tools/ source this file, which installs what is missing and makes .venv.
#
# setup PACKAGES EXTRA: Debian packages that the caller needs in addition to those of
# ptescope itself, and the extra of pyproject.toml to install ("" for none).

cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '== %s\n' "$*" >&2; }

# step WHAT COMMAND...: run a command quietly; if it fails, say what failed and show its output.
step() {
    local what=$1 log
    shift
    say "$what"
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        say "FAILED: $what ($*)"
        exit 1
    fi
    rm -f "$log"
}

# The packages that are not installed. one|other: names of one package in different releases.
missing_packages() {
    local names package
    for names in "$@"; do
        for package in ${names//|/ }; do
            dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' && continue 2
        done
        echo "$names"
    done
}

# For each one|other, the name that apt knows.
names_here() {
    local names package
    for names in "$@"; do
        for package in ${names//|/ }; do
            apt-cache policy "$package" | grep -q 'Candidate: [0-9]' && { echo "$package"; continue 2; }
        done
        echo "${names%%|*}"
    done
}

setup() {
    local missing python=/usr/bin/python3 wanted
    if [ "$(id -u)" != 0 ]; then
        say "FAILED: BPF programs need root. Run this script as root."
        exit 4
    fi
    # bcc belongs to the distribution's Python, so .venv uses that one.
    # shellcheck disable=SC2086
    missing=$(missing_packages python3 python3-venv python3-bpfcc linux-libc-dev $1)
    if [ -n "$missing" ]; then
        step "apt-get update" apt-get update -qq
        # shellcheck disable=SC2086
        missing=$(names_here $missing)
        # shellcheck disable=SC2086
        step "apt-get install $(echo $missing)" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends $missing
    fi
    wanted=$({ cat pyproject.toml; $python --version; } | sha256sum | cut -c1-16)
    if [ ! -e ".venv/made-$wanted" ]; then
        step "python3 -m venv .venv (with the system's packages, which include bcc)" \
            $python -m venv --clear --system-site-packages .venv
        touch ".venv/made-$wanted"
    fi
    if [ ! -e ".venv/ready${2:+-$2}" ]; then
        step "pip install ptescope and its dependencies" \
            .venv/bin/python -m pip install --disable-pip-version-check -e ".${2:+[$2]}"
        touch .venv/ready ".venv/ready${2:+-$2}"
    fi
    # Without an extra, ptescope itself compiles while it follows.
    if [ -n "$2" ]; then
        step "load the shadow table (compiled the first time, about 20 seconds)" \
            .venv/bin/python -c 'from shadow.precompile import prepare; prepare()'
    fi
}
