"""graphql-core's own tests of execution pass with the compiled executor wherever they pass with its own.

They come with the source distribution, which is fetched once and kept in pytest's cache.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
VERSION = version("graphql-core")
NONNULL = "tests/execution/test_nonnull.py::describe_execute_handles_non_nullable_types::"
MULTIPLE = NONNULL + "describe_handles_multiple_errors_for_a_single_response_position::"

SOONER = "the test fails a future that was cancelled already: siblings of a non-null error are cancelled sooner here"
DISCARDED = "an error below a position that is null already is discarded, as in graphql.js"
ORDER = "the same errors in another order: breadth-first instead of depth-first"

EXCEPTIONS = {
    "resolver": {
        "tests/execution/test_cancellation.py::describe_execute_cancellation::"
        "suppresses_sibling_errors_after_a_non_null_error_bubbles": SOONER,
        NONNULL + "describe_nulls_a_complex_tree_of_nullable_fields_each::throws": ORDER,
        MULTIPLE + "slower_nullable_after_non_nullable_root_field": DISCARDED,
        MULTIPLE + "slower_nullable_after_non_nullable_nested_field": DISCARDED,
    },
    "pure": {
        "tests/execution/test_cancellation.py::describe_execute_cancellation::"
        "suppresses_sibling_errors_after_a_non_null_error_bubbles": SOONER,
    },
}


def downloaders() -> list[list[str]]:
    """Ways to run pip: this environment may have none of its own."""
    found = [[sys.executable, "-m", "pip"]]
    if pip := shutil.which("pip3") or shutil.which("pip"):
        found.append([pip])
    if uv := shutil.which("uv"):
        found.append([uv, "tool", "run", "pip"])
    return found


def fetch(directory: Path) -> Path | None:
    """The unpacked source distribution of the installed graphql-core; None when it cannot be had."""
    unpacked = directory / f"graphql_core-{VERSION}"
    if unpacked.exists():
        return unpacked
    arguments = ["download", "--no-deps", "--no-binary", "graphql-core", "--dest", str(directory)]
    for pip in downloaders():
        done = subprocess.run([*pip, *arguments, f"graphql-core=={VERSION}"], capture_output=True, timeout=90)
        if done.returncode == 0:
            with tarfile.open(directory / f"graphql_core-{VERSION}.tar.gz") as archive:
                archive.extractall(directory, filter="data")
            return unpacked
    return None


@pytest.fixture(scope="module")
def source(pytestconfig: pytest.Config) -> Path:
    assert pytestconfig.cache is not None
    unpacked = fetch(Path(pytestconfig.cache.mkdir("graphql-core")))
    if unpacked is None:
        pytest.skip(f"graphql-core {VERSION} has no source distribution within reach: 738 tests not run")
    return unpacked


def start(source: Path, mode: str, outcome: Path) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(source), str(HERE), str(ROOT)])
    environment = os.environ | {"CONFORMANCE": mode, "CONFORMANCE_OUTCOME": str(outcome), "PYTHONPATH": path}
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(source), "-p", "conformance_plugin"]
    command += ["-p", "no:cacheprovider", "-o", "python_classes=PyTest*", "--timeout", "30", "-q", "tests/execution"]
    return subprocess.Popen(command, cwd=source, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.timeout(240)
def test_what_passes_with_graphql_cores_executor_passes_with_the_compiled_one(source: Path, tmp_path: Path) -> None:
    runs = {mode: start(source, mode, tmp_path / mode) for mode in ("stock", "resolver", "pure")}
    for run in runs.values():
        run.wait(200)
    outcomes: dict[str, Any] = {mode: json.loads((tmp_path / mode).read_text()) for mode in runs}

    expected = set(outcomes["stock"]["passed"])
    assert len(expected) > 700
    for mode, exceptions in EXCEPTIONS.items():
        assert expected - set(outcomes[mode]["passed"]) == set(exceptions)
        assert outcomes[mode]["operations"]["compiled"] > 300
