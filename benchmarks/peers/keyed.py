"""The comparison's createTask, from this server with a fresh idempotency key in every request.

    python -m benchmarks.peers.keyed FOLDER --peers taskstore-keyed,mercurius [options of its bench.py]

The comparison makes its requests beforehand and repeats them, and a repeated key is a replay. So this works on a copy
of its folder whose script for wrk writes a number over the beginning of each key; it looks for one in every request,
whoever is asked.
"""

import json
import subprocess
import sys
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

from benchmarks.peers.entry import QUERIES, entry

INPUT = ("ownerId", "title", "description", "priority", "tags", "dueAt")

SENT = "  return requests[math.random(#requests)]\n"
BEGINNING = "Written by the load generator as"
"""Of the descriptions, which serve as keys: as many characters as take its place."""
FRESH = f"""\
  sent = (sent or 0) + 1
  local key = string.format('"idempotencyKey": "%09d-%022d', seed, sent)
  return (string.gsub(requests[math.random(#requests)], '"idempotencyKey": "{BEGINNING}', key, 1))
"""


def keyed() -> dict[str, object]:
    """The entry of this server, with createTask only."""
    variables = {"input": {name: f"$input.{name}" for name in INPUT} | {"idempotencyKey": "$input.description"}}
    queries = {"Q4": {"query": QUERIES["Q4"], "variables": variables}}
    return entry() | {"dialect": {"enums": "upper", "queries": queries}}


def with_fresh_keys(script: str) -> str:
    """The script for wrk, which numbers the keys. Raises SystemExit for a script of another form."""
    if script.count(SENT) != 1 or "function init(args)\n" not in script:
        raise SystemExit("load.lua is not the script that this program knows how to change")
    script = script.replace("function init(args)\n", "function init(args)\n  seed = tonumber(args[2])\n")
    return script.replace(SENT, FRESH)


def main(folder: Path, options: list[str]) -> int:
    with TemporaryDirectory(prefix="taskstore-keyed-") as temporary:
        copy, extra = Path(temporary) / "comparison", Path(temporary) / "keyed.json"
        copytree(folder, copy)
        script = copy / "load.lua"
        script.write_text(with_fresh_keys(script.read_text()))
        extra.write_text(json.dumps({"taskstore-keyed": keyed()}))
        command = [sys.executable, "bench.py", "--extra", str(extra), "--workloads", "Q4", *options]
        return subprocess.run(command, cwd=copy, check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
