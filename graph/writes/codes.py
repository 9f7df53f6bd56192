"""What the codes of errors mean, for those who write programs against them."""

from enum import StrEnum
from typing import TYPE_CHECKING, get_args

from graph.types.enums import described
from persistence.rules.errors import Code

MEANINGS: dict[Code, str] = {
    "CONFLICT": "Another conflict with what is there.",
    "EMAIL_TAKEN": "There is an account with this address.",
    "FORBIDDEN": "Sign-up is closed, it is a thing of somebody else, or the viewer is no longer an admin.",
    "IDEMPOTENCY_KEY_REUSED": "The key came before with another input or another mutation.",
    "ID_TAKEN": "Something has or had the id that the client chose; `current` shows it where the viewer may see it.",
    "INVALID": "Another rule of the store.",
    "INVALID_CHARACTER": "A character that cannot be stored: NUL, or half of a surrogate pair.",
    "INVALID_EMAIL": "This is no address.",
    "INVALID_ID": "The id that the client chose is no UUID.",
    "INVALID_KEY": "The idempotency key is shorter than 8 or longer than 255 characters.",
    "INVALID_TIME_ZONE": "This is no name of the IANA database.",
    "IN_TRASH": "It is in the trash: restore it first.",
    "LAST_ADMIN": "Nobody would be an admin any more.",
    "LIMIT_REACHED": "Another limit.",
    "NOT_FOUND": "There is none, or it is somebody else's.",
    "NOT_IN_FUTURE": "The moment is over already.",
    "NULL_NOT_ALLOWED": "Null is no value of this field: leave it out instead.",
    "OUTLIVES_TOKEN": "A token may not last longer than the token that makes it.",
    "PASSWORD_THROTTLED": "Too many wrong passwords: try again after `retryAfterSeconds`.",
    "SCOPE_NOT_HELD": "A token may not allow more than the token that makes it.",
    "SIGN_IN_THROTTLED": "Too many failures to sign in: try again after `retryAfterSeconds`.",
    "SIGN_UP_THROTTLED": "Too many accounts from this address: try again after `retryAfterSeconds`.",
    "STALE_VERSION": "`ifVersion` is not the current version; `currentVersion` and `current` say what is.",
    "TOO_FEW": "The list has too few items.",
    "TOO_LONG": "The text is too long.",
    "TOO_MANY": "The list has too many items.",
    "TOO_SHORT": "The text is too short, or empty.",
    "WRONG_CREDENTIALS": "The address or the password is wrong; which one is not told.",
    "WRONG_PASSWORD": "The viewer's own password, which must be given again, is wrong.",
}

if TYPE_CHECKING:
    UserErrorCode = str
else:  # its members are what may be raised, and each must have a meaning
    UserErrorCode = described(
        StrEnum("UserErrorCode", {code: code for code in get_args(Code)}),
        "What is wrong, for programs. Codes are never renamed; new ones may come.",
        MEANINGS,
    )
