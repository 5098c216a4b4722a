# What scripts of this folder share; one that wants it begins, after 'set -euo pipefail', with
#
#     . "$(dirname "$0")/common.sh"
#
# and has $muster, the program to test; $here, this folder; and $work, a directory of its own, which goes
# when the script ends. Then the processes whose ids are in $up and $pids are ended too, and if it failed
# the ends of the logs are shown.

muster=${MUSTER:?the program to test}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
up=
pids=

finish() {
    status=$?
    for pid in $up $pids; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        for log in "$work"/*.err "$work"/*/*.log "$work"/*/*/*.log; do
            [ ! -s "$log" ] || { echo "== $log"; tail -n 15 "$log"; }
        done
    fi
    rm -rf "$work"
    exit $status
}
trap finish EXIT

await() { # a condition, for at most 60 s
    local until=$((SECONDS + 60))
    until eval "$1"; do
        [ $SECONDS -lt $until ] || { echo "in vain awaited: $1"; exit 1; }
        sleep 0.05
    done
}

field() { # file, name: a field of its last line, a JSON object
    sed -n 's/.*"'"$2"'": "\{0,1\}\([^",}]*\).*/\1/p' "$1" | tail -n 1
}
