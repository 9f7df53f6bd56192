"""Fields that are resolved for many objects at once.

A resolver that loads something for its object costs more around the loading than the loading itself: a call, an info,
a path and a future for each of the objects of a level. These were 0.4 of the 1.0 ms of a query of 50 tasks, their
owners, and 5 tasks of each owner. So a Strawberry field may name, as `batch` in its metadata, a function that stands in
for its resolver:

    async def tasks_of(users: list[User], info: Info, first: int) -> list[Page | Exception]: ...

    @strawberry.field(metadata={"batch": tasks_of})
    def tasks(self, info: Info, first: int) -> Page: ...

It gets what the resolver gets (only the info's path is that of the first object) with the list of the objects in place
of `self`, and returns an awaitable of as many values in their order: what awaiting the resolver's result would give,
or an exception, which is the error of that object's field. What it raises is the error of each. Where it returns
NotImplemented the resolver is called for each object after all, as it is for a single object, and by executors
that know nothing of this. So the two have to mean the same.

The function is called when all objects of the level are known. Nothing but the objects and what was made of
them is kept until then; paths are made when something goes wrong.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any

from graphql import is_non_null_type
from graphql.pyutils import Path

from graph.execution.compiling.fields import Field
from graph.execution.run import Entry, Run, Site

Place = tuple[Path, Site | None]
"""The path of a field of one object, and where a null goes that may not be there."""


class Later:
    """The value of a field of one object: awaiting it calls the resolver."""

    __slots__ = ("field", "info", "run", "source")

    def __init__(self, run: Run, field: Field, source: Any, info: Any) -> None:
        self.run, self.field, self.source, self.info = run, field, source, info

    def __await__(self) -> Generator[Any, None, Any]:
        return self._value().__await__()

    async def _value(self) -> Any:
        result = self.field.call(self.run, self.source, self.info)
        return await result if self.run.is_awaitable(result) else result


class Batch:
    """The objects of a level that have the field. It can be read like a list of entries, of which each is awaited."""

    __slots__ = ("_entries", "boxes", "field", "places", "run", "sources")

    def __init__(self, run: Run, field: Field) -> None:
        self.run, self.field = run, field
        self.sources: list[Any] = []
        self.boxes: list[Any] = []  # where the values go: `box[field.key]`
        self.places: list[Iterable[Place]] = []
        self._entries: list[Entry] | None = None

    def add(self, sources: Iterable[Any], boxes: Iterable[Any], places: Iterable[Place]) -> None:
        self.sources += sources
        self.boxes += boxes
        self.places.append(places)
        self._entries = None

    @property
    def entries(self) -> list[Entry]:
        if self._entries is None:
            run, field = self.run, self.field
            self._entries = []
            places = chain.from_iterable(self.places)
            for source, box, (path, site) in zip(self.sources, self.boxes, places, strict=True):
                info = run.info(field, path)
                self._entries.append((Later(run, field, source, info), field, info, path, site, box, field.key))
        return self._entries

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __getitem__(self, index: int) -> Entry:
        return self.entries[index]

    def resolve(self) -> Any:
        """Call the function of the field: an awaitable of the values, or NotImplemented."""
        path, _ = next(iter(self.places[0]))
        assert self.field.batched is not None
        return self.field.batched(self.run, self.field, self.sources, self.run.info(self.field, path))


def resolve_later(run: Run, field: Field, sources: list[Any], boxes: list[Any], places: Iterable[Place]) -> None:
    """Resolve the field of these objects together with that of all others of the level."""
    batch: Any = run.pending.get(field)
    if type(batch) is not Batch:
        left, batch = batch, Batch(run, field)
        if left:  # a list of entries: some of a batch were given up
            batch.add([e[0].source for e in left], [e[5] for e in left], [(e[3], e[4]) for e in left])
        run.pending[field] = batch
    batch.add(sources, boxes, places)


def is_in_list(path: Path | None) -> bool:
    """Whether there may be more objects of the same level: where there is one, its resolver is called at once."""
    while path is not None:
        if type(path.key) is int:
            return True
        path = path.prev
    return False


class Items:
    """The items of a list of which a generated loop made objects, and their places in the answer."""

    __slots__ = ("known", "made", "nullable", "path", "site")

    def __init__(self, made: list[Any], nullable: bool, path: Path, site: Site | None) -> None:
        self.made, self.nullable, self.path, self.site = made, nullable, path, site
        # All that is below an object has to lead through the very same path to it: `is_under` of `running.waiting`.
        self.known: dict[tuple[int, tuple[Field, ...]], tuple[Path, Site | None, Any]] = {}

    def at(self, index: int, way: tuple[Field, ...]) -> tuple[Path, Site | None, Any]:
        """The path of an item, or of the object below it to which a way leads; its site, and what was made of it."""
        known = self.known.get((index, way))
        if known is None:
            site: Site | None
            if way:
                above, site, made = self.at(index, way[:-1])
                path = Path(above, way[-1].key, way[-1].parent_type.name)
                if not is_non_null_type(way[-1].return_type):
                    site = made, way[-1].key, path
                made = made[way[-1].key]
            else:
                path, made = Path(self.path, index, None), self.made[index]
                site = (self.made, index, path) if self.nullable else self.site
            known = self.known[index, way] = path, site, made
        return known


class Places:
    """The places of one field of objects that are items of a list or parts of these."""

    __slots__ = ("field", "items", "way")

    def __init__(self, items: Items, way: tuple[Field, ...], field: Field) -> None:
        self.items, self.way, self.field = items, way, field

    def __iter__(self) -> Iterator[Place]:
        for index in range(len(self.items.made)):
            path, site, _ = self.items.at(index, self.way)
            yield Path(path, self.field.key, self.field.parent_type.name), site
