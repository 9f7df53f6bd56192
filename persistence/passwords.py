"""Passwords: argon2id (RFC 9106) in a thread, a few at a time, so that signing in cannot starve the server."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from persistence.rules.text import password as composed

T = TypeVar("T")

# The second recommended option of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes.
hasher = PasswordHasher()

NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$OVmhVya2JzpJPpvindELyQ$Vg3twzoes/FIHPEA9TD//QV7JHek6A0btgPxkECDsPU"
"""The hash, with the same parameters, that stands in for an account that does not exist."""


class Passwords:
    """Hashes and verifies at most `at_once` passwords at a time; the others wait."""

    def __init__(self, at_once: int) -> None:
        self._turns = asyncio.Semaphore(at_once)

    async def hash(self, password: str) -> str:
        """The hash to store, with its parameters and salt."""
        return await self._in_turn(hashed, password)

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether a password fits a stored hash. Without one (an unknown account) it takes as long and is False."""
        return await self._in_turn(_verify, password, stored)

    async def _in_turn(self, work: Callable[..., T], *arguments: Any) -> T:
        # A thread cannot be cancelled: who hangs up gives the turn back when the thread has ended, not before.
        await self._turns.acquire()
        running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
        running.add_done_callback(lambda _: self._turns.release())
        return await asyncio.shield(running)


def hashed(password: str) -> str:
    """The hash to store, with its parameters and salt, of the password in NFC: keyboards compose characters or not."""
    return hasher.hash(encoded(composed(password)))


def encoded(password: str) -> bytes:
    """A password as bytes, whatever it holds: half of a surrogate pair is a wrong password and no failure."""
    return password.encode(errors="surrogatepass")


def _verify(password: str, stored: str | None) -> bool:
    # As it was typed too: hashes that are older than the rule may be of another form.
    return any(_fits(form, stored) for form in dict.fromkeys((composed(password), password)))


def _fits(password: str, stored: str | None) -> bool:
    try:
        return hasher.verify(stored or NOBODY, encoded(password)) and stored is not None
    except (VerificationError, InvalidHashError):
        return False
