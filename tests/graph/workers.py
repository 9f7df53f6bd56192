"""Servers that remember tokens, each for itself, as the processes of `--workers 2` do."""

import json
from dataclasses import dataclass, replace
from typing import Any

from graph.request.context import Services
from tests.conftest import Api
from tests.graph.operations import DOCUMENTS, entered, http_scope


@dataclass
class Worker:
    """One server. It gets requests with a token, as the endpoint does."""

    api: Api
    services: Services

    async def run(self, secret: str | None, query: str, **variables: Any) -> Any:
        """The data and the codes of the errors of an operation."""
        document = self.api.engine.documents.get(query)
        assert not document.errors, document.errors
        async with entered(self.services, http_scope(secret)) as context:
            result = await self.api.engine.execute(document.operation(None), variables, context)
            data = json.loads(self.api.engine.encode(result)).get("data")
        return data, [(error.extensions or {}).get("code") for error in result.errors]

    async def write(self, secret: str | None, mutation: str, /, **given: Any) -> list[str]:
        """What is wrong with a mutation: the codes of its errors, on top or in the payload."""
        data, codes = await self.run(secret, DOCUMENTS[mutation], input=given)
        return codes or [error["code"] for error in data[mutation]["errors"]]


def workers(api: Api, count: int = 2) -> list[Worker]:
    """Servers on one store that believe a token for a minute."""
    settings = replace(api.services.settings, token_cache_seconds=60.0)
    return [Worker(api, replace(api.services, settings=settings, viewers={}, asking=set())) for _ in range(count)]
