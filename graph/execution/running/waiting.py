"""Waiting for resolvers: what one field returned for all the objects of a level is awaited and completed together.

A group is all the awaitables of one field. Groups of a level run concurrently; a group is completed in one pass when
all of it is done, so that what its values lead to is asked for at once and each dataloader gets one batch per level.
Futures need neither a task nor a callback each: only the first unfinished one of a group is watched. A field that is
resolved for many objects at once (`compiling.batches`) is awaited once.

A group does not wait for its slowest member for ever: from time to time (`PATIENCE`, then twice as long) it is looked
at as a whole, and when some of it is done that part is completed. That bounds how late an error is noticed which
makes the rest superfluous, because a null has to go where others are still awaited; these are then cancelled.
"""

from __future__ import annotations

from asyncio import Future, ensure_future, gather, get_running_loop, iscoroutine, isfuture
from collections.abc import Iterable, Sequence
from typing import Any

from graphql import GraphQLError, is_non_null_type
from graphql.pyutils import Path

from graph.execution.compiling.batches import Batch, Later
from graph.execution.compiling.fields import PENDING
from graph.execution.run import Entry, Run, Site

PATIENCE = 0.01  # seconds


def is_under(path: Path | None, ancestor: Path | None) -> bool:
    """Whether a path leads through this very ancestor (or is it); None is the whole answer."""
    if ancestor is None:
        return True
    while path is not None:
        if path is ancestor:
            return True
        path = path.prev
    return False


class Group:
    """The awaitables of one position."""

    __slots__ = ("eager", "entries", "futures", "head", "waiting")

    def __init__(self, waiting: Waiting, entries: Sequence[Entry]) -> None:
        self.waiting, self.entries = waiting, entries
        self.head, self.eager = 0, False
        self.futures: list[Future[Any] | None] = []
        urgent = is_non_null_type(entries[0][1].return_type)
        for entry in entries:
            awaitable = entry[0]
            if isfuture(awaitable):
                self.futures.append(awaitable)
                continue
            task = ensure_future(awaitable)
            self.futures.append(task)
            if urgent:
                task.add_done_callback(self.hurry)

    def hurry(self, task: Future[Any]) -> None:
        """An error or null where none may be has an effect on others, so it is not left until all are done."""
        if task.cancelled() or task.exception() is not None or task.result() is None:
            self.eager = True
            self.waiting.wake()

    def advance(self, _: Any = None) -> None:
        """Watch the first future that is not done; when there is none, the group is ready."""
        futures = self.futures
        head, end = self.head, len(futures)
        while head < end:
            future = futures[head]
            if future is not None and not future.done():
                future.add_done_callback(self.advance)
                break
            head += 1
        self.head = head
        if head == end:
            self.waiting.wake()

    def is_ready(self) -> bool:
        return self.head == len(self.futures) or (self.eager and any(f is not None and f.done() for f in self.futures))

    def lose_patience(self) -> None:
        """Some are done and others are not: they do not belong together, so complete each when it is done."""
        if not self.eager and any(future is not None and future.done() for future in self.futures):
            self.eager = True
            for future in self.futures:
                if future is not None and not future.done():
                    future.add_done_callback(self.waiting.wake)

    def complete(self) -> bool:
        """Complete what is done; whether that is all."""
        if self.complete_together():
            return True
        futures = self.futures
        for index, entry in enumerate(self.entries):
            future = futures[index]
            if future is None or not future.done():
                continue  # dropped, or not its turn yet
            futures[index] = None
            error = future.exception()
            if error is None:
                self.waiting.complete(entry, future.result())
            elif isinstance(error, Exception):
                self.waiting.fail(entry, error)
            else:
                raise error
        if all(future is None for future in futures):
            return True
        self.advance()
        return False

    def complete_together(self) -> bool:
        """Complete a whole group at once, when all of it is done and what one would expect; False: one at a time."""
        many = self.entries[0][1].many
        if many is None or self.eager or len(self.entries) == 1:
            return False
        try:
            # A future that was dropped is None and has no result.
            values = many([future.result() for future in self.futures])  # type: ignore[union-attr]
        except Exception:
            return False
        for entry, value in zip(self.entries, values, strict=True):
            entry[5][entry[6]] = value
        return True

    def drop(self, path: Path | None) -> None:
        """Cancel what is at or below the path."""
        for index, entry in enumerate(self.entries):
            future = self.futures[index]
            if future is not None and is_under(entry[3], path):
                self.futures[index] = None
                self.waiting.cancel(future)
        self.advance()


class BatchGroup:
    """The objects of a batch, which is awaited as a whole."""

    __slots__ = ("batch", "future", "left", "waiting")

    def __init__(self, waiting: Waiting, batch: Batch, awaitable: Any) -> None:
        self.waiting, self.batch = waiting, batch
        self.left: set[int] | None = None  # those whose values are still wanted; None: all
        self.future: Future[Any] = ensure_future(awaitable)

    def advance(self) -> None:
        if self.future.done():
            self.waiting.wake()
        else:
            self.future.add_done_callback(self.waiting.wake)

    def is_ready(self) -> bool:
        return self.future.done() or self.left == set()

    def lose_patience(self) -> None:
        pass

    def complete(self) -> bool:
        if self.left == set():
            return True
        error = self.future.exception()
        if error is None:
            self.waiting.complete_batch(self.batch, self.future.result(), self.left)
        elif isinstance(error, Exception):
            self.waiting.fail_batch(self.batch, error, self.left)
        else:
            raise error
        return True

    def drop(self, path: Path | None) -> None:
        """Forget those at or below the path; without any left, the whole is cancelled."""
        left = range(len(self.batch)) if self.left is None else self.left
        self.left = {index for index in left if not is_under(self.batch[index][3], path)}
        if not self.left:
            self.waiting.cancel(self.future)
            self.waiting.wake()


class Waiting:
    """Everything that one operation waits for at a time."""

    def __init__(self, executor: Run) -> None:
        self.ex, self.loop = executor, get_running_loop()
        self.groups: list[Group | BatchGroup] = []
        self.cancelled: list[Future[Any]] = []
        self.nulls: list[tuple[Site | None, GraphQLError]] = []
        self.waiter: Future[None] | None = None
        self.patience = PATIENCE

    async def finish(self) -> None:
        """Complete all that is pending and what it leads to. Raises the error that makes the whole answer null."""
        try:
            while True:
                if self.ex.pending and await self.start():
                    continue
                if not self.groups:
                    break
                ready = [group for group in self.groups if group.is_ready()]
                if not ready:
                    await self.sleep()
                for group in ready:
                    if group.complete():
                        self.groups.remove(group)
                if self.nulls:
                    self.null()
        except BaseException:
            self.drop(None)
            await self.settle_cancelled()
            raise
        await self.settle_cancelled()

    async def start(self) -> bool:
        """Begin to wait for what is pending; whether there is more of it now, or nothing to wait for.

        A single awaitable is awaited here and now, without a task. A resolver that was put off and raises at once
        may put a null where others are pending, which then are never called.
        """
        alone = len(self.ex.pending) == 1 and not self.groups
        for position in list(self.ex.pending):
            entries: Any = self.ex.pending.pop(position, ())
            if type(entries) is Batch and len(entries) > 1:
                await self.start_batch(entries, alone)
            elif alone and len(entries) == 1:
                await self.complete_single(entries[0])
            elif entries:
                self.start_group(entries)
            if self.nulls:
                self.null()
        return bool(self.ex.pending) or not self.groups

    async def start_batch(self, batch: Batch, alone: bool) -> None:
        try:
            awaitable = batch.resolve()
            values = await awaitable if alone and awaitable is not NotImplemented else None
        except Exception as error:
            self.fail_batch(batch, error)
            return
        if awaitable is NotImplemented:
            self.start_group(batch)
        elif alone:
            self.complete_batch(batch, values)
        else:
            self.watch(BatchGroup(self, batch, awaitable))

    def start_group(self, entries: Iterable[Entry]) -> None:
        begun = [entry for entry in map(self.begin, entries) if entry is not None]
        if begun:
            self.watch(Group(self, begun))

    def begin(self, entry: Entry) -> Entry | None:
        """The entry with what can be awaited; None when its field had been put off and is complete already."""
        later = entry[0]
        if type(later) is not Later:
            return entry
        try:
            result = later.field.call(self.ex, later.source, later.info)
        except Exception as error:
            self.fail(entry, error)
            return None
        if self.ex.is_awaitable(result):
            return (result, *entry[1:])
        self.complete(entry, result)
        return None

    def watch(self, group: Group | BatchGroup) -> None:
        self.groups.append(group)
        group.advance()

    async def complete_single(self, entry: Entry) -> None:
        try:
            value = await entry[0]
        except Exception as error:
            self.fail(entry, error)
        else:
            self.complete(entry, value)

    def complete_batch(self, batch: Batch, values: Any, left: set[int] | None = None) -> None:
        """Complete the values of a batch; with `left`, only those at these places."""
        if type(values) is not list or len(values) != len(batch):
            self.fail_batch(batch, TypeError(f"{len(batch)} objects need as many values, not {values!r}"), left)
            return
        many, key = batch.field.many, batch.field.key
        if many is not None and left is None:
            try:
                made = many(values)
            except Exception:  # noqa: S110  # found again, one by one
                pass
            else:
                for box, value in zip(batch.boxes, made, strict=True):
                    box[key] = value
                return
        for index, (entry, value) in enumerate(zip(batch, values, strict=True)):
            if left is None or index in left:
                self.complete(entry, value)

    def fail_batch(self, batch: Batch, error: Exception, left: set[int] | None = None) -> None:
        for index, entry in enumerate(batch):
            if left is None or index in left:
                self.fail(entry, error)

    def complete(self, entry: Entry, value: Any) -> None:
        _, position, info, path, site, box, key = entry
        try:
            if position.at is not None:
                value = position.at(self.ex, value, info, path, site, box, key)
            if value is not PENDING:
                box[key] = value
        except Exception as error:
            self.fail(entry, error)

    def fail(self, entry: Entry, error: Exception) -> None:
        """Put a null in the place of the error; where the schema forbids it, one goes further up after this pass."""
        _, position, _, path, site, box, key = entry
        if self.ex.pending:
            self.ex.abandon(path)
        try:
            self.ex.handle_field_error(error, position.return_type, position.details, path)
            box[key] = None
        except GraphQLError as located:
            self.nulls.append((site, located))

    def null(self) -> None:
        """Put nulls where errors of this pass have sent them. Errors that come together are all told."""
        nulls, self.nulls = self.nulls, []
        for site, error in nulls:
            if site is None:
                raise error
            container, place, path = site
            container[place] = None
            self.ex.collected_errors.add(error, path)
            self.drop(path)

    def drop(self, path: Path | None) -> None:
        """Cancel what is awaited at or below a position that is null now."""
        for position, entries in list(self.ex.pending.items()):
            left = [entry for entry in entries if not is_under(entry[3], path)]
            if len(left) == len(entries):
                continue
            for entry in [entry for entry in entries if is_under(entry[3], path)]:
                if iscoroutine(entry[0]):
                    entry[0].close()
                elif isfuture(entry[0]):
                    self.cancel(entry[0])
            if left:
                self.ex.pending[position] = left
            else:
                del self.ex.pending[position]
        for group in self.groups:
            group.drop(path)

    def cancel(self, future: Future[Any]) -> None:
        if future.done():
            if not future.cancelled():
                future.exception()  # looked at, so that nobody complains that it was not
        else:
            future.cancel()
            self.cancelled.append(future)

    async def settle_cancelled(self) -> None:
        """Cancelled work may still clean up after itself; an answer is not given while it does."""
        cancelled, self.cancelled = self.cancelled, []
        if cancelled:
            await gather(*cancelled, return_exceptions=True)

    async def sleep(self) -> None:
        """Until a group is ready or patience is at its end."""
        self.waiter = self.loop.create_future()
        timer = self.loop.call_later(self.patience, self.look)
        try:
            await self.waiter
        finally:
            timer.cancel()
            self.waiter = None

    def look(self) -> None:
        self.patience *= 2
        for group in self.groups:
            group.lose_patience()
        self.wake()

    def wake(self, _: Any = None) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)
