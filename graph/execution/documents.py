"""Prepared documents: each text is parsed and validated once, however often it is sent.

Documents (bounded cache) -> Document (one text) -> Operation (one definition, with room for compiled plans)
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
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
    parse,
    specified_rules,
    validate,
)
from graphql.execution.collect_fields import FragmentDetails
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from graph.execution.errors import OPERATION_RESOLUTION_FAILURE, VALIDATION_FAILED, RequestError, coded, syntax_error

RULES: tuple[type[ASTValidationRule], ...] = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)

# Invalid documents are kept for a client that repeats its mistake; a flood of them must cost little memory.
INVALID_SHARE = 8


class Operation:
    """One operation of a valid document.

    `memo` is for what is derived from the operation once (compiled plans, cost plans, lookahead); it lives as long
    as the document is cached. Whoever writes to it keeps it bounded.
    """

    __slots__ = (
        "definition",
        "document",
        "fragment_details",
        "fragments",
        "kind",
        "kind_name",
        "memo",
        "name",
        "variables",
    )

    def __init__(self, definition: OperationDefinitionNode, document: "Document") -> None:
        self.definition, self.document = definition, document
        self.kind: OperationType = definition.operation
        self.kind_name: str = definition.operation.value
        self.name: str | None = definition.name.value if definition.name else None
        self.fragments: dict[str, FragmentDefinitionNode] = document.fragments
        self.fragment_details: dict[str, FragmentDetails] = document.fragment_details
        self.variables: Sequence[VariableDefinitionNode] = definition.variable_definitions or ()
        self.memo: dict[Any, Any] = {}


class Document:
    """One text, parsed and validated. With `errors` it has no operations; each error carries `extensions.code`."""

    __slots__ = ("ast", "errors", "fragment_details", "fragments", "memo", "operations", "text")

    def __init__(self, text: str, ast: DocumentNode | None, errors: list[GraphQLError]) -> None:
        self.text, self.ast, self.errors = text, ast, errors
        self.memo: dict[Any, Any] = {}
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
    """Documents by text, the least recently used ones dropped first."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self.max_count, self.max_bytes, self.bytes = max_count, max_bytes, 0
        self.entries: OrderedDict[str, tuple[Document, int]] = OrderedDict()

    def get(self, text: str) -> Document | None:
        entry = self.entries.get(text)
        if entry is None:
            return None
        self.entries.move_to_end(text)
        return entry[0]

    def add(self, document: Document) -> None:
        size = len(document.text.encode("utf-8", "surrogatepass"))
        if size > self.max_bytes:
            return
        self.entries[document.text] = document, size
        self.bytes += size
        while len(self.entries) > self.max_count or self.bytes > self.max_bytes:
            _, (_, dropped) = self.entries.popitem(last=False)
            self.bytes -= dropped


class Documents:
    """The prepared documents of one schema.

    `check` sees each new text before it is parsed and raises RequestError to refuse it. `rules` run before the rules
    of the specification and, when one of them objects, instead of them: a document that is too large is not worth
    validating. `max_bytes` counts the texts; trees and plans take some 50 times as much.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        *,
        max_count: int = 1000,
        max_bytes: int = 4_000_000,
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
            ast = parse(text, max_tokens=self.max_tokens)
        except RequestError as error:
            return Document(text, None, [error.with_traceback(None)])
        except GraphQLError as error:
            return Document(text, None, [syntax_error(error, self.max_tokens)])
        errors: list[GraphQLError] = []
        if self.rules:
            errors = validate(self.schema, ast, self.rules, hide_suggestions=self.hide_suggestions)
        if not errors:
            errors = validate(self.schema, ast, RULES, hide_suggestions=self.hide_suggestions)
        return Document(text, None if errors else ast, [coded(error, VALIDATION_FAILED) for error in errors])
