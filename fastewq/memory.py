"""What a plan has to fit into: one memory or several devices, and what else than weights must fit there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any, Final, NamedTuple

from fastewq.errors import InvalidPolicy
from fastewq.placement import Run
from fastewq.shown import shown

UNITS: Final = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
MAX_BYTES: Final = 2**60
MAX_DEVICES: Final = 256
MAX_CONTEXT: Final = 2**31 - 1
MAX_BATCH: Final = 2**20
CACHE_BITS: Final = (4, 8, 16, 32)


def parse_bytes(value: int | str, field: str = "memory") -> int:
    """Bytes from a number or text such as `6GiB`, `80 GB`, `1.5TiB`. Raises InvalidPolicy, naming `field`."""
    count: float | None = None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,20}(?:\.\d{1,9})?)\s*([a-zA-Z]{0,3})\s*", value, re.ASCII)
        if match and match[2].lower() in UNITS:
            unit = UNITS[match[2].lower()]
            count = float(match[1]) * unit if "." in match[1] else int(match[1]) * unit
    elif isinstance(value, int) and not isinstance(value, bool):
        count = value
    if count is None or not 0 <= count <= MAX_BYTES:
        raise InvalidPolicy(f"{field} is {shown(value)}; expected bytes such as 6GiB, at most {MAX_BYTES}")
    return int(count)


class Memory(NamedTuple):
    """What must fit where.

    limit            bytes for weights, KV cache and reserve together; None for no limit
    devices          bytes of each device, in pipeline order; empty for one place of `limit` bytes
    context, batch   tokens per sequence and sequences whose KV cache must fit; context 0 leaves the cache out
    cache_bits       bits per element of the KV cache
    reserve          bytes kept free for the runtime, on every device
    """

    limit: int | None = None
    devices: tuple[int, ...] = ()
    context: int = 0
    batch: int = 1
    cache_bits: int = 16
    reserve: int = 0

    def capacities(self, more: int = 0) -> list[int]:
        """Bytes of each device for weights and KV cache, were all devices larger by `more`."""
        return [max(size + more - self.reserve, 0) for size in self.devices]

    @property
    def available(self) -> int | None:
        """Bytes for weights and KV cache together: the tighter of limit and devices, less the reserve."""
        bounds = []
        if self.limit is not None:
            bounds.append(self.limit - self.reserve * max(len(self.devices), 1))
        if self.devices:
            bounds.append(sum(self.capacities()))
        return min(bounds, default=None)


NOTHING: Final = Memory()


def read_memory(
    memory: int | str | None = None,
    devices: Sequence[int | str] = (),
    context: int = 0,
    batch: int = 1,
    cache_bits: int = 16,
    reserve: int | str = 0,
) -> Memory | None:
    """A checked `Memory`, or None where nothing was asked for. Raises InvalidPolicy, naming the field."""
    # The most frequent case. What only equals a default, such as False, goes on to the checks.
    if all(map(is_, (memory, devices, context, batch, cache_bits, reserve), NOTHING)):
        return None
    if isinstance(devices, str) or not isinstance(devices, Sequence) or len(devices) > MAX_DEVICES:
        raise InvalidPolicy(f"devices is {shown(devices)}; expected a list of at most {MAX_DEVICES} memory sizes")
    _check_integer("context", context, 0, MAX_CONTEXT)
    _check_integer("batch", batch, 1, MAX_BATCH)
    if type(cache_bits) is not int or cache_bits not in CACHE_BITS:
        raise InvalidPolicy(f"cache_bits is {shown(cache_bits)}; expected one of {', '.join(map(str, CACHE_BITS))}")
    found = Memory(
        limit=None if memory is None else parse_bytes(memory),
        devices=tuple(parse_bytes(size, f"devices[{i}]") for i, size in enumerate(devices)),
        context=context,
        batch=batch,
        cache_bits=cache_bits,
        reserve=parse_bytes(reserve, "reserve"),
    )
    return None if found == NOTHING else found


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidPolicy(f"{name} is {shown(value)}; expected an integer from {low} to {high}")


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """How a plan uses the memory; all sizes in bytes.

    free       what is left of the available bytes, of which a tied embedding at both ends takes its part twice; None
               without a limit
    optimal    whether the plan is proven to be the one of least damage (see `fastewq.budget`); None without a limit
    runs       the blocks of each device in use, numbered over all stacks in execution order; empty without devices
    """

    request: Memory
    weights: int
    kv_cache: int
    free: int | None
    optimal: bool | None
    runs: tuple[Run, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        asked = self.request
        document: dict[str, Any] = {
            "limit": asked.limit,
            "context": asked.context,
            "batch": asked.batch,
            "cache_bits": asked.cache_bits,
            "reserve": asked.reserve,
            "weights": self.weights,
            "kv_cache": self.kv_cache,
            "free": self.free,
            "optimal": self.optimal,
        }
        if asked.devices:
            placed = {run.device: run for run in self.runs}
            document["crossings"] = len(self.runs) - 1
            document["devices"] = [
                {
                    "capacity": size,
                    "first_block": placed[i].start if i in placed else None,
                    "blocks": placed[i].end - placed[i].start if i in placed else 0,
                    "bytes": placed[i].bytes if i in placed else 0,
                }
                for i, size in enumerate(asked.devices)
            ]
        return document
