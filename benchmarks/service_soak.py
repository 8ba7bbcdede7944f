"""Mixed load on the service for a while: does its memory stay flat, and does it answer everything?

    python benchmarks/service_soak.py [--minutes 10]

Clients ask two workers for plans that are new, kept or looked up in a catalog, for batches and exports; send bodies
that are malformed, refused or too large; and go away in the middle. The catalog's index is replaced twenty times, and
halfway through one worker is killed. Memory is sampled all along. The first third of a worker's life is warm-up (the
plan cache fills); after it, its resident memory may grow by no more than 5 %. Only requests that the killed worker had
in work may be lost.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from service import Process, config, resident, service

import fastewq
from fastewq.catalog.index import COLUMNS, write_index

CLIENTS = 4
MODELS = 20
SWAPS = 20
ALLOWED_GROWTH = 1.05
JSON = {"Content-Type": "application/json"}


def new_plan(client: httpx.Client, dice: random.Random) -> int:
    body = {"config": {**config(dice.randint(1, 126)), "vocab_size": dice.randint(1, 10**6)}}
    return client.post("/v1/plans", json=body).status_code


def kept_plan(client: httpx.Client, dice: random.Random) -> int:
    return client.post("/v1/plans", json={"config": config(dice.choice((32, 80, 126)))}).status_code


def looked_up(client: httpx.Client, dice: random.Random) -> int:
    return client.get(f"/v1/models/made/m{dice.randint(1, MODELS)}/plan").status_code


def batch(client: httpx.Client, dice: random.Random) -> int:
    requests = [{"config": config(dice.randint(1, 40))} for _ in range(20)] + [{"config": {}}]
    return client.post("/v1/plans/batch", json={"requests": requests}).status_code


def export(client: httpx.Client, dice: random.Random) -> int:
    body = {"config": config(32), "nearest": True}
    return client.post(f"/v1/exports/{dice.choice(('llama.cpp', 'mlx', 'torchao'))}", json=body).status_code


def malformed(client: httpx.Client, dice: random.Random) -> int:
    body = dice.choice((b"{", b"[" * 10_000, b"\xff", b'{"config": NaN', b"{}" * 1000))
    return client.post("/v1/plans", content=body, headers=JSON).status_code


def refused(client: httpx.Client, dice: random.Random) -> int:
    damaged = {**config(32), dice.choice(("hidden_size", "vocab_size")): dice.choice((-1, 10**12, "x", None, []))}
    return client.post("/v1/plans", json={"config": damaged}).status_code


def too_large(client: httpx.Client, dice: random.Random) -> int:
    return client.post("/v1/plans", content=bytes(dice.randint(5_000_000, 8_000_000)), headers=JSON).status_code


def gone(client: httpx.Client, _: random.Random) -> int:
    """Leave in the middle of a body."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as connection:
        head = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{"
        connection.sendall(head)
    return 0


MIX: dict[Callable[[httpx.Client, random.Random], int], tuple[int, int]] = {
    new_plan: (40, 200),
    kept_plan: (25, 200),
    looked_up: (5, 200),
    export: (5, 200),
    malformed: (8, 400),
    refused: (10, 422),
    batch: (3, 200),
    too_large: (2, 413),
    gone: (2, 0),
}
"""What is asked -> its weight in the mix, and the status it must get."""


def write_catalog(path: Path, revision: str) -> None:
    """An index of a few models, put in the place of the one before."""
    rows = []
    for number in range(1, MODELS + 1):
        found = config(number)
        made = fastewq.plan(found)
        known = {
            "id": f"made/m{number}",
            "revision": revision,
            "sequence": number,
            "config": json.dumps(found),
            "config_hash": f"hash of {number}",
            "model_type": made.model["model_type"],
            "parameters": made.model["parameters"],
            "raw_bytes": made.totals.raw_bytes,
            "predictor": made.predictor["version"],
        }
        rows.append({**dict.fromkeys([*COLUMNS, "headers"]), **known})
    write_index(path, rows, f"{made.predictor['version']} {revision}")


class Soak:
    """Clients of a service, and what they saw."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url, self.seconds = url, seconds
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.lost: list[str] = []
        self.memory: dict[int, list[int]] = {}

    def work(self, seed: int) -> None:
        dice, end = random.Random(seed), time.monotonic() + self.seconds
        while time.monotonic() < end:
            try:
                with httpx.Client(base_url=self.url, timeout=60) as client:
                    for _ in range(1000):  # then a new connection, which may be to the other worker
                        if time.monotonic() > end:
                            break
                        ask = dice.choices([*MIX], [weight for weight, _ in MIX.values()])[0]
                        status = ask(client, dice)
                        self.counts[ask.__name__] += 1
                        if status != MIX[ask][1]:
                            self.wrong.append(f"{ask.__name__}: {status}")
            except httpx.TransportError as error:
                self.lost.append(repr(error))

    def watch(self, process: Process, catalog: Path) -> None:
        """Sixty samples of resident bytes over the time; the index replaced now and then, a worker killed halfway."""
        for step in range(60):
            time.sleep(self.seconds / 60)
            if step % (60 // SWAPS) == 0:
                write_catalog(catalog, f"r{step}")
            workers = process.workers()
            for pid in workers:
                self.memory.setdefault(pid, []).append(resident(pid))
            if step == 30:
                os.kill(workers[0], signal.SIGKILL)

    def grown(self) -> list[float]:
        """Per worker, the last sample by the one after a third of its life."""
        return [samples[-1] / samples[len(samples) // 3] for samples in self.memory.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    seconds = parser.parse_args().minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        catalog = Path(folder) / "index.sqlite"
        write_catalog(catalog, "r")
        settings = {"plan_cache_bytes": 8 * 2**20, "log_level": "warning", "workers": 2, "catalog": catalog}
        with service(**settings) as process:
            soak = Soak(process.url, seconds)
            threads = [threading.Thread(target=soak.work, args=(seed,)) for seed in range(CLIENTS)]
            for thread in threads:
                thread.start()
            soak.watch(process, catalog)
            for thread in threads:
                thread.join()
            ready = httpx.get(process.url + "/readyz").status_code == 200
    print(f"{sum(soak.counts.values())} requests in {seconds / 60:g} minutes: " + json.dumps(soak.counts))
    for samples in soak.memory.values():
        tenths = ", ".join(f"{samples[len(samples) * i // 10] / 2**20:.1f}" for i in range(10))
        print(f"worker, {len(samples)} samples, MiB at each tenth: {tenths}; at the end {samples[-1] / 2**20:.1f}")
    print(f"index replaced {SWAPS} times; one worker killed, {len(soak.lost)} requests lost; ready at the end: {ready}")
    if soak.wrong or len(soak.lost) > CLIENTS or not ready or max(soak.grown()) > ALLOWED_GROWTH:
        raise SystemExit(f"failed; unexpected answers: {collections.Counter(soak.wrong)}; lost: {soak.lost[:10]}")


if __name__ == "__main__":
    main()
