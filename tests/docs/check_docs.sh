#!/usr/bin/env bash
# Holds the documentation to the program. MUSTER is the program to test.
#
#   check_docs.sh links    every relative link of every page leads to a file, every #part to a heading
#   check_docs.sh names    every function and test that ARCHITECTURE.md names is in the sources
#   check_docs.sh options  every --option that a page names between backticks is one of docs/cli.md
#   check_docs.sh cli      docs/cli.md is what tools/gen_cli_docs.sh makes of the program
#   check_docs.sh readme   the ```console blocks of README.md run as written, one after the other
#   check_docs.sh training, joining   those of docs/training.md and docs/joining.md
set -euo pipefail
part=${1:?links, names, options, cli, readme, training or joining}
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"

pages() {
    find . -path ./build -prune -o -path ./.git -prune -o -name '*.md' -print | sort
}

# A heading's anchor: lower case, no punctuation, hyphens for blanks.
anchors() {
    sed -n '/^```/,/^```/d; s/^##* //p' "$1" | tr '[:upper:]' '[:lower:]' |
        sed "s/[^a-z0-9 _-]//g; s/ /-/g"
}

check_links() {
    local page link file part bad=0 n=0
    while read -r page; do
        while read -r link; do
            n=$((n + 1))
            file=${link%%#*}
            part=${link#"$file"}
            if [ -n "$file" ] && [ ! -e "$(dirname "$page")/$file" ]; then
                echo "$page: '$link' leads nowhere"
                bad=1
            elif [ -n "$part" ]; then
                [ -n "$file" ] && file=$(dirname "$page")/$file || file=$page
                anchors "$file" | grep -qxF -e "${part#\#}" || {
                    echo "$page: '$link' names a part that is not there"
                    bad=1
                }
            fi
        done < <(sed '/^```/,/^```/d' "$page" | grep -o '](\([^)]*\))' | sed 's/^](//; s/)$//' |
            grep -v '^[a-z]*://' || true)
    done < <(pages)
    echo "$n links"
    [ $bad -eq 0 ] && [ "$n" -gt 0 ]
}

check_names() {
    local name bad=0 n=0
    while read -r name; do
        n=$((n + 1))
        grep -rqw --include='*.[ch]' -e "$name" base proto engine envs rollout learn ledger node \
            shardcast replay inference trainer verifier orchestrator sim cli tests || {
            echo "ARCHITECTURE.md: there is no '$name'"
            bad=1
        }
    done < <(grep -o '`[a-z][a-z0-9]*_[a-z0-9_]*`' ARCHITECTURE.md | tr -d '`' | sort -u)
    echo "$n names"
    [ $bad -eq 0 ] && [ "$n" -gt 0 ]
}

# CONTRIBUTING.md names options of scripts, and so does what begins with tests/ between backticks.
check_options() {
    local page option bad=0 n=0
    while read -r page; do
        while read -r option; do
            n=$((n + 1))
            grep -qw -e "$option" docs/cli.md || {
                echo "$page: the program has no option $option"
                bad=1
            }
        done < <(sed '/^```/,/^```/d' "$page" | grep -o '`[^`]*`' | grep -v '^`tests/' |
            grep -o -e '--[a-z][a-z0-9-]*' | sort -u || true)
    done < <(printf '%s\n' docs/*.md README.md ARCHITECTURE.md | grep -vx docs/cli.md)
    echo "$n options"
    [ $bad -eq 0 ] && [ "$n" -gt 0 ]
}

check_cli() {
    tools/gen_cli_docs.sh "${MUSTER:?}" | diff -u docs/cli.md - || {
        echo "docs/cli.md is not what the program says: tools/gen_cli_docs.sh > docs/cli.md"
        return 1
    }
}

run_page() { # page
    local work status=0 pid
    : "${MUSTER:?}"
    work=$(mktemp -d)
    mkdir -p "$work/bin" "$work/tests/integration"
    ln -s "$MUSTER" "$work/bin/muster"
    cp -r tasks "$work/"
    cp -r tests/integration/tasks "$work/tests/integration/"
    {
        echo 'set -euxo pipefail'
        sed -n '/^```console$/,/^```$/p' "$1" | sed '/^```/d'
    } >"$work/readme.sh"
    # A process group of its own: what a failing line leaves running is ended with it.
    (cd "$work" && PATH="$work/bin:$PATH" exec setsid bash readme.sh) >"$work/readme.out" 2>&1 &
    pid=$!
    trap 'kill -- -'"$pid"' 2>/dev/null || true' EXIT
    wait $pid || status=$?
    if [ $status -ne 0 ]; then
        cat "$work/readme.out"
        tail -n 5 "$work"/*.log "$work"/*/*.log 2>/dev/null || true
    fi
    grep -c '^+ muster ' "$work/readme.out" | sed 's/$/ commands/'
    rm -rf "$work"
    return $status
}

case $part in
links) check_links ;;
names) check_names ;;
options) check_options ;;
cli) check_cli ;;
readme) run_page README.md ;;
training | joining) run_page "docs/$part.md" ;;
*)
    echo "check_docs.sh: unknown part '$part'" >&2
    exit 2
    ;;
esac
