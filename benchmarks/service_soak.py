"""Mixed load on the service for a while: does its memory stay flat, and does it answer everything?

    python benchmarks/service_soak.py [--minutes 10]

Clients ask for plans that are new and plans that are kept, batches and exports; send bodies that are malformed, refused
or too large; and go away in the middle. Memory is sampled all along. The first third is warm-up (the plan cache
fills); after it, resident memory may grow by no more than 5 %.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import socket
import threading
import time
from collections.abc import Callable

import httpx
from service import Process, config, service

CLIENTS = 4
ALLOWED_GROWTH = 1.05
JSON = {"Content-Type": "application/json"}


def new_plan(client: httpx.Client, dice: random.Random) -> int:
    body = {"config": {**config(dice.randint(1, 126)), "vocab_size": dice.randint(1, 10**6)}}
    return client.post("/v1/plans", json=body).status_code


def kept_plan(client: httpx.Client, dice: random.Random) -> int:
    return client.post("/v1/plans", json={"config": config(dice.choice((32, 80, 126)))}).status_code


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
    return client.post("/v1/plans", content=bytes(dice.randint(3_000_000, 6_000_000)), headers=JSON).status_code


def gone(client: httpx.Client, _: random.Random) -> int:
    """Leave in the middle of a body."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as connection:
        head = b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{"
        connection.sendall(head)
    return 0


MIX: dict[Callable[[httpx.Client, random.Random], int], tuple[int, int]] = {
    new_plan: (40, 200),
    kept_plan: (30, 200),
    export: (5, 200),
    malformed: (8, 400),
    refused: (10, 422),
    batch: (3, 200),
    too_large: (2, 413),
    gone: (2, 0),
}
"""What is asked -> its weight in the mix, and the status it must get."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    seconds = parser.parse_args().minutes * 60
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    with service(plan_cache_bytes=8 * 2**20, log_level="warning") as process:
        end = time.monotonic() + seconds

        def work(seed: int) -> None:
            dice = random.Random(seed)
            with httpx.Client(base_url=process.url, timeout=60) as client:
                while time.monotonic() < end:
                    ask = dice.choices([*MIX], [weight for weight, _ in MIX.values()])[0]
                    status = ask(client, dice)
                    counts[ask.__name__] += 1
                    if status != MIX[ask][1]:
                        wrong.append(f"{ask.__name__}: {status}")

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        samples = watch(process, seconds)
        for thread in threads:
            thread.join()
        ready = httpx.get(process.url + "/readyz").status_code
    settled = samples[len(samples) // 3]
    print(f"{sum(counts.values())} requests in {seconds / 60:g} minutes: " + json.dumps(counts))
    print(
        "resident MiB at each tenth: " + ", ".join(f"{samples[len(samples) * i // 10] / 2**20:.1f}" for i in range(10))
    )
    print(f"after warm-up {settled / 2**20:.1f} MiB, at the end {samples[-1] / 2**20:.1f} MiB; ready: {ready == 200}")
    if wrong or ready != 200 or samples[-1] > settled * ALLOWED_GROWTH:
        raise SystemExit(f"failed; unexpected answers: {collections.Counter(wrong)}")


def watch(process: Process, seconds: float) -> list[int]:
    """Resident bytes, sixty samples over the time."""
    samples = []
    for _ in range(60):
        time.sleep(seconds / 60)
        samples.append(process.memory())
    return samples


if __name__ == "__main__":
    main()
