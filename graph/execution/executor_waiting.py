"""Waiting for resolvers: what one field returned for all the objects of a level is awaited and completed together.

A group is all the awaitables of one field. Groups of a level run concurrently; a group is completed in one pass when
all of it is done, so that what its values lead to is asked for at once and each dataloader gets one batch per level.
Futures need neither a task nor a callback each: only the first unfinished one of a group is watched.

A group does not wait for its slowest member for ever: from time to time (`PATIENCE`, then twice as long) it is looked
at as a whole, and when some of it is done that part is completed. That bounds how late an error is noticed which
makes the rest superfluous, because a null has to go where others are still awaited; these are then cancelled.
"""

from __future__ import annotations

from asyncio import Future, ensure_future, gather, get_running_loop, iscoroutine, isfuture
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError, is_non_null_type
from graphql.pyutils import Path

from graph.execution.compiler_plans import PENDING

if TYPE_CHECKING:
    from graph.execution.compiler_plans import Position, Site
    from graph.execution.executor import CompiledExecution

PATIENCE = 0.01  # seconds

# The awaitable, its position, the info, path and site, and where the completed value is stored: container and key.
Entry = tuple[Any, "Position", Any, Path, "Site | None", Any, Any]


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

    def __init__(self, waiting: Waiting, entries: list[Entry]) -> None:
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


class Waiting:
    """Everything that one operation waits for at a time."""

    def __init__(self, executor: CompiledExecution) -> None:
        self.ex, self.loop = executor, get_running_loop()
        self.groups: list[Group] = []
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
                    self.complete_group(group)
                if self.nulls:
                    self.null()
        except BaseException:
            self.drop(None)
            await self.settle_cancelled()
            raise
        await self.settle_cancelled()

    async def start(self) -> bool:
        """Begin to wait for what is pending. A single awaitable is awaited here and now, without a task."""
        pending, self.ex.pending = self.ex.pending, {}
        if len(pending) == 1 and not self.groups:
            (entries,) = pending.values()
            if len(entries) == 1:
                await self.complete_single(entries[0])
                if self.nulls:
                    self.null()
                return True
        for entries in pending.values():
            group = Group(self, entries)
            self.groups.append(group)
            group.advance()
        return False

    async def complete_single(self, entry: Entry) -> None:
        try:
            value = await entry[0]
        except Exception as error:
            self.fail(entry, error)
        else:
            self.complete(entry, value)

    def complete_group(self, group: Group) -> None:
        if self.complete_together(group):
            self.groups.remove(group)
            return
        futures = group.futures
        for index, entry in enumerate(group.entries):
            future = futures[index]
            if future is None or not future.done():
                continue  # dropped, or not its turn yet
            futures[index] = None
            error = future.exception()
            if error is None:
                self.complete(entry, future.result())
            elif isinstance(error, Exception):
                self.fail(entry, error)
            else:
                raise error
        if all(future is None for future in futures):
            self.groups.remove(group)
        else:
            group.advance()

    def complete_together(self, group: Group) -> bool:
        """Complete a whole group at once, when all of it is done and what one would expect; False: one at a time."""
        many = group.entries[0][1].many
        if many is None or group.eager or len(group.entries) == 1:
            return False
        try:
            # A future that was dropped is None and has no result.
            values = many([future.result() for future in group.futures])  # type: ignore[union-attr]
        except Exception:
            return False
        for entry, value in zip(group.entries, values, strict=True):
            entry[5][entry[6]] = value
        return True

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
            for entry in [entry for entry in entries if is_under(entry[3], path)]:
                entries.remove(entry)
                if iscoroutine(entry[0]):
                    entry[0].close()
                elif isfuture(entry[0]):
                    self.cancel(entry[0])
            if not entries:
                del self.ex.pending[position]
        for group in self.groups:
            for index, entry in enumerate(group.entries):
                future = group.futures[index]
                if future is not None and is_under(entry[3], path):
                    group.futures[index] = None
                    self.cancel(future)
            group.advance()

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
