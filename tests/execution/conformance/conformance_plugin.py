"""pytest plugin that runs graphql-core's own tests with the executor of the project.

`CONFORMANCE=stock` changes nothing, `resolver` runs the compiled executor, in which each field without a resolver is
resolved by graphql-core's default one, `pure` also generates code for these. The tests are written as nested
functions (`describe_...`, `it_...`); what collects them stands here, so that no further package is needed.
"""

import importlib
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from graphql.execution.executor_throwing_on_incremental import ExecutorThrowingOnIncremental
from graphql.execution.incremental import IncrementalExecutor

from graph.execution.compiling.facts import Facts
from graph.execution.running.executor import CompiledExecution

MODE = os.environ.get("CONFORMANCE", "pure")
counts = {"compiled": 0, "left to graphql-core": 0}
passed: list[str] = []
failed: list[str] = []


class Counting(CompiledExecution):
    def plan(self) -> Any:
        self.facts = Facts(self.schema, plain_members=MODE == "pure")
        plan = super().plan()
        counts["left to graphql-core" if plan is None else "compiled"] += 1
        return plan


class CompiledIncremental(Counting, IncrementalExecutor):
    pass


class CompiledThrowing(Counting, ExecutorThrowingOnIncremental):
    pass


def pytest_configure(config: pytest.Config) -> None:
    if MODE != "stock":
        module: Any = importlib.import_module("graphql.execution.execute")
        module.IncrementalExecutor = CompiledIncremental
        module.ExecutorThrowingOnIncremental = CompiledThrowing


class Block(pytest.Module):
    """The tests and fixtures inside one `describe_...` function."""

    block: Any

    def _getobj(self) -> types.ModuleType:
        """Call the function and take its local variables for a module."""
        members: dict[str, Any] = {}

        def look(frame: types.FrameType, event: str, _: Any) -> None:
            if event == "return" and frame.f_code is self.block.__code__:
                members.update(frame.f_locals)

        before = sys.getprofile()
        sys.setprofile(look)
        try:
            self.block()
        finally:
            sys.setprofile(before)
        module = types.ModuleType(self.name)
        module.__dict__.update(members)
        return module

    def funcnamefilter(self, name: str) -> bool:
        return not name.startswith("_")

    def classnamefilter(self, name: str) -> bool:
        return False


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> Any:
    if isinstance(obj, types.FunctionType) and name.startswith("describe_"):
        block = Block.from_parent(collector, path=collector.path, name=name, nodeid=f"{collector.nodeid}::{name}")
        block.block = obj
        return block
    return None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        passed.append(report.nodeid)
    elif report.failed:
        failed.append(report.nodeid)


def pytest_sessionfinish() -> None:
    outcome = {"passed": passed, "failed": failed, "operations": counts}
    Path(os.environ["CONFORMANCE_OUTCOME"]).write_text(json.dumps(outcome))
