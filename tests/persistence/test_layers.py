"""The layers: which package may import which, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The full names of the modules that a file imports, wherever in it."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    "path", sources("persistence") + sources("alembic"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_store_knows_nothing_of_the_api(path: Path) -> None:
    above = ("graph", "strawberry", "starlette", "graphql", "uvicorn", "aiodataloader")

    assert [name for name in imported(path) if within(name, above)] == []


@pytest.mark.parametrize("path", sources("graph/execution"), ids=lambda path: path.name)
def test_the_executor_knows_nothing_of_tasks(path: Path) -> None:
    wrong = [
        name
        for name in imported(path)
        if within(name, ("persistence", "sqlalchemy", "asyncpg"))
        or (within(name, ("graph",)) and name != "graph" and not within(name, ("graph.execution",)))
    ]

    assert wrong == []


def test_the_layers_are_found() -> None:
    """A folder that moved would make the tests above say nothing."""
    assert len(sources("persistence")) > 20
    assert len(sources("graph/execution")) > 10
    assert not (ROOT / "alembic" / "__init__.py").exists(), "it would hide the library of that name"
