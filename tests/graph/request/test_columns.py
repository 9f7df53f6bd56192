"""What an operation remembers of its fields: by the place of each, bounded, and in keys that no input makes longer."""

from types import SimpleNamespace
from typing import Any

import pytest
import strawberry
from strawberry import Info

from graph.lists import arguments as pagination
from graph.request.columns import MEMO_SIZE, columns_of, once_per_field, place_of
from graph.request.loaders import Loaders
from graph.tasks import Task
from tests.conftest import Account, Api
from tests.graph.operations import new_task

pytestmark = pytest.mark.anyio


@strawberry.interface
class Keeper:
    @strawberry.field
    def kept(self, info: Info[Any, None]) -> list[str]:
        kind = type(self).__name__
        remembered = once_per_field(info, "kind", lambda: kind)
        loader = info.context.loaders.get(("kept", place_of(info)), lambda keys: kind)
        return [remembered, loader._fetch(None)]


@strawberry.type
class Person(Keeper):
    name: str


@strawberry.type
class Project(Keeper):
    name: str


@strawberry.type
class Query:
    @strawberry.field
    def keepers(self) -> list[Keeper]:
        return [Person(name="a"), Project(name="b"), Person(name="c")]


SCHEMA = strawberry.Schema(Query, types=[Person, Project])


async def test_an_interfaces_list_is_another_below_each_type() -> None:
    context = SimpleNamespace(memo={}, loaders=Loaders())

    result = await SCHEMA.execute("{ keepers { kept } }", context_value=context)

    assert result.data == {"keepers": [{"kept": [kind] * 2} for kind in ("Person", "Project", "Person")]}


async def test_an_operation_remembers_a_bounded_number_of_fields() -> None:
    context = SimpleNamespace(memo={}, loaders=Loaders())
    aliases = " ".join(f"a{n}: kept" for n in range(MEMO_SIZE))

    result = await SCHEMA.execute(f"{{ keepers {{ {aliases} }} }}", context_value=context)

    assert result.data
    assert result.data["keepers"][1]["a255"] == ["Project"] * 2
    assert len(context.memo) == MEMO_SIZE


def test_only_names_of_the_type_itself_decide_over_its_columns() -> None:
    names = frozenset({"title", "overdue"})

    assert columns_of(Task, names) == {"id", "title", "due_at", "status"}
    assert columns_of(Task, names | {f"x{n}" for n in range(1_000)}) == columns_of(Task, names)


LIST = """
query($filter: TaskFilter, $after: String) {
  viewer {
    tasks(filter: $filter, first: 2, after: $after) { totalCount edges { cursor } pageInfo { hasPreviousPage } }
  }
}
"""


async def test_keys_of_loaders_do_not_grow_with_the_values_of_a_filter(
    api: Api, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await new_task(api, account)
    keys: list[Any] = []
    get = Loaders.get

    def noted(self: Loaders, name: Any, batch: Any) -> Any:
        keys.append(name)
        return get(self, name, batch)

    monkeypatch.setattr(Loaders, "get", noted)
    filter = {"title": {"notIn": ["x" * 100] * 1_000}}

    first = await api(LIST, account, filter=filter)
    after = first["viewer"]["tasks"]["edges"][1]["cursor"]
    second = await api(LIST, account, filter=filter, after=after)

    assert first["viewer"]["tasks"]["totalCount"] == 3
    assert second["viewer"]["tasks"]["pageInfo"]["hasPreviousPage"] is True
    assert len(keys) == 5
    assert all("xxx" not in repr(key) for key in keys)


async def test_the_mark_of_a_list_is_made_once_for_all_its_cursors(
    api: Api, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await new_task(api, account)
    made: list[Any] = []
    mark = pagination.fingerprint

    def noted(query: Any, scope: Any) -> str:
        made.append(query)
        return mark(query, scope)

    monkeypatch.setattr(pagination, "fingerprint", noted)

    found = await api("{ viewer { tasks { edges { cursor } pageInfo { startCursor endCursor } } } }", account)

    assert len(found["viewer"]["tasks"]["edges"]) == 3
    assert len(made) == 1
