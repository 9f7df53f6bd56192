"""The benchmarks run: what is measured in earnest elsewhere is run here for a moment."""

import subprocess
import sys

import pytest

from persistence.settings import ROOT


@pytest.mark.timeout(180)
@pytest.mark.xdist_group("processes")
def test_the_servers_of_the_comparison_give_the_same_answers() -> None:
    command = [sys.executable, "-m", "benchmarks.server", "--servers", "taskstore,stock,bare"]
    command += ["--workloads", "task,create", "--rounds", "1", "--seconds", "0.5"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)

    assert run.returncode == 0, run.stderr
    tables = [line for line in run.stdout.splitlines() if line.startswith("| createTask with a fresh key |")]
    assert len(tables) == 4  # rates, latencies, CPU, memory


@pytest.mark.xdist_group("processes")
def test_short_commands_are_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.commands", "--runs", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    assert run.returncode == 0, run.stderr
    assert [line for line in run.stdout.splitlines() if line.startswith("| `./run user list` |")]
