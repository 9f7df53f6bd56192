"""What the commands do. Each takes its parsed arguments and returns an exit code, None being 0.

A module each for what belongs together, so that a command loads no more than it needs.
"""


def expected() -> tuple[type[Exception], ...]:
    """Errors for the person at the terminal: the text of each is one line without secrets."""
    from graph.server.database import CommandFailed
    from persistence.connections.engine import DatabaseUnreachable
    from persistence.embedded.server import EmbeddedError
    from persistence.migrations import MigrationError
    from persistence.rules.errors import DomainError
    from persistence.settings import SettingsError

    return CommandFailed, EmbeddedError, DatabaseUnreachable, MigrationError, SettingsError, DomainError
