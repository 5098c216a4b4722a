#!/usr/bin/env bash
# usage: tools/gen_cli_docs.sh [MUSTER] > docs/cli.md
#
# Every command's --help, as a page. MUSTER is the program; default build/release/muster here.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
muster=${1:-$top/build/release/muster}

help_of() { # words of a command: its help, or nothing if it has none
    "$muster" "$@" --help 2>/dev/null || true
}

section() { # level, words of a command
    local level=$1
    shift
    printf '\n%s muster %s\n\n```text\n%s\n```\n' "$level" "$*" "$(help_of "$@")"
}

# The words that a command's usage lines name after it: "muster task list|show|close" gives three.
words_of() {
    help_of "$1" | sed -n "s/^\(usage:\)\{0,1\} *muster $1 \([a-z|]*\).*/\2/p" | tr '|' '\n' |
        sed '/^$/d'
}

cat <<'TEXT'
# The command line

What `muster COMMAND --help` says, command by command. Made by `tools/gen_cli_docs.sh`; a test
holds it to the program.

Results go to stdout, logs and errors to stderr. Exit status: 0 done, 1 it was tried and failed, 2
the command line was wrong. Options are written `--name VALUE` or `--name=value`.
TEXT

printf '\n```text\n%s\n```\n' "$("$muster" --help)"
commands=$("$muster" --help | sed -n 's/^  \([a-z-]*\)  *[a-z].*/\1/p')
for command in $commands; do
    section '##' "$command"
    for word in $(words_of "$command"); do
        [ "$(help_of "$command" "$word")" = "$(help_of "$command")" ] || section '###' "$command" "$word"
    done
done
