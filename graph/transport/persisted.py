"""Persisted documents: operations that clients send by an identifier instead of the text.

Three ways, which work together:

- trusted documents: a manifest, made when the clients are built, names every text that may be executed;
- `documentId` (GraphQL over HTTP, appendix "Persisted Documents"): `sha256:` and the hash, or an id of the manifest;
- automatic persisted queries as Apollo's clients do them (`extensions.persistedQuery`): the client sends the hash, and
  the text with it once the server has said that it does not know it.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    Visitor,
    parse,
    print_ast,
    validate,
    visit,
)

from graph.execution.errors import RequestError
from graph.transport.parameters import Parameters, bad_request

NOT_FOUND = "PERSISTED_QUERY_NOT_FOUND"
NOT_SUPPORTED = "PERSISTED_QUERY_NOT_SUPPORTED"
NOT_TRUSTED = "DOCUMENT_NOT_TRUSTED"

APOLLO_FORMAT = "apollo-persisted-query-manifest"
HASH = re.compile(r"[0-9a-f]{64}")
PREFIX = "sha256:"


class ManifestError(ValueError):
    """A manifest, or a file it is made of, is wrong; the message is one line and names the file."""


class PersistedDocuments:
    """Finds the text that a request means.

    `manifest` maps identifiers to texts. With `trusted_only` nothing else is executed, whether sent by identifier or as
    text. Otherwise clients may add documents (`automatic`), of which the `max_count` used last are kept, as long as
    their texts have no more than `max_bytes` together.
    """

    def __init__(
        self,
        manifest: Mapping[str, str] | None = None,
        *,
        trusted_only: bool = False,
        automatic: bool = True,
        max_count: int = 1_000,
        max_bytes: int = 4_000_000,
    ) -> None:
        self.trusted_only, self.automatic = trusted_only, automatic and not trusted_only
        self.max_count, self.max_bytes, self._bytes = max_count, max_bytes, 0
        self._manifest = dict(manifest or {})
        for text in list(self._manifest.values()):
            self._manifest.setdefault(digest(text), text)
        self._texts = frozenset(self._manifest.values())
        self._added: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._added)

    def resolve(self, parameters: Parameters) -> tuple[str, str | None]:
        """The text of the document and its identifier, if it was sent with one. Raises RequestError.

        A text that a client adds is not kept yet: `add` keeps it, once it has proved to be valid.
        """
        text = parameters.query
        identifier = self._identifier(parameters)
        if identifier is None:
            if text is None:
                raise bad_request("The request has no `query`: send the text of an operation, or its `documentId`", 422)
            if self.trusted_only and text not in self._texts:
                raise _not_trusted()
            return text, None
        if not text:  # clients for WebSockets cannot leave it out
            text = None
        known = self._manifest.get(identifier)
        if known is None and not self.trusted_only:
            known = self._added.get(identifier)
        if text is None:
            if known is None:
                # The exact words that Apollo's clients look for before they send the text.
                raise RequestError("PersistedQueryNotFound", NOT_FOUND, status=400)
            if identifier in self._added:
                self._added.move_to_end(identifier)
            return known, identifier
        if text == known:
            return text, identifier
        if self.trusted_only:
            raise _not_trusted()
        if HASH.fullmatch(identifier) is None or digest(text) != identifier:
            raise bad_request("provided sha does not match query")
        return text, identifier

    def add(self, identifier: str, text: str) -> None:
        """Keep a valid text that came with its identifier."""
        if not self.automatic or identifier in self._manifest or identifier in self._added:
            return
        size = len(text)
        if size > self.max_bytes:
            return
        self._added[identifier] = text
        self._bytes += size
        while len(self._added) > self.max_count or self._bytes > self.max_bytes:
            _, dropped = self._added.popitem(last=False)
            self._bytes -= len(dropped)

    def _identifier(self, parameters: Parameters) -> str | None:
        """The identifier of the request: the bare hash for hashes, else what the client calls the document.

        Clients send what their build wrote into the manifest, in whichever of the two places they know, and some put
        `sha256:` before it in one but not in the other.
        """
        if (identifier := parameters.document_id) is not None:
            bare = identifier.removeprefix(PREFIX)
            if bare in self._manifest:
                return bare
            prefix, colon, payload = identifier.partition(":")
            if not colon:
                return identifier
            if prefix == "sha256":
                if HASH.fullmatch(payload) is None:
                    raise bad_request("The `documentId` must be `sha256:` and 64 hexadecimal digits in lower case")
                return payload
            if prefix.startswith("x-"):
                return identifier
            raise bad_request("The `documentId` has a prefix that is not supported: use `sha256:`")
        if not parameters.extensions or (extension := parameters.extensions.get("persistedQuery")) is None:
            return None
        if not isinstance(extension, dict) or type(version := extension.get("version")) is not int:
            raise bad_request("`extensions.persistedQuery` must be an object with `version` and `sha256Hash`", 422)
        if version != 1:
            raise bad_request("Unsupported persisted query version")
        sent = extension.get("sha256Hash")
        bare = sent.removeprefix(PREFIX) if isinstance(sent, str) else ""
        if bare in self._manifest or (bare and self.trusted_only):  # a manifest may have hashes of another kind
            return bare
        if HASH.fullmatch(bare) is None:
            raise bad_request("`extensions.persistedQuery.sha256Hash` must be 64 hexadecimal digits in lower case", 422)
        if not self.automatic and not self._manifest:
            raise RequestError("PersistedQueryNotSupported", NOT_SUPPORTED, status=400)
        return bare


def _not_trusted() -> RequestError:
    return RequestError("Only the documents of this server's manifest are executed", NOT_TRUSTED, status=403)


def digest(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return sha256(text.encode()).hexdigest()


def load_manifest(path: Path) -> dict[str, str]:
    """The identifiers and texts of a manifest file. Raises ManifestError.

    Read are `{"identifier": "text", ...}`, as graphql-codegen's client preset writes it, and the manifests of Apollo.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ManifestError(f"{path} is not JSON: {error}") from None
    if isinstance(value, dict) and value.get("format") == APOLLO_FORMAT:
        operations = value.get("operations")
        if value.get("version") != 1 or not isinstance(operations, list):
            raise ManifestError(f"{path}: is not version 1 of Apollo's format")
        try:
            value = {operation["id"]: operation["body"] for operation in operations}
        except (TypeError, KeyError):
            raise ManifestError(f"{path}: an operation has no `id` or no `body`") from None
    if not isinstance(value, dict):
        raise ManifestError(f"{path}: must be a JSON object of identifiers and texts")
    documents: dict[str, str] = {}
    for identifier, text in value.items():
        if not isinstance(identifier, str) or not isinstance(text, str):
            raise ManifestError(f"{path}: identifiers and texts must be strings")
        try:
            parse(text)
        except GraphQLError as error:
            raise ManifestError(f"{path}: {identifier}: {error.message}") from None
        documents[identifier.removeprefix(PREFIX)] = text
    return documents


def build_manifest(folder: Path, schema: GraphQLSchema | None = None) -> dict[str, Any]:
    """A manifest, in Apollo's format, of the operations in the `.graphql` and `.gql` files below a folder.

    Each operation becomes a document of its own with the fragments that it needs, from whichever file. Its `id` is the
    SHA-256 of its `body`, which is what clients must send. With a `schema` every document is validated. Raises
    ManifestError, also for two operations or two fragments of one name.
    """
    operations: dict[str, tuple[OperationDefinitionNode, Path]] = {}
    fragments: dict[str, tuple[FragmentDefinitionNode, Path]] = {}
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".graphql", ".gql"))
    for path in files:
        try:
            document = parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror}") from None
        except (GraphQLError, ValueError) as error:
            raise ManifestError(f"{path}: {getattr(error, 'message', error)}") from None
        for node in document.definitions:
            if isinstance(node, OperationDefinitionNode):
                if node.name is None:
                    raise ManifestError(f"{path}: every operation needs a name")
                _keep(operations, node.name.value, node, path)
            elif isinstance(node, FragmentDefinitionNode):
                _keep(fragments, node.name.value, node, path)
    entries = []
    for name in sorted(operations):
        node, path = operations[name]
        document = _with_fragments(node, path, fragments)
        if schema is not None and (errors := validate(schema, document)):
            raise ManifestError(f"{path}: {name}: {errors[0].message}")
        body = print_ast(document)
        entries.append({"id": digest(body), "name": name, "type": node.operation.value, "body": body})
    return {"format": APOLLO_FORMAT, "version": 1, "operations": entries}


def _keep(known: dict[str, Any], name: str, node: Any, path: Path) -> None:
    if name in known:
        raise ManifestError(f"{path}: '{name}' is also defined in {known[name][1]}")
    known[name] = node, path


def _with_fragments(
    operation: OperationDefinitionNode, path: Path, fragments: Mapping[str, tuple[FragmentDefinitionNode, Path]]
) -> DocumentNode:
    needed: dict[str, FragmentDefinitionNode] = {}
    pending = list(_spreads(operation))
    while pending:
        name = pending.pop()
        if name in needed:
            continue
        if name not in fragments:
            raise ManifestError(f"{path}: the fragment '{name}' is not defined")
        needed[name] = fragments[name][0]
        pending += _spreads(needed[name])
    return DocumentNode(definitions=(operation, *(needed[name] for name in sorted(needed))))


def _spreads(node: OperationDefinitionNode | FragmentDefinitionNode) -> Iterable[str]:
    names: list[str] = []

    class Spreads(Visitor):
        def enter_fragment_spread(self, node: FragmentSpreadNode, *_args: Any) -> None:
            names.append(node.name.value)

    visit(node, Spreads())
    return names
