"""Servers in processes of their own, and what processes use."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.data import SECRET
from benchmarks.peers.entry import environment
from benchmarks.users import descendants
from persistence.settings import ROOT

TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A running server. `url` without a path."""

    def __init__(self, name: str, url: str, pid: int) -> None:
        self.name, self.url, self.pid = name, url, pid

    def ask(self, body: bytes, secret: str = SECRET) -> Any:
        """The data of one operation. Raises `RuntimeError` for an answer with errors."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {secret}"}
        connection.request("POST", "/graphql", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        found = orjson.loads(content)
        if answer.status != 200 or "errors" in found:
            raise RuntimeError(f"{self.name} answers {answer.status} {content[:500].decode(errors='replace')}")
        return found["data"]


@contextlib.contextmanager
def serving(name: str, command: list[str], variables: Mapping[str, str]) -> Iterator[Server]:
    """A server that says on its standard output that it is ready, and where. Raises `RuntimeError` when it ends."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKSTORE_")}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**inherited, **variables}, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            assert process.stdout is not None
            ready = next((line for line in process.stdout if "ready: http" in line), None)
            if ready is None:
                log.seek(0)
                raise RuntimeError(f"{name} did not start: {log.read()[-2000:].decode(errors='replace')}")
            yield Server(name, ready.split()[-1].removesuffix("/graphql"), process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


MANY = {"TASKSTORE_MAX_CONNECTIONS_PER_ADDRESS": "1000000", "TASKSTORE_MAX_CONNECTIONS": "1000000"}
"""All connections of a benchmark are of one address."""


def taskstore(name: str, database_url: str, *, compiled: bool = True, workers: int = 1) -> Any:
    """This server on a database, as `./run serve` starts it, with the settings of the comparison of servers."""
    command = [sys.executable, "-m", "graph", "serve", "--no-browser", "--no-demo", "--no-migrate", "--port=0"]
    return serving(
        name, [*command, f"--workers={workers}"], {**environment(compiled), **MANY, "DATABASE_URL": database_url}
    )


def bare(name: str, database_url: str) -> Any:
    """The application without GraphQL."""
    return serving(name, [sys.executable, "-m", "benchmarks.bare"], {"DATABASE_URL": database_url})


def seconds(pid: int) -> float:
    """Processor seconds of a process and its children so far, with those of children that have ended."""
    ticks = 0
    for process in descendants(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def machine_seconds() -> float:
    """Processor seconds of everybody so far, with what the host took away."""
    user, nice, system, _, _, _, _, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + stolen) / TICKS


def forget_peak_memory(pid: int) -> None:
    """Let `peak_memory` begin anew, where the kernel allows it (`clear_refs`, proc(5))."""
    for process in descendants(pid):
        with contextlib.suppress(OSError):
            Path(f"/proc/{process}/clear_refs").write_text("5")


def peak_memory(pid: int) -> float:
    """The largest resident memory, in megabytes, that any one process of a server has had."""
    peaks = [0]
    for process in descendants(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
            peaks += [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return max(peaks) * 1024 / 1e6
