"""Who may ask, and how often: bearer keys from a file, and a rate limit per key or address."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final

import structlog
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.types import Scope

from .errors import InvalidSettings, RateLimited, Unauthorized
from .settings import Settings

log = structlog.get_logger()

NAME: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
KEY_LINE: Final = re.compile(rf"(?P<name>{NAME.pattern})\s+(?P<digest>[0-9a-f]{{64}})", re.ASCII)
MAX_KEY_FILE_BYTES: Final = 2**20
RELOAD_SECONDS: Final = 1.0
MAX_COUNTS: Final = 2**15
"""Kept at a time; a caller has up to two, of this window of time and the one before. Where there are more, all requests
are counted anew: whoever has so many addresses is not held up by a rate per address, and must not fill the memory."""


class Keyring:
    """The keys of a file: one `NAME SHA256` a line, the digest of the key in hexadecimal; # starts a comment.

    Keys are long random strings (see `new_key`), so a plain digest cannot be guessed back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._signature()
        self._keys = self._read()
        self._problem = ""

    def name_of(self, key: bytes) -> str | None:
        """The name of a key, or None. Every digest is compared, in constant time, so that timing tells nothing."""
        digest = hashlib.sha256(key).digest()
        found = None
        for name, known in self._keys:
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def reload(self) -> None:
        """Read the file again if it has changed. A file that cannot be used leaves the keys as they are, and is logged
        once for as long as the reason is the same.
        """
        try:
            signature = self._signature()
            if signature != self._seen:
                self._seen = signature
                self._keys = self._read()
                log.info("keys reloaded", count=len(self._keys))
            self._problem = ""
        except InvalidSettings as error:
            if error.message != self._problem:
                self._problem = error.message
                log.error("keys not reloaded", reason=error.message)

    def _signature(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise InvalidSettings(f"the key file {self._path} cannot be read: {error.strerror}") from None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> tuple[tuple[str, bytes], ...]:
        try:
            with self._path.open(encoding="utf-8") as file:
                lines = file.read(MAX_KEY_FILE_BYTES).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSettings(f"the key file {self._path} cannot be read: {error}") from None
        keys = []
        for number, line in enumerate(lines, 1):
            entry = line.partition("#")[0].strip()
            if entry:
                match = KEY_LINE.fullmatch(entry)
                if match is None:
                    raise InvalidSettings(f"{self._path}, line {number}: expected a name and a SHA-256 in hexadecimal")
                keys.append((match["name"], bytes.fromhex(match["digest"])))
        if not keys:
            raise InvalidSettings(f"the key file {self._path} holds no key")
        return tuple(keys)


def new_key(name: str) -> tuple[str, str]:
    """A fresh key, and its line for the key file. Raises InvalidSettings."""
    if not NAME.fullmatch(name):
        raise InvalidSettings(f"the name of a key is {name[:80]!r}; expected 1 to 64 of letters, digits, '-', '_', '.'")
    key = secrets.token_urlsafe(32)
    return key, f"{name} {hashlib.sha256(key.encode()).hexdigest()}"


def network(scope: Scope) -> str:
    """Where a request comes from: an IPv4 address, or the 64 bits of an IPv6 address that a network has for itself;
    "unknown" for a socket without addresses and for what a proxy says that is no address."""
    try:
        address = ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or address.packed[:8].hex())
    return str(address)


class Access:
    """Admits requests. Without a key file everyone may ask; without a rate limit, as often as they like."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keyring(settings.keys_file) if settings.keys_file else None
        self._rate = parse(settings.rate_limit) if settings.rate_limit else None
        self._counted = MemoryStorage()

    def admit(self, scope: Scope) -> None:
        """Raises Unauthorized, RateLimited. The key's name goes into the log line of the request."""
        name = None
        if self._keys is not None:
            name = scope["state"]["key"] = self._key_name(scope, self._keys)
        if self._rate is not None:
            self._count(self._rate, name or network(scope))

    def _count(self, rate: RateLimitItem, caller: str) -> None:
        if len(self._counted.storage) >= MAX_COUNTS:
            self._counted = MemoryStorage()
        limiter = SlidingWindowCounterRateLimiter(self._counted)
        if not limiter.hit(rate, caller):
            reset = limiter.get_window_stats(rate, caller).reset_time
            raise RateLimited(f"more requests than {rate}", seconds=reset - time.time())

    def _key_name(self, scope: Scope, keys: Keyring) -> str:
        scheme, _, key = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        name = keys.name_of(key.strip()) if scheme.lower() == b"bearer" else None
        if name is None:
            raise Unauthorized("the request has no bearer key, or one that is not known")
        return name

    async def keep_reloading(self) -> None:
        """Changes of the key file take effect within a second or two, without a signal or restart."""
        while self._keys is not None:
            await asyncio.sleep(RELOAD_SECONDS)
            self._keys.reload()
