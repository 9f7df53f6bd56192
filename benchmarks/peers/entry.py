"""Prints this server's entry for the comparison with other GraphQL servers (its option `--extra`), as JSON.

    python -m benchmarks.peers.entry > taskstore.json

Authentication is on: every request sends the token of an admin. The rate budget is lifted, because all requests
are one viewer's; every other limit is on. Logs and the report of the cost are off, as they are for the other servers.
"""

import json
import sys

from benchmarks.data import SECRET
from persistence.settings import ROOT

CONNECTIONS = 10

SCALARS = "id title description status priority dueAt completedAt version createdAt updatedAt"

QUERIES = {
    "Q1": "query($id: ID!) { task(id: $id) { id title status priority owner { id name } } }",
    "Q2": "query($owner: ID!, $status: TaskStatus!) { "
    "tasks(scope: ALL, first: 50, filter: {owner: {id: {eq: $owner}}, status: {eq: $status}}) { nodes { "
    + SCALARS
    + " } } }",
    "Q3": "query($after: String!) { "
    "users(first: 50, filter: {email: {gt: $after}}, orderBy: [{field: EMAIL}]) { nodes { "
    f"id name tasks(first: 20) {{ nodes {{ {SCALARS} }} }} }} }} }}",
    "Q4": f"mutation($input: CreateTaskInput!) {{ createTask(input: $input) {{ task {{ {SCALARS} }} }} }}",
    "Q5": "query($before: DateTime!) { tasks(scope: ALL, first: 50, filter: {createdAt: {lt: $before}}) { nodes { "
    "id title owner { id name tasks(first: 5) { nodes { id title status } } } } } }",
}

FORGET = "DELETE FROM tasks WHERE created_at > '2026-01-01'; TRUNCATE changes, idempotency_keys"


def environment(compiled: bool = True) -> dict[str, str]:
    """The settings of the server."""
    return {
        "TASKSTORE_COMPILED": str(compiled).lower(),
        "TASKSTORE_ENVIRONMENT": "production",
        "TASKSTORE_LOG_LEVEL": "warning",
        "TASKSTORE_REPORT_COST": "false",
        "TASKSTORE_POOL_SIZE": str(CONNECTIONS),
        "TASKSTORE_POOL_OVERFLOW": "0",
        "TASKSTORE_RATE_BUDGET": "1000000000",
        "TASKSTORE_RATE_REFILL": "1000000000",
    }


def entry(compiled: bool = True, workers: int = 1) -> dict[str, object]:
    python = sys.executable
    server = [python, "-m", "uvicorn", "graph.server.app:app_from_environment", "--factory", "--port", "{port}"]
    server += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    server += ["--no-proxy-headers", "--no-server-header"]  # as `./run serve` has it
    return {
        "prepare": [python, "-m", "benchmarks.peers.prepare"],
        "forget": FORGET,
        "run": [*server, "--workers", str(workers)],
        "cwd": str(ROOT),
        "env": environment(compiled),
        "headers": {"authorization": f"Bearer {SECRET}"},
        "dialect": {"enums": "upper", "queries": QUERIES},
    }


if __name__ == "__main__":
    json.dump({"taskstore": entry(), "taskstore-stock": entry(compiled=False)}, sys.stdout, indent=1)
