"""Dataloaders: what sibling fields ask for one by one is fetched in one statement."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from aiodataloader import DataLoader

Key = TypeVar("Key", bound=Hashable)

Batch = Callable[[list[Any]], Awaitable[Mapping[Any, Any]]]
"""From distinct keys to what was found; a key that is missing in the answer loads None."""


async def unused(keys: list[Any]) -> list[Any]:
    """In place of the batch function: a method of the loader would make each a cycle for the garbage collector."""
    raise AssertionError("dispatch calls the batch function itself")


class Loader(DataLoader[Any, Any]):
    """A DataLoader that survives cancellation and failure.

    Each waiter has a future of its own, so one that is cancelled (its sibling failed) takes nobody with it
    and leaves nothing in the cache; a batch that fails or is cancelled ends all its waiters, and the next
    `load` tries again; the running batch is referenced, so that it cannot be collected.
    """

    def __init__(self, batch: Batch) -> None:
        self.loop = asyncio.get_running_loop()
        self._fetch = batch
        self._waiting: dict[Any, list[asyncio.Future[Any]]] = {}
        self._lists: list[tuple[Sequence[Any], asyncio.Future[Any]]] = []
        self._running: set[asyncio.Task[None]] = set()
        super().__init__(unused, loop=self.loop)

    def load(self, key: Any) -> Any:
        """A future of the value, typed as what GraphQL completes it to."""
        done = self._cache.get(key)
        if done is not None:
            return done
        future = self._asked()
        self._waiting.setdefault(key, []).append(future)
        return future

    def load_many(self, keys: Iterable[Any]) -> Any:
        """One future of the values of many keys, in their order. Values that come this way are not kept."""
        keys = list(keys)
        if self._cache:
            return asyncio.gather(*map(self.load, keys))
        future = self._asked()
        self._lists.append((keys, future))
        return future

    def _asked(self) -> asyncio.Future[Any]:
        """A future for one more waiter."""
        if not self._waiting and not self._lists:
            # Two turns of the loop: siblings that resolve in tasks of their own get in as well.
            self.loop.call_soon(self.loop.call_soon, self._dispatch)
        return self.loop.create_future()

    def _dispatch(self) -> None:
        waiting, self._waiting = self._waiting, {}
        lists, self._lists = self._lists, []
        task = self.loop.create_task(self._run(waiting, lists))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(
        self,
        waiting: dict[Any, list[asyncio.Future[Any]]],
        lists: list[tuple[Sequence[Any], asyncio.Future[Any]]],
    ) -> None:
        try:
            found = await self._fetch(list(dict.fromkeys(chain(waiting, *(keys for keys, _ in lists)))))
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            futures = chain(*waiting.values(), (future for _, future in lists))
            for future in [future for future in futures if not future.done()]:
                if cancelled:
                    future.cancel()
                else:
                    future.set_exception(error)
            if isinstance(error, Exception):
                return
            raise
        for key, waiters in waiting.items():
            value = found.get(key)
            for future in waiters:
                if not future.done():
                    future.set_result(value)
                    self._cache[key] = future  # it is done, so nobody can cancel it any more
        for keys, future in lists:
            if not future.done():
                future.set_result([found.get(key) for key in keys])


class Loaders:
    """The loaders of one operation, made when first asked for.

    A loader that takes arguments is one loader for each of their values: `name` holds them.
    """

    def __init__(self) -> None:
        self._loaders: dict[Hashable, Loader] = {}

    def get(self, name: Hashable, batch: Callable[[Sequence[Any]], Awaitable[Mapping[Any, Any]]]) -> Loader:
        loader = self._loaders.get(name)
        if loader is None:
            loader = self._loaders[name] = Loader(batch)
        return loader

    def known(self, name: Hashable) -> Loader | None:
        """The loader of that name, if it was asked for before."""
        return self._loaders.get(name)

    def clear(self) -> None:
        """Forget everything: a mutation has changed what was loaded."""
        self._loaders.clear()
