"""What keeps a database from serving, for those who have to mend it: one line in the log, and the health check."""

import logging
import time
from collections.abc import Mapping

from persistence.connections.failures import READ_ONLY, sqlstate

logger = logging.getLogger("taskstore.database")

FOR_SECONDS = 30.0
"""So long a trouble counts as going on after the last answer that told of it, and so often it is logged."""

TROUBLES: Mapping[str, str] = {
    "53100": "the database's disk is full",
    "53200": "the database has no memory left",
    "53300": "the database has no connection left",
    "53400": "the database has reached a limit of its configuration",
    "53": "the database lacks a resource",
    "58": "the database cannot read or write its files",
    READ_ONLY: "the database is read-only",
    "28": "the database does not accept the user or the password",
    "3D": "the database does not exist",
}
"""By SQLSTATE or its class (PostgreSQL documentation, appendix A)."""

LASTING = ("53100", "58")
"""What does not go away by itself."""


class Troubles:
    """The troubles of one database, as its answers tell them."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._logged: dict[str, float] = {}

    def note(self, error: BaseException) -> None:
        """Remember and log what an error says of the database. What is wrong with a statement is no trouble of it."""
        self.tell(sqlstate(error) or "")

    def tell(self, state: str) -> None:
        """The same by its SQLSTATE."""
        code = state if state in TROUBLES else state[:2]
        if code not in TROUBLES:
            return
        now = self._seen[code] = time.monotonic()
        if now - self._logged.get(code, float("-inf")) >= FOR_SECONDS:
            self._logged[code] = now
            logger.error("%s (SQLSTATE %s)", TROUBLES[code], state)

    @property
    def lasting(self) -> str | None:
        """What is wrong and will not go away by itself, as far as the last `FOR_SECONDS` tell."""
        now = time.monotonic()
        for code in LASTING:
            if now - self._seen.get(code, float("-inf")) < FOR_SECONDS:
                return TROUBLES[code]
        return None
