import json
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.execution.running.encoding import encode


class Word(StrEnum):
    YES = "yes"


class Number(IntEnum):
    ONE = 1


class Plain(Enum):
    A = "a"


class Text(str):
    __slots__ = ()


class Real(float):
    pass


class LocalUUID(UUID):
    pass


class Pair(NamedTuple):
    a: int
    b: int


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_is_encoded_is_the_value_that_the_standard_library_writes(value: Any) -> None:
    assert json.loads(encode(value)) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "value",
    [
        2**64,
        -(2**80),
        "\ud800 lone",
        {"\udfff": 1},
        {7: 1, 2.5: 2, None: 3, True: 4},
        Text("text"),
        {Text("key"): Text("text")},
        Word.YES,
        {Word.YES: Number.ONE},
        Real(1.5),
        Pair(1, 2),
        (1, (2,)),
        [[[[]]]],
        "\x00\u2028\x7f",
        1e308,
        -0.0,
    ],
)
def test_unusual_values_are_written_as_the_standard_library_does(value: Any) -> None:
    assert json.loads(encode(value)) == json.loads(json.dumps(value))


@pytest.mark.parametrize("beside", [0, 2**70], ids=["orjson", "fallback"])
@pytest.mark.parametrize(
    ("value", "written"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006Z"),
        (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=1))), "2026-01-02T03:00:00+01:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (LocalUUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Plain.A, "a"),
    ],
)
def test_native_leaves_look_the_same_either_way(value: Any, written: str, beside: int) -> None:
    assert json.loads(encode([value, beside], orjson.OPT_UTC_Z)) == [written, beside]


def test_utc_is_an_offset_unless_asked_otherwise() -> None:
    value = datetime(2026, 1, 2, tzinfo=UTC)
    assert encode(value) == b'"2026-01-02T00:00:00+00:00"'
    assert json.loads(encode([value, 2**70]))[0] == "2026-01-02T00:00:00+00:00"


@pytest.mark.parametrize("beside", [0, 2**70], ids=["orjson", "fallback"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have_become_null(value: float, beside: int) -> None:
    assert json.loads(encode([value, beside])) == [None, beside]


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, {(1, 2): 3}, [object()], {"a": {b"b": 1}}])
def test_what_has_no_json_form_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_nesting_without_end_is_an_error_and_no_crash() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises((TypeError, RecursionError)):
        encode(value)


def test_nesting_that_orjson_does_not_follow_is_written() -> None:
    value: list[Any] = []
    for _ in range(300):
        value = [value]
    assert json.loads(encode(value)) == value


@pytest.mark.parametrize("seconds", [1, 3600 + 61, -1])
def test_offsets_with_seconds_are_written_like_isoformat(seconds: int) -> None:
    value = datetime(2026, 1, 2, tzinfo=timezone(timedelta(seconds=seconds)))
    assert json.loads(encode([value, 2**70]))[0] == value.isoformat()
