"""Limits on documents, checked before anything else looks at them.

One pass over the definitions counts what each contains; what a fragment contains is counted once and then added
wherever it is spread, so that chained fragments cost linear time although their counts multiply. Validation and
compilation, which follow, take time in proportion to two of these counts: `selections`, which counts everything as
often as its fragment is spread, and `overlaps`, the pairs of fields that answer to the same name in the same place,
which the specification wants compared with each other (section 5.3.2).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from graph.execution.errors import VALIDATION_FAILED, RequestError, limit_exceeded

# Chained fragments double a count with every link; beyond this the exact number tells nobody anything.
COUNT_CAP = 1_000_000_000

# A lexical token as GraphQL's grammar has it (section 2.1.6), preceded by the comments, which count too: the parser
# keeps them. What the grammar does not know is one token, for the parser to refuse. An unfinished string is one
# token as well, and nothing is tried twice: any text takes linear time.
TOKEN = re.compile(
    r"""
    \#[^\r\n]*+ | \"{3}(?:[^"\\]++|\\.|"(?!""))*+(?:\"{3})? | "(?:[^"\\\r\n]++|\\[^\r\n])*+"?
    | \.\.\. | [A-Za-z_]\w*+ | -?\d++(?:\.\d++)?(?:[eE][+-]?\d++)? | [^\s,\ufeff]
    """,
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a document may contain at most.

    All but `characters`, `tokens` and `operations` are per operation and count what fragments bring in, as often as
    they are spread; duplicates count. Below `__schema` and `__type` the field `ofType`, which only unwraps a type, adds
    nothing to the depth, so that the introspection query of common tools has a depth of 6. `introspection_aliases` are
    those of `__schema` and `__type` and of the fields below them: tools need none, and each doubles a large answer.
    `name_length` is that of names which a client chooses: an alias stands in the answer as often as there are objects.
    """

    characters: int = 200_000
    tokens: int = 2_000
    operations: int = 10
    depth: int = 12
    root_fields: int = 20
    aliases: int = 30
    introspection_aliases: int = 4
    name_length: int = 128
    directives: int = 50
    selections: int = 3_000
    overlaps: int = 3_000
    introspection: bool = True


def token_check(limits: Limits) -> Callable[[str], None]:
    """A check of texts for `Documents(check=...)`: refuses what is too long before the parser sees it."""

    def check(text: str) -> None:
        if len(text) > limits.characters:
            raise _exceeded("characters", limits.characters, len(text))
        if len(text) <= limits.tokens:  # a token has at least one character
            return
        actual = count_tokens(text)
        if actual > limits.tokens:
            raise _exceeded("tokens", limits.tokens, actual)

    return check


def count_tokens(text: str) -> int:
    """The lexical tokens and comments of a text, whether or not it can be parsed."""
    return len(TOKEN.findall(text))


def limit_rule(limits: Limits) -> type[ASTValidationRule]:
    """The limits as the one rule of `Documents(rules=...)`."""

    class LimitRule(ASTValidationRule):
        def enter_document(self, node: DocumentNode, *_args: Any) -> None:
            try:
                check(node, limits)
            except RequestError as error:
                self.report_error(error)

    return LimitRule


def check(document: DocumentNode, limits: Limits) -> None:
    """Raise RequestError (LIMIT_EXCEEDED, HTTP 400) for the first limit that the document exceeds."""
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    if len(operations) > limits.operations:
        raise _exceeded("operations", limits.operations, len(operations), operations[limits.operations])
    for node, counts in counted(operations, fragments):
        for name in (
            "root_fields",
            "depth",
            "aliases",
            "introspection_aliases",
            "name_length",
            "directives",
            "selections",
        ):
            allowed, actual = getattr(limits, name), getattr(counts, name)
            if actual > allowed:
                raise _exceeded(name, allowed, actual, node)
        if (actual := overlaps(node, fragments)) > limits.overlaps:
            raise _exceeded("overlaps", limits.overlaps, actual, node)
        if counts.introspection and not limits.introspection:
            raise RequestError(
                f"Introspection is switched off: the field '{counts.introspection.name.value}' cannot be used",
                VALIDATION_FAILED,
                nodes=counts.introspection,
                status=422,
            )


@dataclass(slots=True)
class Counts:
    """What a definition contains; `spreads` are the fragments yet to be added, with the depth they are spread at."""

    root_fields: int = 0
    depth: int = 0
    aliases: int = 0
    introspection_aliases: int = 0
    name_length: int = 0
    directives: int = 0
    selections: int = 0
    introspection: FieldNode | None = None
    spreads: list[tuple[str, int]] = field(default_factory=list)

    def add(self, other: "Counts", depth: int) -> None:
        """Add a fragment that is spread below `depth` fields."""
        if depth == 0:
            self.root_fields = min(COUNT_CAP, self.root_fields + other.root_fields)
        self.depth = max(self.depth, depth + other.depth)
        self.aliases = min(COUNT_CAP, self.aliases + other.aliases)
        aliases = self.introspection_aliases + other.introspection_aliases
        self.introspection_aliases = min(COUNT_CAP, aliases)
        self.name_length = max(self.name_length, other.name_length)
        self.directives = min(COUNT_CAP, self.directives + other.directives)
        self.selections = min(COUNT_CAP, self.selections + other.selections)
        self.introspection = self.introspection or other.introspection


def counted(
    operations: Sequence[OperationDefinitionNode], definitions: Mapping[str, FragmentDefinitionNode]
) -> Iterator[tuple[OperationDefinitionNode, Counts]]:
    """Each operation with what it contains, fragments included. Raises RequestError for a cycle of fragments."""
    fragments = {name: _own(node) for name, node in definitions.items()}
    complete: set[str] = set()
    for name in fragments:
        _complete(name, fragments, complete)
    for node in operations:
        counts = _own(node)
        for name, depth in counts.spreads:
            if name in fragments:
                counts.add(fragments[name], depth)
        yield node, counts


def _complete(start: str, fragments: dict[str, Counts], complete: set[str]) -> None:
    """Add to a fragment what it spreads, the innermost first; without recursion, since chains may be long."""
    pending = [start]
    entered: set[str] = set()
    while pending:
        name = pending[-1]
        if name in complete or name not in fragments:
            pending.pop()
        elif name not in entered:
            entered.add(name)
            pending += [inner for inner, _ in fragments[name].spreads if inner not in entered]
        else:
            counts = fragments[name]
            for inner, depth in counts.spreads:
                if inner in complete:
                    counts.add(fragments[inner], depth)
                elif inner in fragments:  # entered and not complete: we came from there
                    raise RequestError(f"Cannot spread fragment '{inner}' within itself.", VALIDATION_FAILED)
            complete.add(name)
            pending.pop()


def overlaps(operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]) -> int:
    """The pairs of fields that answer to the same name in the same place.

    Takes time in proportion to the selections, so these must have been found to be within their limit, and fragments
    to have no cycles.
    """
    pairs = 0
    pending: list[tuple[SelectionSetNode, dict[str, list[Any]]]] = [(operation.selection_set, {})]
    while pending:
        selections, place = pending.pop()
        for node in selections.selections:
            if isinstance(node, FieldNode):
                name = node.alias.value if node.alias else node.name.value
                seen = place.get(name)
                if seen is None:
                    seen = place[name] = [0, {}]
                pairs += seen[0]
                seen[0] += 1
                if node.selection_set:
                    pending.append((node.selection_set, seen[1]))
            elif isinstance(node, InlineFragmentNode):
                pending.append((node.selection_set, place))
            elif isinstance(node, FragmentSpreadNode) and (fragment := fragments.get(node.name.value)):
                pending.append((fragment.selection_set, place))
    return pairs


def _own(definition: OperationDefinitionNode | FragmentDefinitionNode) -> Counts:
    """What stands in the definition itself."""
    counts = Counts(directives=len(definition.directives or ()))
    counts.name_length = len(definition.name.value) if definition.name else 0
    for variable in definition.variable_definitions or ():
        counts.name_length = max(counts.name_length, len(variable.variable.name.value))
        counts.directives += len(variable.directives or ())
    of_type = isinstance(definition, FragmentDefinitionNode) and definition.type_condition.name.value.startswith("__")
    pending: list[tuple[SelectionSetNode, int, bool]] = [(definition.selection_set, 0, of_type)]
    while pending:
        selections, depth, meta = pending.pop()
        for node in selections.selections:
            counts.selections += 1
            counts.directives += len(node.directives or ())
            if isinstance(node, FieldNode):
                name = node.name.value
                counts.root_fields += depth == 0
                if node.alias is not None:
                    counts.aliases += 1
                    counts.name_length = max(counts.name_length, len(node.alias.value))
                inside = meta
                if name in ("__schema", "__type"):
                    inside, counts.introspection = True, counts.introspection or node
                counts.introspection_aliases += inside and node.alias is not None
                below = depth if meta and name == "ofType" else depth + 1
                counts.depth = max(counts.depth, below)
                if node.selection_set:
                    pending.append((node.selection_set, below, inside))
            elif isinstance(node, InlineFragmentNode):
                pending.append((node.selection_set, depth, meta))
            elif isinstance(node, FragmentSpreadNode):
                counts.spreads.append((node.name.value, depth))
    return counts


LABELS = {
    "characters": "The document has {} characters",
    "tokens": "The document has {} tokens",
    "operations": "The document has {} operations",
    "depth": "The operation is {} fields deep",
    "root_fields": "The operation has {} root fields",
    "aliases": "The operation has {} aliases",
    "introspection_aliases": "The operation has {} aliases of and below __schema and __type",
    "name_length": "The operation has a name of {} characters",
    "directives": "The operation has {} directives",
    "selections": "The operation has {} selections, fragments included",
    "overlaps": "The operation has {} pairs of fields with the same name in the same place",
}

# Where the name that clients see is another.
NAMES = {"name_length": "nameLength", "root_fields": "rootFields", "introspection_aliases": "introspectionAliases"}


def _exceeded(limit: str, allowed: int, actual: int, node: Any = None) -> RequestError:
    number = f"more than {actual - 1}" if actual >= COUNT_CAP else str(actual)
    message = f"{LABELS[limit].format(number)}; at most {allowed} are allowed"
    name = NAMES.get(limit, limit)
    error = limit_exceeded(name, allowed, actual, message, node)
    error.status = 400
    return error
