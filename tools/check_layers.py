#!/usr/bin/python3
"""Holds every #include to the layer table of ARCHITECTURE.md. Exit status 1 on a violation.

usage: tools/check_layers.py [TOP]      default: the tree this file is in
"""
import pathlib
import re
import sys

ROLES = "inference trainer verifier orchestrator"
USES = {
    "base": "",
    "proto": "base",
    "engine": "base",
    "envs": "base",
    "rollout": "base proto engine envs",
    "learn": "base proto engine",
    "ledger": "base proto",
    "node": "base proto",
    "shardcast": "base proto node",
    "replay": "base proto engine envs rollout learn node shardcast",
    "inference": "base proto engine envs rollout node shardcast",
    "trainer": "base proto engine envs rollout learn node shardcast replay",
    "verifier": "base proto engine envs rollout learn ledger node shardcast replay",
    "orchestrator": "base proto envs ledger node shardcast",
    "sim": "base proto engine envs rollout learn ledger node shardcast replay " + ROLES,
    "cli": "base proto engine envs rollout learn ledger node shardcast replay sim " + ROLES,
}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def allowed(parts):
    """The folders that a file at these path parts may include from; None: not ours to judge."""
    if parts[0] in USES:
        return {parts[0], *USES[parts[0]].split()}
    if parts[:2] == ("tests", "unit") and parts[2] in USES:
        return {"support", "unit", parts[2], *USES[parts[2]].split()}
    return None


def main():
    top = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    bad = seen = 0
    for path in sorted(p for glob in ("*.[ch]", "*.cu", "*.cuh") for p in top.rglob(glob)):
        name = path.relative_to(top)
        may = allowed(name.parts)
        if may is None:
            continue
        seen += 1
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            found = INCLUDE.match(line)
            if not found or found[1].split("/")[0] in may:
                continue
            if name.parts[0] == "tests" and "/" not in found[1]:
                continue  # a header beside the test
            print(f'{name}:{number}: a file in {name.parent} may not include "{found[1]}"')
            bad += 1
    print(f"layers: {seen} files, {bad} violations")
    return 1 if bad or not seen else 0


sys.exit(main())
