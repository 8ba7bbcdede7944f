"""A model's name -> its config: from a catalog's index, else from the Hub where a setting allows it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachetools import TTLCache

from fastewq.catalog.index import MAIN, Catalog, Page
from fastewq.errors import NotFound
from fastewq.jsonio import parse_config

from . import metrics
from .guard import hold
from .settings import Settings
from .threads import Threads

if TYPE_CHECKING:
    from fastewq.architecture import Architecture
    from fastewq.hub import ConfigText, Hub

INDEX_NAME: Final = "index.sqlite"
SEND_CONFIG: Final = "Send the model's config.json as 'config' in the body of a POST."
KEPT_BYTES: Final = 16 * 2**20
"""Of the texts of configs from the Hub that are kept: a config as Python holds it can take twenty times as much."""
KEPT_OVERHEAD: Final = 1024
"""Bytes of memory beside the text: names, commit, place in order."""
THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A config and the commit it belongs to; the blocks, where the catalog knows more of them than the config says.

    `warning` is set when it may not be the newest.
    """

    config: dict[str, Any]
    commit: str
    architecture: Architecture | None = None
    warning: str | None = None


def _memory(kept: ConfigText) -> int:
    return len(kept.text) + KEPT_OVERHEAD


class Lookup:
    """Configs and catalog entries, looked up in threads."""

    def __init__(self, settings: Settings) -> None:
        """Raises NotFound, StorageFailure, InvalidDataset where the catalog cannot be read."""
        self._catalog = _open_catalog(settings.catalog) if settings.catalog else None
        self._hub = _open_hub() if settings.hub else None
        self._kept: TTLCache[tuple[str, str], ConfigText] = TTLCache(
            KEPT_BYTES, settings.hub_cache_seconds, getsizeof=_memory
        )
        self._threads = Threads(THREADS, settings.lookup_seconds)

    async def config(self, model: str, revision: str | None) -> Found:
        """Raises NotFound, AccessDenied, HubUnavailable, InvalidConfig, OutOfTime, and what `hold` raises."""
        revision = revision or MAIN
        try:
            return await self._threads.run(self._from_catalog, model, revision)
        except NotFound as error:
            if self._hub is None:
                raise NotFound(error.message, hint=SEND_CONFIG) from None
        return await self._from_hub(self._hub, model, revision)

    def _from_catalog(self, model: str, revision: str) -> Found:
        if self._catalog is None:
            raise NotFound(f"{model} is not looked up: this service has no catalog and asks no Hub")
        metrics.show_index(self._catalog.version)
        entry = self._catalog.get(model, revision)
        config, architecture = self._catalog.model(entry)
        return Found(config, entry.revision, architecture)

    async def _from_hub(self, hub: Hub, model: str, revision: str) -> Found:
        key = (model, revision)
        found = self._kept.get(key)
        if found is None:
            found = await self._threads.run(hub.config_text, *key)
            hold(found.text)
            config = await self._threads.run(hub.parsed, *key, found)
            self._kept[key] = found
        else:
            hold(found.text)
            config = await self._threads.run(parse_config, found.text, found.name)
        return Found(config, found.commit, warning=found.warning)

    async def search(self, **conditions: Any) -> tuple[Page, str]:
        """A page of the catalog and the catalog's version. Raises NotFound, InputError, OutOfTime."""
        if self._catalog is None:
            raise NotFound("this service has no catalog", hint="`fastewq serve --catalog DIR` serves one.")
        page = await self._threads.run(partial(self._catalog.search, **conditions))
        return page, self._catalog.version


def _open_catalog(path: Path) -> Catalog:
    catalog = Catalog(path / INDEX_NAME if path.is_dir() else path)
    metrics.show_index(catalog.version)
    return catalog


def _open_hub() -> Hub:
    """Imported here, since a service that asks no Hub need not wait for the import of a network library."""
    from fastewq.hub import Hub, Patience

    # A client is waiting: better an error it can repeat than an answer it no longer wants.
    return Hub(patience=Patience(attempts=2, longest_wait=1.0))
