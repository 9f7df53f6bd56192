"""Servers of Debian's packages beside the embedded one: PostgreSQL 15, and PgBouncer in front of it."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
PGBOUNCER = Path("/usr/sbin/pgbouncer")


def identity() -> dict[str, Any]:
    """Arguments of `subprocess`: neither program runs as root."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="taskstore-15-"))
    give(home)
    yield home
    shutil.rmtree(home)


def give(path: Path) -> None:
    """Give a file to the user that the programs run as."""
    if user := identity():
        os.chown(path, user["user"], user["group"])


def listening_port() -> socket.socket:
    """One that accepts connections and says nothing."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def free_port() -> int:
    with listening_port() as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Server:
    """A PostgreSQL 15 that trusts everybody on its socket in `home`, where user and database are `postgres`."""

    home: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.home}&port={self.port}"

    def run(self, name: str, *arguments: str) -> None:
        program = [str(POSTGRES_15 / name), *arguments]
        subprocess.run(program, cwd=self.home, check=True, capture_output=True, **identity())

    def write(self, name: str, text: str) -> None:
        """A file of the server's own."""
        path = self.home / name
        path.write_text(text)
        give(path)
        path.chmod(0o600)


@contextlib.contextmanager
def postgres(*options: str) -> Iterator[Server]:
    """A new server that also listens on 127.0.0.1, with further settings like `ssl=on`."""
    with directory() as home:
        server = Server(home, free_port())
        settings = [f"port={server.port}", "listen_addresses=127.0.0.1", "fsync=off", *options]
        flags = " ".join(f"-c {setting}" for setting in settings)
        data = str(home / "data")
        server.run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        server.run("pg_ctl", "start", "-w", "-D", data, "-l", str(home / "log"), "-o", f"-k {home} {flags}")
        yield server
        server.run("pg_ctl", "stop", "-D", data, "-m", "immediate")


@contextlib.contextmanager
def pgbouncer(server: Server, **settings: str) -> Iterator[str]:
    """The URL of a PgBouncer in transaction mode, with one connection to a server."""
    port = free_port()
    with directory() as home:
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": "2",
            "logfile": str(home / "log"),
            **settings,
        }
        text = f"[databases]\n* = host={server.home} port={server.port} user=postgres\n[pgbouncer]\n"
        (home / "ini").write_text(text + "".join(f"{name} = {value}\n" for name, value in lines.items()))
        process = subprocess.Popen([PGBOUNCER, "-q", home / "ini"], cwd=home, **identity())
        try:
            wait_for(port)
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait()


def wait_for(port: int) -> None:
    patience = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > patience:
                raise
            time.sleep(0.02)
