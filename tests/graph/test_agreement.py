"""What is declared in one place and missing in another ends the start, with a line that names it."""

from enum import StrEnum
from typing import Any

import pytest
import strawberry

from graph.agreement import Disagreement, check, disagreements
from graph.lists import filters
from graph.lists.connections import Connection
from graph.lists.filters import filter_field
from graph.request.context import Info
from graph.schema import schema
from graph.tasks import Task, UpdateTaskInput, UpdateTaskPayload
from graph.types.node import Node, joins, needs
from graph.writes import mutations
from graph.writes.mutations import given, mutation, optional, present
from persistence import models
from persistence.models import Task as TaskRow
from persistence.models.base import entities


def lines(query: type, change: type | None = None) -> list[str]:
    """What is said of a schema with these fields."""
    return list(disagreements(strawberry.Schema(query, change)))


def test_the_schema_agrees_with_the_models() -> None:
    assert list(disagreements(schema)) == []


def test_a_disagreement_ends_the_start_with_all_that_is_missing() -> None:
    @strawberry.type(name="Ghost")
    class Ghost(Node):
        pass

    @strawberry.type
    class Query:
        ghost: Ghost | None = None

    with pytest.raises(Disagreement) as caught:
        check(strawberry.Schema(Query))

    assert str(caught.value).splitlines() == [
        "Ghost: a Node without a model",
        *(f"{name}: a model with __entity__, and no Node of that name" for name in entities()),
    ]


def test_a_field_of_a_type_reads_columns_that_are_there_and_no_secret() -> None:
    @strawberry.type
    class Token(Node):
        colour: str
        secret_hash: str

        @strawberry.field(metadata=needs("weight"))
        def heavy(self) -> bool:
            return True

        @strawberry.field(metadata=needs("user_id") | joins("maker"))
        def maker(self) -> str:
            return ""

    @strawberry.type
    class Query:
        token: Token | None = None

    said = lines(Query)

    for line in (
        "Token.colour: Token has no public column colour",
        "Token.secret_hash: Token has no public column secret_hash",
        "Token.heavy: Token has no public column weight",
        "Token.maker: follows maker_id to what the viewer may not see",
    ):
        assert line in said


@strawberry.input
class OddFilter:
    colour: strawberry.Maybe[filters.StringFilter] = filter_field("x")
    title: strawberry.Maybe[filters.DateTimeFilter] = filter_field("x")
    due_at: strawberry.Maybe[filters.DateTimeFilter] = filter_field("x")
    status: strawberry.Maybe[filters.StringFilter] = filter_field("x")
    search: strawberry.Maybe[filters.StringFilter] = filter_field("x")


@strawberry.enum
class OddOrderField(StrEnum):
    TITLE = "title"
    COLOUR = "colour"
    TAGS = "tags"


@strawberry.input
class OddOrder:
    field: OddOrderField = strawberry.field()


def test_a_list_is_filtered_and_sorted_by_what_its_table_has() -> None:
    @strawberry.type
    class Query:
        @strawberry.field
        def tasks(
            self, filter: OddFilter | None = None, order_by: list[OddOrder] | None = None
        ) -> Connection[Task] | None:
            return None

    said = lines(Query)

    assert "Query.tasks: its arguments are checked too late; it needs the metadata of_list(Task's listing)" in said
    assert [line for line in said if line.startswith("Odd")] == [
        "OddFilter.colour: Task has no column or relation of that name to filter by",
        "OddFilter.title: DateTimeFilter compares no String",
        "OddFilter.search: Task has no column or relation of that name to filter by",
        "OddOrderField.COLOUR: Task has no such sort",
        "OddOrderField.TAGS: Task has no such sort",
    ]


@strawberry.input(name="OddInput")
class OddInput:
    title: str = given("x")
    owner_id: strawberry.Maybe[strawberry.ID] = optional("x")
    colour: strawberry.Maybe[str] = optional("x")
    idempotency_key: strawberry.Maybe[str] = optional("x")


def of_helper(input: Any) -> Any:
    return input.colour


def fields_read_by(read: Any) -> list[str]:
    """The fields of the input that nobody reads of a mutation that does so with it."""

    @strawberry.type
    class Query:
        one: int = 1

    @strawberry.type
    class Mutation:
        change = mutation("x")(read)

    return [line.split(":")[0] for line in lines(Query, Mutation) if line.startswith("Odd")]


async def by_column(self: Any, info: Info, input: OddInput) -> UpdateTaskPayload:
    present(input, TaskRow)
    return UpdateTaskPayload()


async def through_module(self: Any, info: Info, input: OddInput) -> UpdateTaskPayload:
    mutations.present(input, models.Task)
    return UpdateTaskPayload()


async def by_helper(self: Any, info: Info, input: OddInput) -> UpdateTaskPayload:
    async def work() -> Any:
        return of_helper(input), input.owner_id

    await work()
    return UpdateTaskPayload()


async def by_nobody(self: Any, info: Info, input: OddInput) -> UpdateTaskPayload:
    title = colour = owner_id = None
    return UpdateTaskPayload(task=title or colour or owner_id)


@pytest.mark.parametrize(
    ("resolver", "unread"),
    [
        (by_column, ["OddInput.owner_id", "OddInput.colour"]),
        (through_module, ["OddInput.owner_id", "OddInput.colour"]),
        (by_helper, ["OddInput.title"]),
        (by_nobody, ["OddInput.title", "OddInput.owner_id", "OddInput.colour"]),
    ],
)
def test_every_field_of_an_input_is_read(resolver: Any, unread: list[str]) -> None:
    assert fields_read_by(resolver) == unread


def test_what_an_input_gives_of_a_table_are_its_columns_but_for_which_row_and_whose() -> None:
    input = UpdateTaskInput(id=strawberry.ID("x"), title=strawberry.Some("T"), due_at=strawberry.Some(None))

    assert present(input, TaskRow) == {"title": "T", "due_at": None}
