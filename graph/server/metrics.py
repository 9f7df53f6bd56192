"""What `/metrics` tells Prometheus: operations, their outcome and duration, SQL, answers, and the connection pool.

No label holds what a client can choose, such as an operation's name: the number of time series is bounded. With
several workers, all of them write into files in PROMETHEUS_MULTIPROC_DIR and whichever is asked answers for all.
"""

import os
from bisect import bisect_left
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, multiprocess
from prometheus_client.exposition import choose_encoder
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph.request.context import Context
from graph.transport.host import OperationRecord

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Read by prometheus_client when it is imported; `graph.server.process` sets it for workers."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SERIES = 200
"""More combinations of labels than there can be; a bound in case that is wrong."""


class Series:
    """What is counted for one kind, transport and outcome of operations, found once.

    The client's counters take a lock each and cost an operation 5 us, so they are told when somebody looks.
    """

    __slots__ = (
        "answered",
        "duration",
        "new",
        "new_bytes",
        "new_durations",
        "new_rows",
        "new_seconds",
        "new_statements",
        "operations",
        "rows",
        "statements",
    )

    def __init__(self, metrics: "Metrics", transport: str, kind: str, outcome: str) -> None:
        self.operations = metrics.operations.labels(transport, kind, outcome)
        # How long a subscription is open says nothing about the server.
        self.duration = metrics.duration.labels(kind) if kind != "subscription" else None
        self.answered, self.statements, self.rows = (
            metric.labels(kind) for metric in (metrics.answered, metrics.statements, metrics.rows)
        )
        self.new = self.new_bytes = self.new_statements = self.new_rows = 0
        self.new_seconds, self.new_durations = 0.0, [0] * (len(SECONDS) + 1)

    def settle(self) -> None:
        """Tell the counters what was counted since."""
        self.operations.inc(self.new)
        self.answered.inc(self.new_bytes)
        self.statements.inc(self.new_statements)
        self.rows.inc(self.new_rows)
        if self.duration is not None:
            self.duration._sum.inc(self.new_seconds)  # what `observe` does for each value
            for bucket, count in zip(self.duration._buckets, self.new_durations, strict=True):
                bucket.inc(count)
        self.new = self.new_bytes = self.new_statements = self.new_rows = 0
        self.new_seconds, self.new_durations = 0.0, [0] * (len(SECONDS) + 1)


class Metrics:
    """The metrics of one application."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.shared = DIRECTORY in os.environ
        self.registry = registry = CollectorRegistry()
        self.operations = Counter(
            "taskstore_operations",
            "Operations that are over; the outcome is ok, or the code of the first error.",
            ["transport", "kind", "outcome"],
            registry=registry,
        )
        self.duration = Histogram(
            "taskstore_operation_duration_seconds",
            "From the request to its answer, without subscriptions.",
            ["kind"],
            buckets=SECONDS,
            registry=registry,
        )
        self.answered = Counter(
            "taskstore_answer_bytes", "Bytes of answers before compression.", ["kind"], registry=registry
        )
        self.statements = Counter(
            "taskstore_sql_statements", "SQL statements of operations.", ["kind"], registry=registry
        )
        self.rows = Counter("taskstore_sql_rows", "Rows that operations read.", ["kind"], registry=registry)
        pool = Gauge(
            "taskstore_pool_connections",
            "Database connections, in use and idle.",
            ["state"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.in_use, self.idle = pool.labels("in_use"), pool.labels("idle")
        limit = Gauge(
            "taskstore_pool_connections_limit",
            "How many database connections there may be.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        sizes: Any = engine.pool
        limit.set(sizes.size() + sizes._max_overflow)
        if not self.shared:
            ProcessCollector(registry=registry)
        self._series: dict[tuple[str, str | None, str], Series] = {}

    def observe(self, context: Context | None, record: OperationRecord) -> None:
        """Count an operation that is over."""
        outcome = record.codes[0] if record.codes else record.stopped or "ok"
        key = record.transport, record.kind, outcome
        series = self._series.get(key)
        if series is None:
            series = self._new_series(key)
        series.new += 1
        series.new_bytes += record.bytes
        series.new_seconds += record.duration
        series.new_durations[bisect_left(SECONDS, record.duration)] += 1
        if context is not None:
            series.new_statements += context.session.statements
            series.new_rows += context.session.rows
        if self.shared:  # another process may look
            series.settle()
            self._look_at_pool()

    def _new_series(self, key: tuple[str, str | None, str]) -> Series:
        if len(self._series) >= SERIES:
            key = key[0], key[1], "other"
        transport, kind, outcome = key
        # Refused before it was known what it is: a syntax error, for example.
        series = self._series[key] = Series(self, transport, kind or "unknown", outcome)
        return series

    def _look_at_pool(self) -> None:
        pool: Any = self.engine.pool
        resting = pool.readers.idle if pool.readers else 0  # out of the pool for reads, and not in use
        self.in_use.set(pool.checkedout() - resting)
        self.idle.set(pool.checkedin() + resting)

    def routes(self) -> list[Route]:
        return [Route("/metrics", self.answer)]

    async def answer(self, request: Request) -> Response:
        """All metrics, in the text format that the scraper accepts."""
        self._look_at_pool()
        for series in self._series.values():
            series.settle()
        registry = self.registry
        if self.shared:
            forget_dead_workers(Path(os.environ[DIRECTORY]))
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})


def forget_dead_workers(directory: Path) -> None:
    """A worker that died holds no connections; what it counted stays."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except PermissionError:
            pass
