"""A model's name -> its config. The only part of the service that talks to the network, where a setting allows it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from anyio import CapacityLimiter, to_thread
from cachetools import TTLCache

from fastewq.errors import NotFound

from .errors import OutOfTime
from .settings import Settings

if TYPE_CHECKING:
    from fastewq.hub import Hub, HubConfig

DEFAULT_REVISION: Final = "main"
MAX_KEPT: Final = 1024
MAX_AT_ONCE: Final = 8


class Lookup:
    """Configs from the Hub, kept for a while. The Hub's address, cache and token are those of huggingface_hub."""

    def __init__(self, settings: Settings) -> None:
        self._hub = _open_hub() if settings.hub else None
        self._seconds = settings.hub_seconds
        self._kept: TTLCache[tuple[str, str], HubConfig] = TTLCache(MAX_KEPT, settings.hub_cache_seconds)
        self._turns = CapacityLimiter(MAX_AT_ONCE)

    async def config(self, model: str, revision: str | None) -> HubConfig:
        """Raises NotFound, AccessDenied, HubUnavailable, InvalidConfig, OutOfTime."""
        if self._hub is None:
            raise NotFound(
                f"{model} is not looked up: this service asks no Hub", hint="Send the model's config.json as 'config'."
            )
        key = (model, revision or DEFAULT_REVISION)
        if key not in self._kept:
            try:
                async with asyncio.timeout(self._seconds):
                    self._kept[key] = await to_thread.run_sync(
                        self._hub.config, *key, limiter=self._turns, abandon_on_cancel=True
                    )
            except TimeoutError:
                raise OutOfTime(f"the Hub took longer than {self._seconds:g} seconds") from None
        return self._kept[key]


def _open_hub() -> Hub:
    """Imported here, since a service that asks no Hub need not wait for the import of a network library."""
    from fastewq.hub import Hub, Patience

    # A client is waiting: better an error it can repeat than an answer it no longer wants.
    return Hub(patience=Patience(attempts=2, longest_wait=1.0))
