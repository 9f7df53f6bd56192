"""DateTime: an offset on the way in, UTC with Z on the way out."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.types.scalars import parse_datetime, serialize_datetime
from tests.conftest import Account, Api
from tests.graph.operations import new_task, refused

CREATE = 'mutation($d: DateTime) { createTask(input: {title: "x", dueAt: $d}) { task { dueAt } } }'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
        ("2026-12-01t09:00:00z", "2026-12-01T09:00:00Z"),
        ("2026-12-01T09:00:00+01:00", "2026-12-01T08:00:00Z"),
        ("2026-12-01T00:30:00+14:00", "2026-11-30T10:30:00Z"),
        ("2026-12-01T09:00:00-00:00", "2026-12-01T09:00:00Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("2026-12-01T09:00:00.5Z", "2026-12-01T09:00:00.500000Z"),
        ("2026-12-01T09:00:00.123456Z", "2026-12-01T09:00:00.123456Z"),
        ("2026-12-01T09:00:00.123456789Z", "2026-12-01T09:00:00.123456Z"),
        ("2026-12-01T09:00:00.000Z", "2026-12-01T09:00:00Z"),
        ("0001-01-01T00:00:00.000001Z", "0001-01-01T00:00:00.000001Z"),
        ("9999-12-31T23:59:59.999998Z", "9999-12-31T23:59:59.999998Z"),
        ("9999-12-31T23:59:59+23:59", "9999-12-31T00:00:59Z"),
    ],
)
def test_a_moment_is_shown_in_utc(text: str, shown: str) -> None:
    assert serialize_datetime(parse_datetime(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-01T09:00:00",
        "2026-12-01",
        "2026-12-01 09:00:00Z",
        "2026-12-01T09:00Z",
        "2026-12-01T09:00:00+01",
        "2026-12-01T09:00:00+0100",
        "2026-12-01T09:00:00.Z",
        "2026-12-01T09:00:00,5Z",
        "20261201T090000Z",
        "2026-W49-2T09:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-12-01T24:00:00Z",
        "2026-12-01T23:59:60Z",
        "2026-12-01T09:60:00Z",
        "2026-12-01T09:00:00+24:00",
        "2026-12-01T09:00:00+01:60",
        "2026-12-01T09:00:00+01:99",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "10000-01-01T00:00:00Z",
        "-2026-12-01T09:00:00Z",
        "2026-12-01T09:00:00Z\n",
        " 2026-12-01T09:00:00Z",
        "\uff12\uff10\uff12\uff16-12-01T09:00:00Z",
        "",
        "now",
        "1764579600",
        1764579600,
        1764579600.5,
        True,
        [],
        {},
    ],
)
def test_what_is_no_moment_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="DateTime cannot represent"):
        parse_datetime(text)


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001  # the zone is added
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    )
)
def test_every_moment_comes_back(moment: datetime) -> None:
    parsed = parse_datetime(moment.isoformat())

    assert parsed == moment
    assert parsed.tzinfo is UTC
    assert parse_datetime(serialize_datetime(parsed)) == moment


@given(st.text(max_size=40) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", fullmatch=True))
def test_no_text_is_anything_but_a_moment_or_refused(text: str) -> None:
    try:
        assert parse_datetime(text).tzinfo is UTC
    except ValueError as error:
        assert "DateTime cannot represent" in str(error)  # noqa: PT017  # both outcomes are fine


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["0001-01-01T00:00:00.000001Z", "9999-12-31T23:59:59.999998Z"])
async def test_the_first_and_the_last_moment_can_be_stored(api: Api, account: Account, text: str) -> None:
    task = await new_task(api, account, dueAt=text)
    data = await api("query($id: ID!) { task(id: $id) { dueAt overdue } }", account, id=task["id"])

    assert data["task"] == {"dueAt": text, "overdue": text < "2"}


@pytest.mark.anyio
async def test_a_moment_without_an_offset_is_refused_in_variables_and_literals(api: Api, account: Account) -> None:
    assert await refused(api, CREATE, account, d="2026-12-01T09:00:00") == "BAD_USER_INPUT"
    document = api.engine.documents.get('{ tasks(filter: {dueAt: {lt: "2026-12-01"}}) { totalCount } }')
    assert [(error.extensions or {})["code"] for error in document.errors] == ["GRAPHQL_VALIDATION_FAILED"]
    assert "with an offset" in document.errors[0].message


@pytest.mark.parametrize("value", ["x" * 100_000, "2" * 100_000, ["x" * 1_000] * 100])
def test_a_long_value_is_not_repeated_whole(value: Any) -> None:
    with pytest.raises(ValueError, match="DateTime cannot represent") as caught:
        parse_datetime(value)

    assert len(str(caught.value)) < 500
