"""Introspection of the real schema: tools get it without a token, and nobody can make it expensive."""

import itertools

import pytest
from graphql import build_client_schema, get_introspection_query, print_schema

from persistence.settings import Settings
from tests.graph.queries import watched
from tests.graph.samples import SCHEMA

pytestmark = pytest.mark.anyio

OPTIONS = ("descriptions", "specified_by_url", "directive_is_repeatable", "schema_description")
MORE_OPTIONS = ("input_value_deprecation", "experimental_directive_deprecation", "one_of")


@pytest.mark.parametrize("type_depth", [3, 9])
async def test_what_tools_send_is_answered_without_a_token_and_far_within_the_cost(
    settings: Settings, type_depth: int
) -> None:
    """GraphiQL, code generators and Apollo send the query of graphql-js with some of its options."""
    names = OPTIONS + MORE_OPTIONS
    choices = [dict.fromkeys(names, False), dict.fromkeys(names, True), *({name: True} for name in names)]
    async with watched(settings) as api:
        for chosen in choices:
            answer = await api.post(get_introspection_query(**chosen, type_depth=type_depth))

            assert answer.status_code == 200
            assert "errors" not in answer.json()
            assert answer.json()["extensions"]["cost"]["requested"] < settings.max_cost / 2
        assert await api.statements() == []


async def test_the_answer_from_memory_is_the_whole_schema(settings: Settings) -> None:
    query = get_introspection_query(one_of=True, input_value_deprecation=True, specified_by_url=True)
    async with watched(settings) as api:
        first, second = [(await api.post(query)).json()["data"] for _ in range(2)]

    assert first == second
    assert print_schema(build_client_schema(second)) == print_schema(build_client_schema(first))
    assert set(build_client_schema(second).type_map) == set(SCHEMA.type_map)


@pytest.mark.parametrize("repeated", ["types { name fields { name } }", "types { ...F } "])
async def test_aliases_of_introspection_are_refused_before_any_sql(settings: Settings, repeated: str) -> None:
    aliases = " ".join(f"a{n}: {repeated}" for n in range(29))
    fragment = " fragment F on __Type { fields { args { type { name } } } }" if "...F" in repeated else ""
    async with watched(settings) as api:
        answer = await api.post(f"{{ __schema {{ {aliases} }} }}{fragment}")

        assert answer.status_code == 400
        [error] = answer.json()["errors"]
        limit = {"code": "LIMIT_EXCEEDED", "limit": "introspectionAliases", "allowed": 4, "actual": 29}
        assert error["extensions"] == limit
        assert await api.statements() == []


@pytest.mark.parametrize("depths", [*itertools.product(("tasks", "__x: tasks"), ("tasks", "__y: tasks"))])
async def test_a_name_that_looks_like_introspection_is_charged_before_any_sql(
    settings: Settings, depths: tuple[str, str]
) -> None:
    outer, inner = depths
    query = f"{{ {outer}(first: 100) {{ nodes {{ owner {{ {inner}(first: 100) {{ nodes {{ id }} }} }} }} }} }}"
    async with watched(settings) as api:
        answer = await api.post(query)

        [error] = answer.json()["errors"]
        assert (error["extensions"]["code"], error["extensions"]["actual"]) == ("COST_LIMIT_EXCEEDED", 10_200)
        assert await api.statements() == []
