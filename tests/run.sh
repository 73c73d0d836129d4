#!/bin/sh
# Sets up .venv, installs what all tests need, and runs them: `sh tests/run.sh [pytest arguments]`.
# As root on Debian or Ubuntu it also installs the browser and the PostgreSQL server that some tests
# drive; elsewhere those tests are skipped, and the last lines say which and why.
set -eu
cd "$(dirname "$0")/.."

packages="chromium postgresql nginx espeak-ng sox python3-venv nodejs g++"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    missing=""
    for package in $packages; do
        dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
    done
    if [ -n "$missing" ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing ||
            echo "tests/run.sh: could not install$missing; the tests that need them are skipped"
    fi
elif ! command -v chromium >/dev/null; then
    echo "tests/run.sh: not root, so nothing was installed; for the browser and server tests run"
    echo "    sudo apt-get install -y --no-install-recommends $packages"
fi

[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check -r tests/requirements.txt
if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "$@"  # `-m slow` runs the long ones
fi

# First format, lint and types; then what may run side by side, each test on one core (what fails
# there is tried once more, alone: both tries stand in the output); then what keeps time, alone.
failed=0
sh scripts/check --static || failed=$?
side_by_side="not slow and not gpu and not timed"
OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --maxprocesses=4 -m "$side_by_side" ||
    .venv/bin/python -m pytest --last-failed --last-failed-no-failures none -m "$side_by_side" ||
    failed=$?
.venv/bin/python -m pytest -m "not slow and not gpu and timed" || failed=$?
exit $failed
