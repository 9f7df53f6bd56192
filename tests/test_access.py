"""Nobody but `persistence.access` decides who may see or edit what: read from the source of all the others."""

import ast
from collections.abc import Iterator

import pytest

from persistence.access import OWNER_NAMES
from tests.test_layers import MODULES

RIGHTS = {"ADMIN", "administers", "is_admin"}
"""What reaches further than what is one's own."""

COLUMNS = {name for name in OWNER_NAMES.values() if name != "id"}
"""What says whose a row is; the log and the kept answers have columns of these names, too."""

COMPARISONS = {"in_", "not_in", "is_distinct_from", "is_not_distinct_from", "op", "contains", "filter_by"}

ALLOWED = {
    "persistence.access": "decides",
    "persistence.viewer": "the operator has all rights, and nobody asks whether",
    # Rights that are given, described or kept: none of these shows a row because of them.
    "persistence.seed.": "the demo accounts have roles",
    "persistence.seed.seed_account": "the two demo accounts have different tasks",
    "persistence.users.count_admins": "how many there are",
    "persistence.users.keep_an_admin": "the last admin stays one",
    "persistence.users.update": "asks whether an admin is about to become none",
    "graph.commands.tokens.create": "the operator makes tokens for any account",
    "graph.request.context.Context": "refuses what is for admins before anything is looked up",
    # Who a token stands for.
    "persistence.tokens.": "the user of a token",
    "persistence.writes.rights.": "the user of a token",
    "persistence.writes.rights.confirm": "locks the rows of users whose rights are about to be written",
    "persistence.writes.rights.reach": "locks the row of the viewer, so that no right is taken away meanwhile",
    "persistence.writes.replays.reopened": "the user of a token",
    "graph.request.context.Services": "forgets whom the tokens of a user stand for",
    "graph.accounts.still_confirmed": "the password of the viewer",
    # Everything of a user or of a row, for its end: the viewer was asked about before.
    "graph.commands.tokens.show": "the operator sees the tokens of any account",
    "persistence.seed.refresh_token": "ends the oldest tokens of a demo account",
    "persistence.tokens.revoke_sessions": "a new password ends the sessions of a user",
    "persistence.writes.changes.forget": "the history of a row that is purged",
    "persistence.writes.closing._forget": "the history of a closed account",
    "persistence.writes.closing._erase": "what a closed account was",
    "persistence.writes.closing._purge_some": "what a closed account owned",
    "persistence.writes.idempotency.forget_answers_with": "the answers that show a row that is purged",
    "persistence.writes.idempotency.forget_sessions_of": "the answers that opened the sessions of a user",
    "persistence.writes.idempotency.forget_some_of": "the answers that show what a closed account owned",
    "persistence.writes.idempotency.shown": "an answer shows what is one user's",
    # Rows are written for owners who are there; whether the actor may is a condition beside that.
    "persistence.writes.creation._alone": "the row of the owner, which is locked",
    "persistence.writes.creation._with_free_owners": "the rows of the owners, which are locked",
}
"""Where rights are asked for or owners compared, and why that decides nothing about what a viewer sees or edits."""


def decisions(tree: ast.Module) -> Iterator[str]:
    """The functions and classes that ask for rights, or compare somebody with whom a row belongs to."""
    for outer in tree.body:
        name = getattr(outer, "name", "")
        owners = set(named_owners(outer))
        for node in ast.walk(outer):
            asks = isinstance(node, ast.Attribute) and node.attr in RIGHTS
            if asks or any(says_whose(operand, owners) for operand in compared(node)):
                yield name


def named_owners(tree: ast.AST) -> Iterator[str]:
    """The variables that stand for a column which says whose a row is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and says_whose(node.value, set()):
            yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))


def compared(node: ast.AST) -> list[ast.expr]:
    """The operands of a comparison, of Python or of SQLAlchemy."""
    match node:
        case ast.Compare(ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return []
        case ast.Compare(left=left, comparators=right):
            return [left, *right]
        case ast.Call(func=ast.Attribute(value=left, attr=name), args=right, keywords=named) if name in COMPARISONS:
            return [left, *right, *(ast.Attribute(left, keyword.arg or "") for keyword in named)]
    return []


def says_whose(operand: ast.expr, owners: set[str]) -> bool:
    for node in ast.walk(operand):
        match node:
            case ast.Attribute(attr=name) | ast.Constant(value=name) if name in COLUMNS:
                return True
            case ast.Attribute(value=ast.Name(id="viewer" | "actor"), attr="id"):
                return True
            case ast.Subscript(value=ast.Name(id="OWNER" | "OWNER_NAMES") | ast.Attribute(attr="OWNER")):
                return True
            case ast.Name(id=name) if name in owners or name == "owner_of":
                return True
    return False


PLACES = {
    module: set(decisions(ast.parse(path.read_text())))
    for module, path in MODULES.items()
    if "migrations" not in module
}


@pytest.mark.parametrize("module", sorted(PLACES))
def test_nobody_else_decides_who_sees_what(module: str) -> None:
    places = {f"{module}.{name}" for name in PLACES[module] if module not in ALLOWED}

    assert places - set(ALLOWED) == set(), "ask persistence.access"


def test_the_exceptions_are_there() -> None:
    """What is not there any more would allow something new of the same name."""
    found = {f"{module}.{name}" for module, names in PLACES.items() for name in names}

    assert {name for name in ALLOWED if name not in found and not PLACES.get(name)} == set()


@pytest.mark.parametrize(
    "source",
    [
        "if viewer.is_admin: pass",
        "access.administers(viewer)",
        "role is Role.ADMIN",
        "query.where(Task.owner_id == viewer.id)",
        "query.where(Token.user_id.in_(ids))",
        "query.filter_by(owner_id=id)",
        "query.where(table.c['owner_id'] == id)",
        "query.where(OWNER[model] == id)",
        "query.where(access.OWNER[model] != id)",
        "def f():\n    owner = OWNER[model]\n    return select(row).where(owner == id)",
        "ids = [row.id for row in rows if row.owner_id == id]",
        "if owner_of(row) != id: pass",
        "if viewer.id not in ids: pass",
    ],
)
def test_a_decision_is_found(source: str) -> None:
    assert list(decisions(ast.parse(source)))


@pytest.mark.parametrize("source", ["Task(owner_id=viewer.id)", "task.owner_id is None", "load(User, self.owner_id)"])
def test_what_decides_nothing_is_left_alone(source: str) -> None:
    assert not list(decisions(ast.parse(source)))
