"""Backup and restore of the embedded database, by the commands of docs/operations.md as they stand there."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import anyio
import pytest

from persistence.settings import ROOT
from tests.outside import PATIENCE, Client, running

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180), pytest.mark.xdist_group("processes")]


def commands(heading: str) -> list[str]:
    """The shell commands of a section, block by block."""
    section = (ROOT / "docs/operations.md").read_text().partition(f"\n{heading}\n")[2].partition("\n### ")[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


async def test_a_backup_of_a_running_server_is_restored_as_documented(tmp_path: Path) -> None:
    backup, restore = commands("### The embedded database")
    serve, _, rest = restore.partition("\n")
    old, new = tmp_path / "old", tmp_path / "new"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKSTORE_")}
    environment |= {"DATABASE_URL": "", "TASKSTORE_PORT": "0"}

    def here(text: str) -> str:
        for written, meant in (('"$PWD"/.venv', f"{ROOT}/.venv"), (".data-new", str(new)), ("url .data", f"url {old}")):
            text = text.replace(written, meant)
        return text

    def shell(text: str) -> None:
        subprocess.run(["bash", "-ec", text], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, check=True)

    with running(old) as server:
        client = Client(server.address)
        async with client.http:
            await client.sign_up("Ada")
            await client.create("Kept")
        await anyio.to_thread.run_sync(shell, here(backup))
        await client.http.aclose()
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(  # noqa: ASYNC220  # returns at once
            ["bash", "-c", f"exec env {here(serve).partition('#')[0]}"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + PATIENCE
    while '"address": "http' not in ((new / "state.json").read_text() if (new / "state.json").exists() else ""):
        assert process.poll() is None, (tmp_path / "output").read_text()
        assert time.monotonic() < deadline
        await anyio.sleep(0.05)
    try:
        await anyio.to_thread.run_sync(shell, here(backup.rpartition("\n\n")[0] + "\n" + rest))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0

    with running(new) as server:
        again = Client(server.address)
        async with again.http:
            again.email = client.email
            await again.sign_in()
            assert await again.titles() == ["Kept"]
