#!/usr/bin/env bash
# Two machines, a cable between them, and nobody who says where shards are served: the trainer's
# weights reach the worker, and its units are paid. What owners see: which row is theirs, what they
# earned. Network namespaces: root.
set -euo pipefail

. "$(dirname "$0")/common.sh"
a=muster-a-$$ b=muster-b-$$

finish() { # namespaces besides
    status=$?
    for ns in $a $b; do
        for pid in $(ip netns pids $ns 2>/dev/null); do kill "$pid" 2>/dev/null || true; done
    done
    wait 2>/dev/null || true
    for ns in $a $b; do ip netns delete $ns 2>/dev/null || true; done
    [ $status -eq 0 ] || [ $status -eq 77 ] || tail -n 12 "$work"/*.log
    rm -rf "$work"
    exit $status
}

ip netns add $a 2>/dev/null || { echo "skipped: network namespaces need root"; exit 77; }
ip netns add $b
ip link add va netns $a type veth peer name vb netns $b
ip -n $a addr add 10.99.7.1/24 dev va
ip -n $b addr add 10.99.7.2/24 dev vb
for end in "$a va" "$b vb"; do
    ip -n ${end% *} link set lo up
    ip -n ${end% *} link set ${end#* } up
done
on_a() { ip netns exec $a "$muster" "$@"; }
on_b() { ip netns exec $b "$muster" "$@"; }

cd "$work"
cp -r "$here/tasks/small" task
sed -i 's/^  steps: 60/  steps: 100000/' task/task.yaml
on_a orchestrator --dir orch --listen tcp://0.0.0.0:4000 --enrol tcp://0.0.0.0:4001 \
    --advertise 10.99.7.1 2>orch.log &
await '[ -e orch/ready.json ]'
on_a task publish task --dir initiator --join "$(on_a invite --dir orch --role initiator)" 2>/dev/null
on_a join "$(on_a invite --dir orch --role trainer)" 2>trainer.log &
on_a join "$(on_a invite --dir orch --role verifier)" 2>verifier.log &

# The owner's secret stays on the owner's machine, and gets the pay.
on_b keys new owner >/dev/null
on_b keys new worker/keys >/dev/null
on_b keys certify owner worker --role inference
rm worker/keys/owner.key
on_b keys show worker | grep -q 'secret elsewhere'
on_b join "$(on_a invite --dir orch --role inference)" --dir worker 2>worker.log &
await '[ -e worker/membership ]'
await 'on_b status --dir worker 2>/dev/null | grep -q "[0-9a-f]\* inference  *alive  *[1-9]"'
on_b status --dir worker --json 2>/dev/null | python3 -c '
import json, sys
nodes = json.load(sys.stdin)["nodes"]
worker = next(n for n in nodes if n["role"] == "inference")
assert worker["accepted"] > 0 and worker["earned"] > 0, worker
assert worker["owner"] == sys.argv[1], worker
assert worker["endpoint"].startswith("tcp://10.99.7.2:"), worker["endpoint"]
trainer = next(n for n in nodes if n["role"] == "trainer")
assert trainer["endpoint"].startswith("tcp://10.99.7.1:"), trainer["endpoint"]
' "$(on_b keys show owner --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["owner"])')"

# What a shell leaves of a link without quotes.
link=$(on_a invite --dir orch --role inference)
on_b join "${link%%&*}" 2>said && exit 1
grep -q 'put it in quotes' said
echo "a worker on another machine is paid"
