"""API keys: who may ask, and as what.

A key is 256 random bits, so that its SHA-256 can be stored without giving anything away: there is
nothing to guess, which is what slow hashes are for. Stored is a line a key, as `nextword keys new`
prints it::

    NAME:ROLE:sha256:DIGEST        # phone:user:sha256:5f70bf18a086007016e9…

A name may stand twice, so that a new key works before the old one is taken out.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from starlette.requests import Request

from app.errors import ForbiddenError, UnauthorizedError
from app.settings import Settings
from models.errors import NextwordError

Role = Literal["user", "admin"]

_PREFIX = "nw_"  # so that a key which has leaked is found by those who search for such things
_LONGEST = 256  # bytes of a key that is worth hashing
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE = re.compile(rf"({_NAME.pattern}):(user|admin):sha256:([0-9a-f]{{64}})")


class KeysError(NextwordError):
    """Keys that are configured in a way that cannot be used; the message never quotes them."""


@dataclass(frozen=True)
class Key:
    """One key, as it is stored.

    Attributes:
        name: Whose it is; of `[A-Za-z0-9._-]`, at most 64 characters.
        role: `admin` may also ask for what changes the service.
        digest: SHA-256 of the key, 32 bytes.
    """

    name: str
    role: Role
    digest: bytes

    def line(self) -> str:
        """Return the line to store."""
        return f"{self.name}:{self.role}:sha256:{self.digest.hex()}"


class Keyring:
    """All keys; false where there are none."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        """Hold these keys."""
        self._keys = tuple(keys)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._keys)

    def find(self, presented: bytes) -> Key | None:
        """Return the key that was presented; all are compared, each in constant time."""
        digest = hashlib.sha256(presented[:_LONGEST]).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found if len(presented) <= _LONGEST else None


def new_key(name: str, role: str = "user") -> tuple[str, Key]:
    """Return a fresh key, and what is stored of it.

    Raises:
        KeysError: The name or the role cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise KeysError("name: must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    if role not in get_args(Role):
        raise KeysError(f"role: must be one of {', '.join(get_args(Role))}")
    key = _PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).digest()
    return key, Key(name, "admin" if role == "admin" else "user", digest)


def load_keys(settings: Settings) -> Keyring:
    """Return the configured keys, of the environment and of the file.

    Raises:
        KeysError: A line is none, or what is configured cannot be read or holds no key: to serve
            everybody would not be what was meant.
    """
    keys: list[Key] = []
    if settings.api_keys:
        entries = settings.api_keys.replace(",", "\n").split()
        keys += _some_keys(entries, "NEXTWORD_API_KEYS")
    if (path := settings.api_keys_file) is not None:
        keys += _some_keys(_lines(path), str(path))
    if len({key.digest for key in keys}) < len(keys):
        raise KeysError("the same key is configured twice")
    return Keyring(keys)


def parse_keys(lines: Sequence[str], source: str) -> list[Key]:
    """Return the keys of these lines; empty ones and those that begin with # say nothing.

    Raises:
        KeysError: A line is none; names the ``source`` and the line's number, from 1.
    """
    keys: list[Key] = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            message = "is not NAME:ROLE:sha256:DIGEST, as `nextword keys new NAME` prints it"
            raise KeysError(f"{source}: entry {number} {message}")
        name, role, digest = match.groups()
        keys.append(Key(name, "admin" if role == "admin" else "user", bytes.fromhex(digest)))
    return keys


def require_admin(request: Request) -> None:
    """Let a request go on only with a key of the role admin; without any keys, nobody's does.

    Raises:
        ForbiddenError: It has another key, or none is configured.
    """
    key = request.scope.get("state", {}).get("key")
    if not isinstance(key, Key) or key.role != "admin":
        raise ForbiddenError("This needs an API key with the role admin.")


def authenticate(keyring: Keyring, authorization: bytes | None, api_key: bytes | None) -> Key:
    """Return the key of a request.

    Args:
        keyring: All keys.
        authorization: Value of the header Authorization; a scheme other than Bearer is a proxy's.
        api_key: Value of the header X-API-Key.

    Raises:
        UnauthorizedError: There is no key, or one that is not known.
    """
    presented = api_key
    if authorization is not None:
        scheme, _, credentials = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            presented = credentials.strip()
    if not presented:
        raise UnauthorizedError(
            "An API key is needed, as Authorization: Bearer KEY or X-API-Key: KEY.",
            challenge='Bearer realm="nextword"',
        )
    key = keyring.find(presented)
    if key is None:
        raise UnauthorizedError(
            "This API key is not known.",
            challenge='Bearer realm="nextword", error="invalid_token"',
        )
    return key


def _some_keys(lines: Sequence[str], source: str) -> list[Key]:
    keys = parse_keys(lines, source)
    if not keys:
        raise KeysError(f"{source}: holds no key; make one with: nextword keys new NAME")
    return keys


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise KeysError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise KeysError(f"{path}: is not UTF-8") from None
