"""The layers: which folder may import which, read from the source, type hints included."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up. Modules of a package that stand in no folder of it are named, or are the nouns.
PERSISTENCE = (
    "persistence.words",
    "persistence.models",
    "persistence.rules",
    "persistence.rows",
    "persistence.connections",
    "persistence.session",
    "persistence.access",
    "persistence.writes, persistence.lists",
    "persistence",  # the nouns
    "persistence.seed, persistence.embedded",
)
GRAPH = (
    "graph.execution",
    "graph.transport",
    "graph.types",
    "graph.request",
    "graph.lists, graph.writes",
    "graph",  # the nouns
    "graph.schema",
    "graph.server",
    "graph.commands",
    "graph.__main__",
)
GROUND = {"persistence.settings", "persistence.viewer"}
"""Read by every level above what they import themselves."""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in ("graph", "background", "persistence") for path in sources(package)}


def imported(path: Path) -> Iterator[str]:
    """The full names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def uses(module: str) -> set[str]:
    """The modules of this project that a module imports: the nearest that there is for each name."""
    found = set()
    for name in imported(MODULES[module]):
        while name not in MODULES and "." in name:
            name = name.rpartition(".")[0]
        if name in MODULES and name not in (module, "graph", "background", "persistence"):
            found.add(name)
    return found


IMPORTS: Mapping[str, set[str]] = {module: uses(module) for module in MODULES}


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def level(module: str, levels: tuple[str, ...]) -> int:
    """The place of a module among the levels: that of the longest name that it begins with."""
    names = {name: place for place, names in enumerate(levels) for name in names.split(", ")}
    parts = module.split(".")
    while ".".join(parts) not in names:
        parts.pop()
    return names[".".join(parts)]


def circles(arrows: Mapping[str, set[str]]) -> list[str]:
    """What lies on a circle: what is left when all that has nothing below or nothing above it was taken away."""
    left = {name: set(targets) - {name} for name, targets in arrows.items()}
    while True:
        pointed = set().union(*left.values()) if left else set()
        gone = [name for name, targets in left.items() if name not in pointed or not targets & left.keys()]
        if not gone:
            return sorted(left)
        for name in gone:
            del left[name]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_arrow_runs_up(module: str) -> None:
    package = module.split(".")[0]
    levels = {"persistence": PERSISTENCE, "graph": GRAPH, "background": ("background",)}[package]
    up = [
        used
        for used in IMPORTS[module]
        if used.split(".")[0] == package and used not in GROUND and level(used, levels) > level(module, levels)
    ]

    assert up == []


@pytest.mark.parametrize("module", [module for module in MODULES if within(module, ("background",))])
def test_the_loops_know_the_store_only(module: str) -> None:
    assert [name for name in IMPORTS[module] if within(name, ("graph",))] == []


@pytest.mark.parametrize("module", [module for module in MODULES if within(module, ("persistence",))])
def test_the_store_does_not_know_the_loops(module: str) -> None:
    assert [name for name in IMPORTS[module] if within(name, ("background",))] == []


@pytest.mark.parametrize("module", sorted(GROUND))
def test_what_all_may_read_imports_little(module: str) -> None:
    assert {name.split(".")[1] for name in IMPORTS[module]} <= {"models", "rules"}


def test_no_module_imports_itself_through_others() -> None:
    assert circles(IMPORTS) == []


def test_no_folder_imports_itself_through_others() -> None:
    folders: dict[str, set[str]] = {}
    for module, used in IMPORTS.items():
        folder = folder_of(module)
        folders.setdefault(folder, set()).update(folder_of(name) for name in used if name not in GROUND)

    assert circles(folders) == []


def folder_of(module: str) -> str:
    """The folder of a module; those that lie directly in a package stand for themselves."""
    folder = module.rpartition(".")[0]
    return folder if "." in folder else module


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


@pytest.mark.parametrize(
    "path", sources("persistence") + sources("alembic"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_store_knows_nothing_of_the_api(path: Path) -> None:
    above = ("graph", "strawberry", "starlette", "graphql", "uvicorn", "aiodataloader")

    assert [name for name in imported(path) if within(name, above)] == []


@pytest.mark.parametrize("path", sources("persistence"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_store_does_not_speak_of_the_api(path: Path) -> None:
    docstrings = [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]

    assert [text for text in docstrings if "graph." in text or "graph/" in text] == []


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("graph.execution")])
def test_the_engine_knows_nothing_of_tasks_and_of_http(module: str) -> None:
    outside = ("persistence", "sqlalchemy", "asyncpg", "starlette", "uvicorn")
    wrong = [name for name in imported(MODULES[module]) if within(name, outside)]
    wrong += [name for name in IMPORTS[module] if not within(name, ("graph.execution",))]

    assert wrong == []


def test_the_layers_are_found() -> None:
    """A folder that moved would make the tests above say nothing."""
    for levels in (PERSISTENCE, GRAPH):
        for name in ", ".join(levels).split(", "):
            assert name in MODULES, name
    assert len(MODULES) > 100
    assert not (ROOT / "alembic" / "__init__.py").exists(), "it would hide the library of that name"
