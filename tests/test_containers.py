"""The container files, checked without a container engine."""

import ast
import http.client
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from persistence.embedded.server import EmbeddedPostgres
from persistence.settings import ROOT, load

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("processes")]

DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h))+$"}
STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
# What the Compose specification (compose-spec.io) says of the keys used here; any other key has to be added first.
COMPOSE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["services"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "volumes": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
        "services": {
            "type": "object",
            "propertyNames": {"pattern": r"^[a-zA-Z0-9._-]+$"},
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "anyOf": [{"required": ["image"]}, {"required": ["build"]}],
                "properties": {
                    "image": {"type": "string"},
                    "build": {"type": "string"},
                    "init": {"type": "boolean"},
                    "read_only": {"type": "boolean"},
                    "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
                    "shm_size": {"type": "string", "pattern": r"^\d+(b|k|m|g|kb|mb|gb)$"},
                    "stop_grace_period": DURATION,
                    "environment": {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}},
                    "volumes": {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:/[^:]*(:ro)?$"}},
                    "ports": {"type": "array", "items": {"type": "string", "pattern": r":\d+$"}},
                    "tmpfs": STRINGS,
                    "cap_drop": STRINGS,
                    "security_opt": STRINGS,
                    "depends_on": {
                        "type": "object",
                        "additionalProperties": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["condition"],
                            "properties": {
                                "condition": {
                                    "enum": ["service_started", "service_healthy", "service_completed_successfully"]
                                },
                                "restart": {"type": "boolean"},
                            },
                        },
                    },
                    "healthcheck": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["test"],
                        "properties": {
                            "test": {"type": "array", "prefixItems": [{"enum": ["CMD", "CMD-SHELL", "NONE"]}]},
                            "interval": DURATION,
                            "timeout": DURATION,
                            "start_period": DURATION,
                            "retries": {"type": "integer", "minimum": 1},
                        },
                    },
                },
            },
        },
    },
}


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_the_compose_file_is_valid(compose: Any) -> None:
    Draft202012Validator.check_schema(COMPOSE)
    assert [error.message for error in Draft202012Validator(COMPOSE).iter_errors(compose)] == []


def test_the_app_waits_for_a_healthy_database_on_a_volume(compose: Any) -> None:
    database, app = compose["services"]["database"], compose["services"]["app"]
    assert app["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert database["healthcheck"]["test"][0] == "CMD"
    volume, _, path = database["volumes"][0].partition(":")
    assert volume in compose["volumes"]
    assert path == "/var/lib/postgresql/data"
    assert re.fullmatch(r"postgres:1[5-9]-\w+", database["image"])


def test_the_compose_file_holds_no_secret_and_gives_the_app_settings_it_knows(compose: Any) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    password = r"\$\{POSTGRES_PASSWORD:\?[^}]+\}"
    assert len(re.findall(password, text)) == text.count("POSTGRES_PASSWORD:?") == 2
    values = {name: substituted(str(value)) for name, value in compose["services"]["app"]["environment"].items()}
    settings = load(values)
    assert settings.database_url == "postgresql://taskstore:s3cret@database:5432/taskstore"
    assert settings.workers == 1


def substituted(text: str) -> str:
    """Compose's interpolation: `${NAME:-default}` and `${NAME:?message}`."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{\w+:\?[^}]*\}", "s3cret", text)


def test_every_setting_in_the_example_exists() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    examples = {match[1]: match[2] for line in lines if (match := re.match(r"# ([A-Z_]+)=(.*)$", line))}
    assert {"DATABASE_URL", "TASKSTORE_DATA_DIR", "POSTGRES_PASSWORD"} <= set(examples)
    load({name: value for name, value in examples.items() if name.startswith(("TASKSTORE_", "DATABASE_URL"))})


@dataclass
class Image:
    """What a Dockerfile comes to, its absolute directories moved below `root`."""

    root: Path
    workdir: Path = Path()
    user: str = "root"
    env: dict[str, str] = field(default_factory=dict)
    cmd: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    copied: set[str] = field(default_factory=set)

    def below_root(self, text: str) -> str:
        return re.sub(r"(?<![\w./])/(app|data)\b", rf"{self.root}/\1", text)

    def build(self, dockerfile: Path) -> "Image":
        for instruction, rest in instructions(dockerfile.read_text()):
            getattr(self, f"do_{instruction.lower()}")(self.below_root(rest))
        return self

    def do_from(self, rest: str) -> None:
        assert re.fullmatch(r"python:3\.1[1-4]-slim-\w+", rest)  # glibc: the embedded PostgreSQL has no build for musl

    def do_workdir(self, rest: str) -> None:
        self.workdir = Path(rest)
        self.workdir.mkdir(parents=True, exist_ok=True)

    def do_copy(self, rest: str) -> None:
        *sources, target = shlex.split(rest)
        for source in sources:
            assert is_in_context(source), f"{source} is left out by .dockerignore"
            self.copied.add(source)
            destination = self.workdir / target if len(sources) == 1 else self.workdir / target / source
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, destination, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, destination / source if destination.is_dir() else destination)

    def do_run(self, rest: str) -> None:
        if os.geteuid() != 0:
            rest = rest.replace("-o nobody -g nogroup", "")  # giving files away needs root
        subprocess.run(["/bin/sh", "-ec", rest], cwd=self.workdir, env=self.environment(), check=True)

    def do_env(self, rest: str) -> None:
        self.env |= dict(item.split("=", 1) for item in shlex.split(rest))

    def do_user(self, rest: str) -> None:
        self.user = rest

    def do_volume(self, rest: str) -> None:
        assert Path(rest).is_dir()

    def do_expose(self, rest: str) -> None:
        assert rest == "8000"

    def do_healthcheck(self, rest: str) -> None:
        self.healthcheck = ast.literal_eval(rest.partition("CMD ")[2])

    def do_cmd(self, rest: str) -> None:
        self.cmd = ast.literal_eval(rest)

    def environment(self) -> dict[str, str]:
        """What a container has, and what the machine needs to reach its package registry."""
        registry = re.compile(r"(PIP|UV|SSL|REQUESTS)_|https?_proxy", re.IGNORECASE)
        machine = {name: value for name, value in os.environ.items() if registry.match(name)}
        path = f"{Path(sys.executable).resolve().parent}:/usr/local/bin:/usr/bin:/bin"
        return {**machine, "PATH": path, "HOME": os.environ.get("HOME", "/"), **self.env}


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, without comments and with continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\s*\\\n\s*", " ", lines).splitlines():
        if line.strip():
            instruction, _, rest = line.strip().partition(" ")
            yield instruction, rest.strip()


def is_in_context(source: str) -> bool:
    """Whether .dockerignore lets a path at the top through; the last line that fits decides."""
    included = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if pattern and not pattern.startswith("#") and fnmatch(source, pattern):
            included = line.startswith("!")
    return included


def test_the_image_builds_and_serves(tmp_path: Path) -> None:
    image = Image(tmp_path).build(ROOT / "Dockerfile")
    assert image.user not in ("", "root", "0")
    assert not (image.workdir / ".venv" / ".uv").exists()
    assert image.copied.isdisjoint({".", ".env", ".git", "tests"})

    with EmbeddedPostgres(tmp_path / "postgres", options={"fsync": "off"}) as database, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [str(port) if argument == "8000" else argument for argument in image.cmd]
        server = subprocess.Popen(command, cwd=image.workdir, env={**image.environment(), "DATABASE_URL": database.url})
        try:
            probe = [argument.replace(":8000/", f":{port}/") for argument in image.healthcheck]
            deadline = time.monotonic() + 60
            while subprocess.run(probe, env=image.environment(), capture_output=True).returncode != 0:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(
                "POST", "/graphql", json.dumps({"query": "{ __typename }"}), {"Content-Type": "application/json"}
            )
            assert json.loads(connection.getresponse().read())["data"] == {"__typename": "Query"}
            connection.close()
            server.terminate()
            assert server.wait(15) == 0
        finally:
            server.kill()
            server.wait()
