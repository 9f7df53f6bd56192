"""How long short commands take, from the first line of `./run` to their exit.

    python -m benchmarks.commands [--runs 20]

Each runs in a new process, in turns, beside a running server, so that none starts a database: wall time, and processor
time of the process, to which other work on the machine does little. `python -c pass` is what Python itself takes.
Prints Markdown.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from persistence.embedded.server import EmbeddedPostgres
from persistence.settings import ROOT

EMAIL = "test@example.com"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "./run help": ["run", "help"],
    "./run db status": ["run", "db", "status"],
    "./run user list": ["run", "user", "list"],
    "./run user set-role": ["run", "user", "set-role", "--email", EMAIL, "--role", "MEMBER"],
    "./run token create": ["run", "token", "create", "--email", EMAIL],
    "./run token list": ["run", "token", "list", "--email", EMAIL],
}


def took(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Milliseconds of the clock and of the processor that one process took. Raises `CalledProcessError`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall * 1000, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="taskstore-commands-") as directory:
        data_dir = Path(directory) / "data"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKSTORE_")}
        environment = {**inherited, "DATABASE_URL": "", "TASKSTORE_DATA_DIR": str(data_dir)}
        took(["run", "seed"], environment)
        with EmbeddedPostgres(data_dir):
            measured = [{name: took(command, environment) for name, command in COMMANDS.items()} for _ in range(runs)]
    print("| command | ms | quickest | processor, ms | least |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in COMMANDS:
        columns = zip(*(one[name] for one in measured), strict=True)
        shown = [f"{figure(column):.0f}" for column in columns for figure in (statistics.median, min)]
        print(f"| `{name}` | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
