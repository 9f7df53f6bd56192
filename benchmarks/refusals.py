"""What it costs to refuse an operation: the processor time of this process, until the answer is there.

    python -m benchmarks.refusals [--rounds 20]

Each text is new to the server (the first time) or known to it (again). Then 1,000 different documents from somebody
who is not signed in, each of which could be executed: what they take of the memory. No database is needed: what is
refused here runs no SQL. Prints Markdown.
"""

import argparse
import asyncio
import logging
import os
import statistics
import time
from collections.abc import Callable

import httpx
import structlog

from benchmarks.processes import peak_memory
from graph.app import create_app, spare_the_collector
from persistence.settings import Settings


def pages(n: int) -> str:
    return f"query Q{n} {{ users(first: 100) {{ nodes {{ tasks(first: 100) {{ nodes {{ id title }} }} }} }} }}"


def wide(n: int) -> str:
    fields = " ".join(f"a{i}: tasks(first: 100) {{ nodes {{ id title }} }}" for i in range(20))
    return f"query Q{n} {{ users(first: 100) {{ nodes {{ {fields} }} }} }}"


def chained(n: int) -> str:
    fragments = " ".join(f"fragment F{i} on User {{ ...F{i + 1} ...F{i + 1} }}" for i in range(60))
    return f"query Q{n} {{ viewer {{ ...F0 }} }} {fragments} fragment F60 on User {{ id }}"


def spread(n: int) -> str:
    return f"query Q{n} {{ viewer {{ {'...F ' * 900}}} }} fragment F on User {{ id name email role }}"


def repeated(n: int) -> str:
    return f"query Q{n} {{ viewer {{ {'id ' * 1_900}}} }}"


def long(n: int) -> str:
    return f"query Q{n} {{ viewer {{ {'id ' * 60_000}}} }}"


def valid(n: int) -> str:
    nodes = (f'a{i}: node(id: "{n} {i}") {{ id ... on Task {{ title status }} }}' for i in range(18))
    return f"query Q{n} {{ {' '.join(nodes)} }}"


FLOOD = 1_000

CASES: dict[str, Callable[[int], str]] = {
    "10,100 objects": pages,
    "200,100 objects by 20 aliases": wide,
    "60 fragments that spread each other twice": chained,
    "900 spreads of one fragment": spread,
    "one field 1,900 times": repeated,
    "60,000 tokens": long,
}


async def measure(client: httpx.AsyncClient, text: str) -> tuple[float, str]:
    """Milliseconds of processor time, and the code of the refusal."""
    before = time.process_time()
    answer = await client.post("/graphql", json={"query": text})
    taken = time.process_time() - before
    return taken * 1000, answer.json()["errors"][0]["extensions"]["code"]


async def flood(client: httpx.AsyncClient) -> None:
    """Send many documents that are all different and valid."""
    before = peak_memory(os.getpid())
    times = [(await measure(client, valid(n)))[0] for n in range(FLOOD)]
    after = peak_memory(os.getpid())
    print(
        f"\n{FLOOD:,} different documents of {len(valid(0)):,} characters: {statistics.median(times):.1f} ms each, ",
        end="",
    )
    print(f"the slowest {max(times):.0f} ms; peak memory {before:.0f} MB before and {after:.0f} MB after.")


async def run(rounds: int) -> None:
    app = create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    print("| operation | refused with | first time, ms | the worst of them | again, ms |")
    print("| --- | --- | --- | --- | --- |")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        await measure(client, "{ nothing }")
        spare_the_collector()  # as the server does when it starts
        for name, text in CASES.items():
            first = [await measure(client, text(n)) for n in range(rounds)]
            again = [(await measure(client, text(rounds - 1)))[0] for _ in range(rounds)]
            [code] = {found for _, found in first}
            times = [taken for taken, _ in first]
            cells = [name, f"`{code}`", *(f"{ms:.1f}" for ms in (statistics.median(times), max(times)))]
            print(f"| {' | '.join(cells)} | {statistics.median(again):.2f} |")
        await flood(client)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(run(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
