"""Parsing of documents that are kept for long: without their tokens, and with a measure of what they take."""

from graphql import DirectiveNode, DocumentNode, Location, Token, VariableNode
from graphql.language.parser import Parser, nested_too_deeply_error

CONDITIONAL = ("skip", "include")


class DocumentParser(Parser):
    """graphql-core's parser. Afterwards, `nodes` is the number of nodes in the tree.

    `conditions` are the variables that decide over fields (`@skip` and `@include`).
    """

    def __init__(self, text: str, max_tokens: int | None) -> None:
        super().__init__(text, max_tokens=max_tokens)
        self.nodes = 0
        self.conditions: set[str] = set()

    def parse(self) -> DocumentNode:
        """The tree. Raises GraphQLSyntaxError."""
        try:
            return self.parse_document()
        except RecursionError:
            pass
        raise nested_too_deeply_error(self)

    def loc(self, start_token: Token) -> Location:
        """Where a node stands in the text. Tokens, which nobody looks at again, are two fifths of a tree's memory."""
        self.nodes += 1
        location = object.__new__(Location)
        location.start, location.source = start_token.start, self._lexer.source
        location.end = self._lexer.last_token.end
        return location

    def parse_directive(self, is_const: bool) -> DirectiveNode:
        directive = super().parse_directive(is_const)
        if directive.name.value in CONDITIONAL:
            values = [argument.value for argument in directive.arguments or ()]
            self.conditions.update(value.name.value for value in values if isinstance(value, VariableNode))
        return directive
