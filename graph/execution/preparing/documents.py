"""Prepared documents: each text is parsed and validated once, however often it is sent.

Documents (bounded cache) -> Document (one text) -> Operation (one definition, with room for compiled plans)
"""

import gc
from collections import OrderedDict
from collections.abc import Callable, Sequence
from sys import getsizeof
from typing import Any

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    VariableDefinitionNode,
    specified_rules,
    validate,
)
from graphql.execution.collect_fields import FragmentDetails
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from graph.execution.errors import OPERATION_RESOLUTION_FAILURE, VALIDATION_FAILED, RequestError, coded, syntax_error
from graph.execution.preparing.parsing import DocumentParser

RULES: tuple[type[ASTValidationRule], ...] = (*specified_rules, OneOfInputValidationRule)

MAX_ERRORS = 50
"""Mistakes in a document that are told; after that it is not looked at any more."""

MAX_PLANS = 16
"""Combinations of `@skip` and `@include` values that are kept compiled for one operation."""

# Invalid documents are kept for a client that repeats its mistake; a flood of them must cost little memory.
INVALID_SHARE = 8

TURNED_AWAY = 10
"""So many times as many texts are remembered by their hash as may be kept."""

# What is kept for a document, in bytes, as tracemalloc measured it on lists, mutations and deep queries: for the tree,
# and once more for each plan, so much and so much for each node.
TREE, PLAN, NODE, ERROR = 15_000, 10_000, 200, 2_500


class Operation:
    """One operation of a valid document.

    `memo` is for what is derived from the operation once (compiled plans, cost plans, lookahead); it lives as long
    as the document is cached. Whoever writes to it keeps it bounded.
    """

    __slots__ = (
        "definition",
        "fragment_details",
        "fragments",
        "kind",
        "kind_name",
        "memo",
        "name",
        "variables",
    )

    def __init__(self, definition: OperationDefinitionNode, document: "Document") -> None:
        self.definition = definition
        self.kind: OperationType = definition.operation
        self.kind_name: str = definition.operation.value
        self.name: str | None = definition.name.value if definition.name else None
        self.fragments: dict[str, FragmentDefinitionNode] = document.fragments
        self.fragment_details: dict[str, FragmentDetails] = document.fragment_details
        self.variables: Sequence[VariableDefinitionNode] = definition.variable_definitions or ()
        self.memo: dict[Any, Any] = {}


class Document:
    """One text, parsed and validated. With `errors` it has no operations; each error carries `extensions.code`.

    `bytes` is an estimate of what it takes together with all that will be derived from it.
    """

    __slots__ = ("ast", "bytes", "errors", "fragment_details", "fragments", "operations", "text")

    def __init__(self, text: str, ast: DocumentNode | None, errors: list[GraphQLError], bytes: int) -> None:
        self.text, self.ast, self.errors, self.bytes = text, ast, errors, bytes
        self.fragments: dict[str, FragmentDefinitionNode] = {}
        self.operations: dict[str | None, Operation] = {}
        if ast is None or errors:
            self.fragment_details: dict[str, FragmentDetails] = {}
            return
        for node in ast.definitions:
            if isinstance(node, FragmentDefinitionNode):
                self.fragments[node.name.value] = node
        self.fragment_details = {name: FragmentDetails(node) for name, node in self.fragments.items()}
        for node in ast.definitions:
            if isinstance(node, OperationDefinitionNode):
                operation = Operation(node, self)
                self.operations[operation.name] = operation

    def operation(self, name: str | None) -> Operation:
        """The operation with this name, or the only one. Raises RequestError (OPERATION_RESOLUTION_FAILURE)."""
        if name is None and len(self.operations) == 1:
            return next(iter(self.operations.values()))
        operation = self.operations.get(name) if name is not None else None
        if operation is None:
            if name is not None:
                message = f"Unknown operation named '{name}'."
            elif self.operations:
                message = "Must provide operation name if query contains multiple operations."
            else:
                message = "Must provide an operation."
            raise RequestError(message, OPERATION_RESOLUTION_FAILURE, status=400)
        return operation


class _Cache:
    """Documents by text. When it is full, the one used longest ago makes room for one that was asked for before.

    So a flood of texts that come once pushes out nothing, and leaves nothing behind: what is dropped young is freed at
    once, while plans, which refer to themselves, have to wait for the garbage collector when they have been kept.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self.max_count, self.max_bytes, self.bytes, self.dropped = max_count, max_bytes, 0, 0
        self.entries: OrderedDict[str, Document] = OrderedDict()
        self.turned_away: OrderedDict[int, None] = OrderedDict()
        """The hashes of texts that were asked for once, when there was no room."""

    def get(self, text: str) -> Document | None:
        document = self.entries.get(text)
        if document is not None:
            self.entries.move_to_end(text)
        return document

    def add(self, document: Document) -> None:
        if document.bytes > self.max_bytes:
            return
        is_full = len(self.entries) >= self.max_count or self.bytes + document.bytes > self.max_bytes
        if is_full and not self._was_turned_away(document.text):
            return
        self.entries[document.text] = document
        self.bytes += document.bytes
        while len(self.entries) > self.max_count or self.bytes > self.max_bytes:
            _, dropped = self.entries.popitem(last=False)
            self.bytes -= dropped.bytes
            self.dropped += dropped.bytes
        if self.dropped > self.max_bytes:  # the collector would come late to what is as old
            self.dropped = 0
            gc.collect()

    def _was_turned_away(self, text: str) -> bool:
        key = hash(text)
        if key in self.turned_away:
            del self.turned_away[key]
            return True
        self.turned_away[key] = None
        if len(self.turned_away) > TURNED_AWAY * self.max_count:
            self.turned_away.popitem(last=False)
        return False


class Documents:
    """The prepared documents of one schema.

    `check` sees each new text before it is parsed and raises RequestError to refuse it. `rules` run before the rules
    of the specification and, when one of them objects, instead of them: a document that is too large is not worth
    validating. `max_bytes` bounds what is kept, texts, trees and plans, by an estimate.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        *,
        max_count: int = 1000,
        max_bytes: int = 24_000_000,
        check: Callable[[str], None] | None = None,
        rules: Sequence[type[ASTValidationRule]] = (),
        max_tokens: int | None = None,
        hide_suggestions: bool = False,
    ) -> None:
        self.schema, self.check, self.rules = schema, check, rules
        self.max_tokens, self.hide_suggestions = max_tokens, hide_suggestions
        self._valid = _Cache(max_count, max_bytes)
        self._invalid = _Cache(max(1, max_count // INVALID_SHARE), max(1, max_bytes // INVALID_SHARE))

    def __len__(self) -> int:
        return len(self._valid.entries) + len(self._invalid.entries)

    def get(self, text: str) -> Document:
        """The document of this text, prepared now when it is new. Never raises: see `Document.errors`."""
        document = self._valid.get(text) or self._invalid.get(text)
        if document is None:
            document = self._prepare(text)
            (self._invalid if document.errors else self._valid).add(document)
        return document

    def _prepare(self, text: str) -> Document:
        try:
            if self.check is not None:
                self.check(text)
            parser = DocumentParser(text, self.max_tokens)
            ast = parser.parse()
        except RequestError as error:
            return self._invalid_document(text, [error.with_traceback(None)])
        except GraphQLError as error:
            return self._invalid_document(text, [syntax_error(error, self.max_tokens)])
        errors: list[GraphQLError] = []
        if self.rules:
            errors = validate(self.schema, ast, self.rules, hide_suggestions=self.hide_suggestions)
        if not errors:
            errors = validate(self.schema, ast, RULES, MAX_ERRORS, hide_suggestions=self.hide_suggestions)
        if errors:
            return self._invalid_document(text, [coded(error, VALIDATION_FAILED) for error in errors])
        plans = min(MAX_PLANS, 2 ** len(parser.conditions))
        size = TREE + PLAN * plans + NODE * parser.nodes * (1 + plans)
        return Document(text, ast, [], getsizeof(text) + size)

    @staticmethod
    def _invalid_document(text: str, errors: list[GraphQLError]) -> Document:
        for error in errors:
            error.nodes = error.source = None  # its locations are known; the tree need not be kept for it
        return Document(text, None, errors, getsizeof(text) + ERROR * len(errors))
