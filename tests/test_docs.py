"""The documents say what the code does: examples fit the schema, and no setting or error code is missing."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLSchema, OperationDefinitionNode, parse, validate

from graph.commands.cli import make_parser
from graph.execution.preparing.limits import Limits
from graph.schema import schema
from graph.types.naming import camel
from persistence.settings import ROOT, Settings, variable

README, API, OPERATIONS = ROOT / "README.md", ROOT / "docs/api.md", ROOT / "docs/operations.md"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
SOURCES = sorted(path for folder in ("graph", "persistence") for path in (ROOT / folder).rglob("*.py"))

CODE = re.compile(r"[A-Z][A-Z_]+[A-Z]")


def examples() -> Iterator[Any]:
    for path in (README, API):
        for number, text in enumerate(
            re.findall(r"^```graphql\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
        ):
            yield pytest.param(text, id=f"{path.name}-{number}")


@pytest.mark.parametrize("text", list(examples()))
def test_an_example_is_valid_and_names_its_operations(text: str) -> None:
    document = parse(text)
    graphql_schema: GraphQLSchema = schema._schema

    assert validate(graphql_schema, document) == []
    assert all(node.name for node in document.definitions if isinstance(node, OperationDefinitionNode))


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_a_setting_is_documented_with_its_default(field: "dataclasses.Field[Any]") -> None:
    row = next((line for line in OPERATIONS.read_text().splitlines() if f"| `{variable(field.name)}` |" in line), None)

    assert row is not None
    assert row.split(" | ")[1].strip("`") == shown(field.default)


def shown(default: Any) -> str:
    """A default as the table of settings shows it."""
    match default:
        case None:
            return "none"
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case Path():
            return str(default.relative_to(ROOT))
        case "":
            return "empty"
    return str(default)


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = {variable(field.name) for field in dataclasses.fields(Settings)}
    named = {name for path in DOCUMENTS for name in re.findall(r"\bTASKSTORE_[A-Z_]+[A-Z]\b", path.read_text())}

    assert named <= known


def test_every_error_code_is_documented() -> None:
    codes = set(error_codes())

    assert {"STALE_VERSION", "TOO_LONG", "BAD_REQUEST", "RATE_LIMITED", "INTERNAL_SERVER_ERROR"} <= codes
    assert sorted(code for code in codes if f"`{code}`" not in API.read_text()) == []


def test_every_limit_on_documents_is_documented() -> None:
    limits = [camel(field.name) for field in dataclasses.fields(Limits) if field.type is not bool]

    assert [name for name in limits if f"`{name}`" not in API.read_text()] == []


def test_no_error_code_is_documented_that_does_not_exist() -> None:
    table = [line for line in API.read_text().splitlines() if re.match(r"\| (`\w+Error`|`[A-Z_]+`)? \|", line)]
    documented = {code for line in table for code in re.findall(r"`([A-Z][A-Z_]+[A-Z])`", line)}

    assert sorted(documented - set(error_codes())) == []


def error_codes() -> Iterator[str]:
    """The codes that the sources give to errors: `code=...`, and the arguments that are codes of what makes errors."""
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    constants: dict[str, str] = {}
    for tree in trees:
        for node in tree.body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                constants |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
    position = {"Problem": 0, "add": 0, "RequestError": 1, "coded": 1}
    for part in (part for tree in trees for part in ast.walk(tree)):
        candidates: list[ast.expr] = []
        if isinstance(part, ast.Call):
            name = getattr(part.func, "attr", getattr(part.func, "id", ""))
            candidates += part.args[position[name] :][:1] if name in position else []
            candidates += [keyword.value for keyword in part.keywords if keyword.arg == "code"]
        elif isinstance(part, ast.ClassDef):
            candidates += [
                statement.value
                for statement in part.body
                if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "code" and statement.value
            ]
        elif isinstance(part, ast.Dict):
            candidates += [
                value
                for key, value in zip(part.keys, part.values, strict=True)
                if isinstance(key, ast.Constant) and key.value == "code"
            ]
        for candidate in candidates:
            value = constants.get(candidate.id) if isinstance(candidate, ast.Name) else None
            if isinstance(candidate, ast.Constant) and isinstance(candidate.value, str):
                value = candidate.value
            if value is not None and CODE.fullmatch(value):
                yield value


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)

    assert broken == []


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_metric_is_documented() -> None:
    named = set(re.findall(r'"(taskstore_\w+)"', (ROOT / "graph/server/metrics.py").read_text()))

    assert named
    assert sorted(name for name in named if not re.search(rf"`{name}(_total)?`", OPERATIONS.read_text())) == []


def test_every_command_is_documented() -> None:
    text = OPERATIONS.read_text()
    commands = next(action for action in make_parser()._actions if action.choices).choices

    assert isinstance(commands, dict)
    assert [name for name in commands if name != "help" and f"`./run {name}" not in text] == []


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text()

    assert [path.name for path in folder.glob("0*.md") if f"({path.name})" not in index] == []
