"""The examples of docs/operations.md for proxies and systemd, run as they stand there."""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from persistence.settings import ROOT
from tests.outside import PASSWORD, PATIENCE, SIGN_UP, Server, running

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("processes")]

VIEWER = "{ viewer { name } }"
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])  # where servers are


def snippet(language: str) -> str:
    """The one block of a language in the document."""
    [text] = re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "docs/operations.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return str(text)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("behind") / "data", TASKSTORE_TRUSTED_PROXIES="127.0.0.1") as server:
        yield server


def nginx(server: Server, port: int, directory: Path) -> list[str]:
    certificate, key = directory / "example.pem", directory / "example.key"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=example.org", "-days", "2"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    site = replaced(
        snippet("nginx"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/example.org.pem", str(certificate)),
        ("/etc/ssl/example.org.key", str(key)),
        ("http://127.0.0.1:8000", server.address),
    )
    temporary = "".join(
        f"{name}_temp_path {directory}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\nerror_log {directory}/error.log;\npid {directory}/nginx.pid;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
    )
    return [str(shutil.which("nginx", path=SEARCHED)), "-p", str(directory), "-c", "nginx.conf"]


def caddy(server: Server, port: int, directory: Path) -> list[str]:
    site = replaced(
        snippet("caddy"),
        ("example.org {", f"http://127.0.0.1:{port} {{"),
        ("reverse_proxy 127.0.0.1:8000", f"reverse_proxy {server.address.removeprefix('http://')}"),
    )
    file = directory / "Caddyfile"
    file.write_text(f"{{\nadmin off\nstorage file_system {directory}/storage\n}}\n{site}")
    return [str(shutil.which("caddy", path=SEARCHED)), "run", "--adapter", "caddyfile", "--config", str(file)]


class Site:
    """The API as it is seen through a proxy."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.context = ssl.create_default_context()
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def request(self, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        url = urlsplit(urljoin(self.address, path))
        assert url.hostname
        connection: http.client.HTTPConnection
        if url.scheme == "https":
            connection = http.client.HTTPSConnection(url.hostname, url.port, context=self.context, timeout=PATIENCE)
        else:
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
        try:
            if body is None:
                connection.request("GET", url.path, headers=headers)
            else:
                connection.request("POST", url.path, json.dumps(body), {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def site(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    configured: Callable[[Server, int, Path], list[str]] = request.param
    name = configured.__name__
    if shutil.which(name, path=SEARCHED) is None:
        pytest.skip(f"there is no {name} here")
    directory = tmp_path_factory.mktemp(name)
    for _ in range(10):  # somebody else may take the free port first
        port = free_port()
        with (directory / "output").open("w") as output:
            process = subprocess.Popen(configured(server, port, directory), stdout=output, stderr=output)
        while process.poll() is None and not is_open(port):
            time.sleep(0.05)
        if process.poll() is None:
            break
    else:
        raise AssertionError((directory / "output").read_text())
    yield Site(f"{'https' if name == 'nginx' else 'http'}://127.0.0.1:{port}/tasks/")
    process.terminate()
    process.wait(PATIENCE)


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def signed_up(site: Site, name: str) -> str:
    account = {"email": f"{name}-{time.monotonic_ns()}@example.org", "name": name, "password": PASSWORD}
    status, text = site.request("graphql", {"query": SIGN_UP, "variables": {"input": account}})
    assert status == 200, text
    return str(json.loads(text)["data"]["signUp"]["secret"])


def test_people_use_the_api_behind_the_proxy(site: Site) -> None:
    secret = signed_up(site, "Ada")
    status, text = site.request("graphql", {"query": VIEWER}, Authorization=f"Bearer {secret}")

    assert status == 200
    assert json.loads(text)["data"] == {"viewer": {"name": "Ada"}}


def test_graphiql_loads_below_the_path_of_the_proxy(site: Site) -> None:
    status, page = site.request("graphql", Accept="text/html")
    assets = re.findall(r'(?:src|href)="([^"#]+)"', page)

    assert status == 200
    assert any(asset.endswith(".js") for asset in assets)
    assert [asset for asset in assets if site.request(urljoin("graphql", asset))[0] != 200] == []


def test_subscriptions_come_through_the_proxy(site: Site) -> None:
    secret = signed_up(site, "Grace")
    url = f"ws{site.address.removeprefix('http')}graphql"
    secure = site.context if url.startswith("wss") else None
    origin = Origin(site.address.removesuffix("/tasks/"))
    with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")], origin=origin, ssl=secure) as socket:
        socket.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {secret}"}}))
        assert json.loads(socket.recv(PATIENCE))["type"] == "connection_ack"
        socket.send(
            json.dumps({"id": "1", "type": "subscribe", "payload": {"query": "subscription Now { serverTime }"}})
        )
        answer = json.loads(socket.recv(PATIENCE))

    assert answer["type"] == "next", answer
    assert answer["payload"]["data"]["serverTime"]


@pytest.mark.parametrize("path", ["metrics", "healthz", "readyz", "livez", "../metrics", "static/../metrics", ""])
def test_what_is_for_operators_stays_inside(site: Site, path: str) -> None:
    status, text = site.request(f"/tasks/{path}")

    assert status in (400, 404) or text == ""


def test_the_schema_comes_through_the_proxy(site: Site) -> None:
    status, text = site.request("schema.graphql")

    assert status == 200
    assert "type Task " in text


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd here")
    unit = tmp_path / "taskstore.service"
    unit.write_text(replaced(snippet("ini"), ("/opt/taskstore", str(ROOT))))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
