"""`./run serve`: the database, the tables, the demo data and then the web server, in one process or with workers."""
# ruff: noqa: T201  # says what happens to the person at the terminal

import asyncio
import contextlib
import http.client
import json
import math
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from graph.server.database import CommandFailed, reachable, run, url
from graph.server.door import KEEP_ALIVE_SECONDS
from graph.transport.addresses import is_loopback
from persistence import migrations
from persistence.embedded.server import SERVER_OPTIONS, AlreadyRunning, EmbeddedPostgres
from persistence.settings import ROOT, Settings, variable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from persistence.seed import DemoData

DEMO_ACCOUNTS = "DEMO_ACCOUNTS"
"""The environment variable by which the demo accounts, with their tokens, reach the server processes as JSON."""

BACKLOG = 2048

FIRST_ADMIN = "there is no admin yet: ./run user create --email ada@example.org --name Ada --role ADMIN"

EMBEDDED_CONNECTIONS = int(SERVER_OPTIONS["max_connections"]) - 20
"""For the server; the rest is for commands beside it, `psql`, and what PostgreSQL keeps for itself."""


class Stopped(BaseException):
    """SIGTERM or Ctrl-C before the server runs."""


def serve(settings: Settings, *, demo: bool | None, browser: bool, reload: bool, migrate: bool) -> int:
    """Serve until a signal, and return the exit code. Raises `graph.commands.EXPECTED`."""
    if reload and settings.workers > 1:
        raise CommandFailed("--reload works with one worker only")
    demo = is_demo(settings, demo)
    if settings.trusted_proxies and demo:
        raise CommandFailed(
            "TASKSTORE_TRUSTED_PROXIES is for a server that others reach; demo accounts, whose passwords are known, "
            "are not: say --no-demo, or trust no proxies"
        )
    connections, most = settings.workers * (settings.pool_size + settings.pool_overflow), EMBEDDED_CONNECTIONS
    if settings.embedded and connections > most:
        raise CommandFailed(
            f"{settings.workers} workers with TASKSTORE_POOL_SIZE and TASKSTORE_POOL_OVERFLOW of "
            f"{settings.pool_size} + {settings.pool_overflow} may take {connections} connections; "
            f"the embedded PostgreSQL has {most} for them"
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(terminated_cleanly())
        if settings.embedded and (owner := EmbeddedPostgres.owner(settings.data_dir)) is not None and owner.address:
            raise AlreadyRunning(settings.data_dir, owner)
        listener = listen(settings.host, settings.port)
        stack.callback(listener.close)
        address = f"http://{shown(settings.host)}:{listener.getsockname()[1]}"
        server = EmbeddedPostgres(settings.data_dir) if settings.embedded else None
        with loading_the_application():
            if server is not None:
                stack.callback(server.stop)
                server.start()
                server.announce(address)
                settings = replace(settings, database_url=server.url)
            else:
                run(settings, reachable(settings))
            if migrate:
                bring_up_to_date(url(settings))
            data = run(settings, seed) if demo else None
        has_tables = migrate or migrations.status(url(settings)).current is not None
        if data is None and has_tables and not is_loopback(settings.host):
            run(settings, refuse_known_passwords)
        hint = FIRST_ADMIN if data is None and has_tables and not run(settings, has_admin) else None
        pass_on(settings, data)
        if settings.workers > 1:
            # Where prometheus_client lets the workers write what they count, so that each can answer for all.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(
                TemporaryDirectory(prefix="taskstore-metrics-")
            )
        greet = partial(greeting, settings, address, data, server, hint)
        threading.Thread(
            target=when_ready, args=(listener, settings.host, address, browser, greet), daemon=True
        ).start()
        return run_uvicorn(settings, listener, reload)
    return 0


# Where others may reach it


def is_demo(settings: Settings, chosen: bool | None) -> bool:
    """Whether to have demo accounts: by default only in the embedded database behind a loopback address."""
    if chosen is None:
        chosen = settings.demo or None
    private = settings.embedded and is_loopback(settings.host)
    if chosen is None:
        return private
    if chosen and not private:
        warning = (
            "WARNING: --demo puts accounts with known passwords, one of them an admin, where others may reach them"
        )
        print(f"{'*' * len(warning)}\n{warning}\n{'*' * len(warning)}", file=sys.stderr)
    return chosen


async def seed(engine: "AsyncEngine") -> "DemoData":
    from persistence.seed import seed

    return await seed(engine)


async def has_admin(engine: "AsyncEngine") -> bool:
    from persistence import users
    from persistence.session import Session

    async with contextlib.aclosing(Session(engine)) as session:
        return await users.count_admins(session) > 0


async def refuse_known_passwords(engine: "AsyncEngine") -> None:
    """Demo accounts of an earlier start must not be reachable from elsewhere. Raises `CommandFailed`."""
    from persistence import users
    from persistence.passwords import Passwords
    from persistence.seed import ACCOUNTS, PASSWORD
    from persistence.session import Session

    async with contextlib.aclosing(Session(engine)) as session:
        for email, *_ in ACCOUNTS:
            found = await users.credentials(session, email)
            if found is not None and await Passwords(1).verify(PASSWORD, found.password_hash):
                raise CommandFailed(
                    f"{email} of the demo has its known password here, and others can reach this address; "
                    "change the password, start afresh with ./run db reset --yes, or say --demo"
                )


# The steps before the server


@contextlib.contextmanager
def terminated_cleanly() -> Iterator[None]:
    """SIGTERM and Ctrl-C unwind what has been started; while uvicorn runs it has handlers of its own.

    A running loop is cancelled: what is raised in one of its callbacks would stay there, or leave a connection in the
    middle of an answer for whoever closes it.
    """
    stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopped
        stopped = True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise Stopped from None
        for task in asyncio.all_tasks(loop):
            loop.call_soon_threadsafe(task.cancel)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except (Stopped, asyncio.CancelledError, Exception):
        if not stopped:  # else it follows from that: a rollback, say, on a connection in the middle of a statement
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """The socket of the server, taken before anything else is started. Raises `CommandFailed`.

    It listens at once: whoever connects early waits until the server is ready, and nobody else can take the port.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CommandFailed(f"cannot listen on {host}: {error.strerror}") from None
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            raise CommandFailed(f"port {port} needs more rights; choose one above 1023 with --port") from None
        if "in use" in str(error.strerror):
            raise CommandFailed(f"port {port} on {host} is taken; choose another one with --port") from None
        raise CommandFailed(f"cannot listen on {host}:{port}: {error.strerror}") from None
    listener.set_inheritable(True)
    return listener


@contextlib.contextmanager
def loading_the_application() -> Iterator[None]:
    """Import the application meanwhile: most of a start is imports, and most of the rest is waiting."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="import")
    loaded: Future[Any] = pool.submit(__import__, "graph.server.app")
    try:
        yield
        loaded.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def bring_up_to_date(database_url: str) -> None:
    status = migrations.status(database_url)
    if not status.is_current:
        print(f"taskstore: migrating the database to revision {status.head}", file=sys.stderr)
        migrations.upgrade(database_url)


def pass_on(settings: Settings, data: "DemoData | None") -> None:
    """Workers are new processes that read their settings from the environment."""
    os.environ[variable("database_url")] = url(settings)
    os.environ[variable("host")] = settings.host
    os.environ[variable("port")] = str(settings.port)
    os.environ[variable("workers")] = str(settings.workers)
    os.environ[variable("demo")] = "true" if data else "false"
    os.environ[DEMO_ACCOUNTS] = json.dumps([asdict(account) for account in data.accounts] if data else [])


# The server


def run_uvicorn(settings: Settings, listener: socket.socket, reload: bool) -> int:
    import uvicorn
    from uvicorn.supervisors import ChangeReload

    from graph.server.ending import Server, Workers

    supervised = reload or settings.workers > 1
    config = uvicorn.Config(
        "graph.server.process:worker" if supervised else "graph.server.app:app_from_environment",
        factory=True,
        loop="uvloop" if has_module("uvloop") else "asyncio",
        http="graph.server.sockets:HttpProtocol",
        ws="graph.server.sockets:WebSocketProtocol",
        ws_max_size=settings.max_body,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who asks is found by `graph.transport.addresses.Proxies`
        timeout_keep_alive=int(KEEP_ALIVE_SECONDS),
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
        backlog=BACKLOG,
        workers=settings.workers,
        reload=reload,
        reload_dirs=[str(ROOT / name) for name in ("graph", "background", "persistence")] if reload else None,
    )
    server = Server(config)
    if reload:
        ChangeReload(config, target=server.run, sockets=[listener]).run()
    elif supervised:
        Workers(config, sockets=[listener]).run()
    else:
        server.run(sockets=[listener])
        return 0 if server.started else 1
    return 0


def has_module(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def worker() -> Any:
    """The application in a worker process, which ends when its parent is gone: it would keep the port otherwise."""
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    from graph.server.app import app_from_environment
    from graph.server.ending import listen_to_interrupts

    listen_to_interrupts()

    def follow() -> None:
        if (parent := parent_process()) is not None:
            wait([parent.sentinel])
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="parent", daemon=True).start()
    return app_from_environment()


# What a person sees


def when_ready(listener: socket.socket, host: str, address: str, browser: bool, greet: Callable[[], str]) -> None:
    """Wait in the listener's queue like a client, and greet when the server answers."""
    any_address = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nothing is bound here
    port = listener.getsockname()[1]
    for _ in range(600):
        connection = http.client.HTTPConnection(any_address.get(host, host), port, timeout=60)
        try:
            connection.request("GET", "/livez")
            if connection.getresponse().status < 500:
                break
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    else:
        return
    with contextlib.suppress(OSError):  # nobody reads it any more
        print(greet(), flush=True)
    if browser and has_desktop():
        webbrowser.open(f"{address}/graphql")


def has_desktop() -> bool:
    if not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def shown(host: str) -> str:
    """A host as it is written in a URL; the one for "all addresses" as one that a browser can open."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  # nothing is bound here
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def accounts(data: "DemoData") -> str:
    """The demo accounts as lines for a person."""
    width = max(len(account.email) for account in data.accounts)
    return "\n".join(
        f"  {account.email:{width}}  {account.password}  {account.role.name.lower():6}  {account.token}"
        for account in data.accounts
    )


def greeting(
    settings: Settings, address: str, data: "DemoData | None", server: EmbeddedPostgres | None, hint: str | None
) -> str:
    from persistence.connections.address import parse

    where = f"embedded PostgreSQL in {server.data_dir}" if server else parse(url(settings)).where
    lines = [f"taskstore is ready: {address}/graphql", f"  database  {where}"]
    if data is not None:
        first = data.accounts[0]
        lines += [
            "  demo accounts (email, password, role, token):",
            *(f"  {line}" for line in accounts(data).splitlines()),
            "  try",
            f"    curl {address}/graphql -H 'Authorization: Bearer {first.token}' \\",
            """      -H 'Content-Type: application/json' -d '{"query": "{ viewer { name tasks { totalCount } } }"}'""",
        ]
    lines += [f"  {hint}"] if hint else []
    return "\n".join([*lines, "Ctrl-C stops it."])
