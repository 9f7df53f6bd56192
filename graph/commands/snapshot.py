"""The committed `schema.graphql`: what clients rely on, so that no change of it goes unnoticed."""
# ruff: noqa: T201  # its output is what it is for

import difflib
import sys
from itertools import islice

from graphql import build_schema, parse
from graphql.utilities import find_breaking_changes, find_dangerous_changes

from graph.schema import sdl
from persistence.settings import ROOT

PATH = ROOT / "schema.graphql"
DIFFERENCES_SHOWN = 40


def write() -> int:
    """Write the snapshot, say what that means for clients, and return the exit code."""
    text = sdl()
    if PATH.exists():
        announce(PATH.read_text(), text)
    PATH.write_text(text)
    print(f"wrote {PATH.name}")
    return 0


def check() -> int:
    """Compare the snapshot with this code and return the exit code: 1 on any difference."""
    text = sdl()
    committed = PATH.read_text() if PATH.exists() else ""
    if committed == text:
        print(f"{PATH.name} is up to date")
        return 0
    announce(committed, text)
    lines = difflib.unified_diff(committed.splitlines(), text.splitlines(), PATH.name, "this code", lineterm="", n=1)
    print("\n".join(islice(lines, DIFFERENCES_SHOWN)))
    print(f"taskstore: {PATH.name} differs from this code; if that is meant: ./run schema --write", file=sys.stderr)
    return 1


def announce(committed: str, text: str) -> None:
    """Name the changes that break clients, and those that may surprise them."""
    for kind, change in changes(committed, text):
        print(f"{kind}: {change}")


def changes(committed: str, text: str) -> list[tuple[str, str]]:
    """What differs for clients between two SDL texts, as ("breaking" or "dangerous", sentence)."""
    if not committed.strip() or not parse(committed).definitions:
        return []
    old, new = build_schema(committed), build_schema(text)
    return [("breaking", change.description) for change in find_breaking_changes(old, new)] + [
        ("dangerous", change.description) for change in find_dangerous_changes(old, new)
    ]
