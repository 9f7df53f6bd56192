"""Answers as JSON bytes.

orjson writes what is ordinary. What it refuses (integers beyond 64 bits, lone surrogates, keys that are no strings,
exotic time zones) goes through the standard library after being made plain, so that an answer is the same JSON value
as `json.dumps` would give, or a clear `TypeError`, and never a crash.
"""

import json
import math
from datetime import UTC, date, datetime, time
from enum import Enum
from typing import Any
from uuid import UUID

import orjson


def encode(value: Any, option: int = 0) -> bytes:
    """The JSON of a value made of dicts, lists, scalars, datetimes, dates, times, UUIDs and enums.

    `option` is orjson's; of it `OPT_UTC_Z` is respected in every case. NaN and the infinities, which JSON does not
    have, become null. Raises TypeError or RecursionError for what has no JSON form.
    """
    try:
        return orjson.dumps(value, default, option)
    except (TypeError, orjson.JSONEncodeError):
        plain = _plain(value, "Z" if option & orjson.OPT_UTC_Z else "+00:00")
        return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode("ascii")


def default(value: Any) -> Any:
    """What orjson does not know although it means one of the things it knows."""
    if isinstance(value, UUID):
        return str(value)  # asyncpg has a subclass of its own
    if isinstance(value, float):
        return float(value)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _plain(value: Any, utc: str) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, Enum):
        return _plain(value.value, utc)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_key(key): _plain(item, utc) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, utc) for item in value]
    if isinstance(value, datetime):
        text = value.isoformat()
        return text.removesuffix("+00:00") + utc if value.tzinfo is UTC else text
    if isinstance(value, (date, time)):
        return value.isoformat()
    return default(value)


def _key(key: Any) -> str:
    """The name of a member, as `json.dumps` makes it of what is no string."""
    if isinstance(key, str):
        return str(key.value) if isinstance(key, Enum) else key
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int):
        return int.__repr__(key)
    if isinstance(key, float):
        return float.__repr__(key)
    raise TypeError(f"A member's name must not be {type(key).__name__}")
