"""Passwords: argon2id, bounded, and the same work whoever asks."""

import asyncio
import threading
from typing import Any

import pytest
from argon2 import PasswordHasher

from persistence import passwords
from persistence.passwords import Passwords
from tests.conftest import PASSWORD, QUICK_HASH

pytestmark = pytest.mark.anyio


async def test_a_hash_is_argon2id_with_the_parameters_of_rfc_9106_and_opens_with_its_password_only() -> None:
    service = Passwords(1)

    stored = await service.hash(PASSWORD)

    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert await service.verify(PASSWORD, stored)
    assert not await service.verify(PASSWORD + " ", stored)


async def test_two_hashes_of_a_password_differ() -> None:
    service = Passwords(2)

    assert await service.hash(PASSWORD) != await service.hash(PASSWORD)


async def test_a_hash_made_with_other_parameters_still_opens() -> None:
    assert await Passwords(1).verify(PASSWORD, QUICK_HASH)


@pytest.mark.parametrize("stored", ["", "plain", "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$", "$2b$12$abcdefghijklmnopqrstuv"])
async def test_what_is_no_hash_opens_with_nothing(stored: str) -> None:
    assert not await Passwords(1).verify("", stored)


async def test_nobody_has_no_password_and_costs_as_much_as_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    original = passwords.hasher.verify

    class Watched:
        hash = staticmethod(passwords.hasher.hash)

        @staticmethod
        def verify(stored: str, password: Any) -> bool:
            verified.append(stored)
            return original(stored, password)

    monkeypatch.setattr(passwords, "hasher", Watched)

    assert not await Passwords(1).verify("nobody has this password", None)
    assert len(verified) == 1
    assert not PasswordHasher().check_needs_rehash(verified[0])


@pytest.mark.parametrize("password", ["\ud800" * 12, "\x00" * 12, "😀" * 12, "x" * 100_000])
async def test_any_text_is_a_possible_password(password: str) -> None:
    service = Passwords(1)

    assert not await service.verify(password, QUICK_HASH)
    assert await service.verify(password, await service.hash(password))


@pytest.mark.parametrize(
    ("set_as", "typed"), [("Ame\u0301lie-1815", "Am\u00e9lie-1815"), ("\u212bngstr\u00f6m 1", "\u00c5ngstro\u0308m 1")]
)
async def test_a_password_is_right_however_a_keyboard_composes_it(set_as: str, typed: str) -> None:
    service = Passwords(1)

    for one, other in ((set_as, typed), (typed, set_as)):
        assert await service.verify(other, await service.hash(one))
    assert not await service.verify(typed.replace("1", "2"), await service.hash(set_as))


async def test_a_hash_that_is_older_than_the_rule_opens_with_what_was_hashed() -> None:
    decomposed = "Ame\u0301lie-1815"
    stored = passwords.hasher.hash(decomposed)

    assert await Passwords(1).verify(decomposed, stored)


async def test_no_more_than_the_limit_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(2)

    def verify(password: str, stored: str | None) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(5)
        with lock:
            running -= 1
        return True

    monkeypatch.setattr(passwords, "_verify", verify)
    service = Passwords(2)

    assert await asyncio.gather(*(service.verify("x", None) for _ in range(8))) == [True] * 8
    assert most == 2


async def test_a_cancelled_computation_keeps_its_turn_until_its_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise clients that hang up could start any number of threads."""
    lock, running, most = threading.Lock(), 0, 0
    release = threading.Event()

    def verify(password: str, stored: str | None) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        release.wait(5)
        with lock:
            running -= 1
        return True

    monkeypatch.setattr(passwords, "_verify", verify)
    service = Passwords(1)
    first = asyncio.create_task(service.verify("x", None))
    await asyncio.sleep(0.05)
    first.cancel()
    second = asyncio.create_task(service.verify("x", None))
    await asyncio.sleep(0.05)
    release.set()

    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert most == 1
