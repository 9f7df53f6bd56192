"""Who asks: the user behind a token, and what the token allows."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from uuid import UUID

from persistence.models import Role, Scope


@dataclass(frozen=True)
class Viewer:
    """A signed-in user. `scopes` are the token's; a right needs both the scope and, for ADMIN, the role."""

    id: UUID
    role: Role
    scopes: frozenset[str]
    token_id: UUID
    expires_at: datetime | None = field(default=None, compare=False)
    """When the token ends; None: never."""

    @cached_property
    def name(self) -> str:
        """The id as text, for logs and budgets: most requests come from a viewer who is known already."""
        return str(self.id)

    @property
    def may_write(self) -> bool:
        return Scope.WRITE in self.scopes

    @property
    def may_read(self) -> bool:
        return Scope.READ in self.scopes


OPERATOR = Viewer(UUID(int=0), Role.ADMIN, frozenset(Scope), UUID(int=0))
"""Who has the command line, and may do what an admin may. No user: the change log names nobody."""
