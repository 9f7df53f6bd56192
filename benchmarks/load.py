"""The load generator: some connections, each of which sends the next request when its answer is there.

It runs as a process of its own (`python -m benchmarks.load`, the order as JSON on its standard input), because it
shall not wait for whoever measures, and it reads no more of an answer than it must: every microsecond that it uses
is one that the server does not have.
"""

import asyncio
import gc
import resource
import subprocess
import sys
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import uvloop

KEY = "00000000-0000-4000-8000-000000000000"
"""Stands for a fresh key in every request that is sent."""

LATE = 30.0
"""Seconds after the end in which the last answers may come."""


@dataclass(frozen=True)
class Load:
    """What the connections saw. Milliseconds; `answered` counts the answers after the end too, `rate` does not."""

    rate: float
    p50: float
    p99: float
    answered: int
    errors: int
    error: str
    cpu: float
    """Processor seconds of the load generator."""


def load(url: str, secret: str, bodies: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Send `bodies` again and again for some seconds."""
    order = {
        "url": url,
        "secret": secret,
        "bodies": [body.decode() for body in bodies],
        "connections": connections,
        "seconds": seconds,
    }
    command = [sys.executable, "-m", "benchmarks.load"]
    answer = subprocess.run(command, input=orjson.dumps(order), stdout=subprocess.PIPE, check=True).stdout
    return Load(**orjson.loads(answer))


def requests(url: str, secret: str, bodies: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """Whole HTTP requests, cut where a fresh key comes in."""
    made = []
    for body in bodies:
        head = (
            f"POST /graphql HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {secret}\r\nContent-Length: {len(body.encode())}\r\n\r\n"
        )
        before, found, after = (head + body).encode().partition(KEY.encode())
        made.append((before, after if found else b""))
    return made


class Generator:
    def __init__(self, sent: list[tuple[bytes, bytes]]) -> None:
        self.sent, self.next = sent, 0
        # Keys of one length that no other run has.
        self.run, self.keys = str(uuid4())[:24], count()
        self.latencies = array("d")
        self.in_time = self.errors = self.open = 0
        self.error = ""
        self.until = 0.0
        self.idle = asyncio.get_running_loop().create_future()

    def request(self) -> bytes:
        before, after = self.sent[self.next]
        self.next = (self.next + 1) % len(self.sent)
        return before if not after else b"%s%s%012d%s" % (before, self.run.encode(), next(self.keys), after)

    def answered(self, began: float, answer: bytes) -> bool:
        """Take down an answer. Returns whether another request is to be sent."""
        now = perf_counter()
        self.latencies.append(now - began)
        if not answer.startswith(b"HTTP/1.1 200") or b'"errors":[{' in answer:
            self.errors += 1
            self.error = self.error or answer[-500:].decode(errors="replace")
        if now < self.until:
            self.in_time += 1
            return True
        self.left()
        return False

    def left(self) -> None:
        self.open -= 1
        if not self.open and not self.idle.done():
            self.idle.set_result(None)


class Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.buffer, self.expected, self.began, self.done = bytearray(), 0, 0.0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by name

    def send(self) -> None:
        self.began = perf_counter()
        self.transport.write(self.generator.request())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.expected:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            self.expected = end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self.buffer) < self.expected:
            return
        answer, self.buffer, self.expected = bytes(self.buffer), bytearray(), 0
        if self.generator.answered(self.began, answer):
            self.send()
        else:
            self.done = True
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done:
            self.generator.errors += 1
            self.generator.error = self.generator.error or f"connection lost: {error}"
            self.generator.left()


async def generate(url: str, secret: str, bodies: list[str], connections: int, seconds: float) -> Load:
    generator = Generator(requests(url, secret, bodies))
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    protocols = []
    host, port = str(address.hostname), address.port or 80
    for _ in range(connections):
        _, protocol = await loop.create_connection(lambda: Connection(generator), host, port)
        protocols.append(protocol)
    gc.freeze()
    gc.disable()  # its pauses would be measured as the server's
    generator.open, generator.until = connections, perf_counter() + seconds
    for protocol in protocols:
        protocol.send()
    await asyncio.wait_for(generator.idle, seconds + LATE)
    ordered = sorted(generator.latencies)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Load(
        rate=generator.in_time / seconds,
        p50=ordered[len(ordered) // 2] * 1000,
        p99=ordered[len(ordered) * 99 // 100] * 1000,
        answered=len(ordered),
        errors=generator.errors,
        error=generator.error,
        cpu=used.ru_utime + used.ru_stime,
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(asdict(uvloop.run(generate(**orjson.loads(sys.stdin.buffer.read()))))))
