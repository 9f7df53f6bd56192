"""The tables. What is imported here is there for others."""

from persistence.models.base import Base
from persistence.models.changes import Action, Change
from persistence.models.entities import Entity
from persistence.models.operations import ClosedAccount, IdempotencyKey, RateBudget, SignInAttempts
from persistence.models.tasks import Task, TaskPriority, TaskStatus
from persistence.models.tokens import Scope, Token, TokenKind
from persistence.models.users import Role, User
