"""What the compiler makes: the plan of each object type of an operation.

A plan runs with a `Run`; it holds nothing of a request and is shared by all that send the operation. It is filled by
the compiler and does not call it.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from graphql import GraphQLObjectType
from graphql.pyutils import Path

from graph.execution.compiling.batches import Items, Places, is_in_list, resolve_later
from graph.execution.compiling.fields import PENDING, Field, Position
from graph.execution.compiling.source import Hole, Known, Source
from graph.execution.run import Run, Site
from graph.execution.values import ORDINARY, Acceptance, Surprise, all_accepted, classes_of, is_row

# Classes of objects that one selection remembers; usually there is one, such as that of a SQL statement's rows.
MAX_CLASSES_OF_PLAN = 8

new = tuple.__new__  # a NamedTuple's own constructor takes three times as long


def run_field(run: Run, field: Field, source: Any, parent_path: Path | None, site: Site | None, box: Any) -> Any:
    """Resolve and complete the field for one object: the value, or PENDING when it will be stored in `box`."""
    path: Path = new(Path, (parent_path, field.key, field.parent_type.name))
    try:
        if field.carried is not None and (carried := getattr(source, field.carried, None)) is not None:
            # The type is known by the class alone, so nobody needs the info.
            return field.at(run, carried, None, path, site, box, field.key)  # type: ignore[misc]  # set by link()
        if field.batched is not None and is_in_list(parent_path):
            resolve_later(run, field, [source], [box], [(path, site)])
            return PENDING
        info = run.info(field, path)
        result = field.call(run, source, info)
        if type(result) not in ORDINARY and run.is_awaitable(result):
            run.wait_for((result, field, info, path, site, box, field.key))
            return PENDING
        return field.at(run, result, info, path, site, box, field.key)  # type: ignore[misc]  # set by link()
    except Exception as error:
        run.handle_field_error(error, field.return_type, field.details, path)
        if run.pending:
            run.abandon(path)
        return None


class Form:
    """How objects of one class are made (None: of any class). The code is generated when it is used first."""

    def __init__(self, plan: "ObjectPlan", kind: type | None) -> None:
        self.plan, self.kind = plan, kind
        # The fields that have to be resolved for each object.
        self.resolved = self.source().skeleton(plan.fields)[1]

    def source(self) -> Source:
        return Source(self.plan.known, self.kind)

    @cached_property
    def make(self) -> Callable[[Any], dict[str, Any]]:
        """What makes one object, null in place of resolved fields."""
        return self.source().one(self.plan.fields)

    @cached_property
    def loop(self) -> Callable[[Any], list[dict[str, Any]]]:
        """What makes a list of objects for which nothing has to be resolved."""
        return self.source().loop(self.plan.fields)

    @cached_property
    def level(self) -> tuple[Callable[..., list[dict[str, Any]]], list[Hole]] | None:
        """What makes a list of objects of which all that is to be resolved is resolved for many at once."""
        return self.source().level(self.plan.fields)

    def run_level(self, run: Run, items: list[Any], nullable: bool, path: Path, site: Site | None) -> list[Any] | None:
        """A list of objects, their fields pending; None when something is not as expected, and nothing happened."""
        if self.level is None:
            return None
        function, holes = self.level
        found: list[list[Any]] = [[] for _ in range(2 * len(holes))]
        try:
            made: list[Any] = function(items, *[each.append for each in found])
        except Exception:  # whatever is wrong, graphql-core says so
            return None
        if made:
            places = Items(made, nullable, path, site)
            for n, hole in enumerate(holes):
                sources, boxes = found[2 * n : 2 * n + 2]
                resolve_later(run, hole.field, sources, boxes, Places(places, hole.way, hole.field))
        return made


class ObjectPlan:
    """The selection of one object type: generated code for what is pure, `run_field` for the rest."""

    def __init__(self, type_: GraphQLObjectType, fields: Sequence[Field], known: Known) -> None:
        self.type, self.fields, self.known = type_, fields, known
        # By the class of the objects.
        self.forms: dict[type | None, Form] = {None: Form(self, None)}
        self.resolved = self.forms[None].resolved
        self.pure = not self.resolved

    def form(self, kind: type | None) -> Form:
        """How objects of the class are made. Code for one class alone is made for rows: it reads by position."""
        form = self.forms.get(kind)
        if form is None:
            form = self.forms[None]
            if len(self.forms) <= MAX_CLASSES_OF_PLAN and kind is not None:
                form = self.forms[kind] = Form(self, kind) if is_row(kind) else form
        return form

    def loop(self, values: list[Any], accepted: Acceptance) -> list[dict[str, Any]]:
        """All the values as objects, when they are; Surprise when one is not."""
        kinds = classes_of(values)
        if not all_accepted(kinds, values, accepted):
            raise Surprise
        return self.form(next(iter(kinds)) if len(kinds) == 1 else None).loop(values)

    def execute(
        self, run: Run, source: Any, path: Path | None, site: Site | None, form: Form | None = None
    ) -> dict[str, Any]:
        """The object that the selection makes of the source; pending fields are stored in it later."""
        form = form or self.forms.get(type(source)) or self.form(type(source))
        resolved = form.resolved
        try:
            data: dict[str, Any] = form.make(source)
        except Exception:  # whatever is wrong, graphql-core says so
            data, resolved = self.execute_pure_fields_apart(run, source, path, site), self.resolved
        for field in resolved:
            result = run_field(run, field, source, path, site, data)
            if result is not PENDING:
                data[field.key] = result
        return data

    def execute_pure_fields_apart(self, run: Run, source: Any, path: Path | None, site: Site | None) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for field in self.fields:
            data[field.key] = None
            if field not in self.resolved:
                at = Path(path, field.key, self.type.name)
                result = run.execute_field(self.type, source, field.details, at, None)
                position = Position(field.return_type, field.details)
                result = run.stored(result, position, at, site, data, field.key)
                if result is not PENDING:
                    data[field.key] = result
        return data
