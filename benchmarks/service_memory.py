"""The memory of one worker: under many requests that are all different, and under clients that want to fill it.

    python benchmarks/service_memory.py [--requests 200000]

First come small requests, no two alike, among them configs of quantized checkpoints and policies of their own: whatever
is remembered fills up to its bound, and after half of them memory must stay flat (5 %). Then, in the same process,
what holds most memory for the bytes or the time it costs a client, in turn and all at once; the highest resident
memory seen meanwhile must stay below LIMIT, which is what docs/deploy gives a worker.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from service import Process, config, service

CLIENTS = 4
FLAT = 1.05
LIMIT = 2**30
SECONDS = 20
"""That an attack goes on."""
HEAD = "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
DEEP = {"model_type": "llama", "num_hidden_layers": 512}


def different(number: int) -> bytes:
    """A request unlike all others."""
    asked: dict[str, object] = {"config": {**config(1 + number % 40), "vocab_size": 1000 + number}}
    kind = number % 10
    if kind == 0:
        quantization = {
            "quant_method": "fp8",
            "ignore": [f"model.layers.{number % 7}.mlp.a{number}", f"re:.*b{number}.*"],
        }
        asked = {"config": {**config(8), "quantization_config": quantization}}
    elif kind == 1:
        asked["policy"] = {
            "name": "8bit-mixed",
            "overrides": [[f"0-{number}", "int4"]],
            "threshold": number % 997 / 997,
        }
    elif kind == 2:
        asked["memory"] = 10**11 + number
    elif kind == 3:
        asked = {"config": {**config(2), "architectures": [f"A{number}ForCausalLM"], f"field{number}": "x" * 50}}
    elif kind == 4:
        asked = {"config": {"model_type": f"unheard_of_{number}"}}
    return json.dumps(asked).encode()


def ask(process: Process, numbers: range, statuses: collections.Counter[int]) -> None:
    host, port = process.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    for number in numbers:
        connection.request("POST", "/v1/plans", different(number), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        statuses[response.status] += 1


def ask_all(process: Process, count: int) -> list[int]:
    """Resident bytes at the start and after each tenth of the requests."""
    samples, statuses = [process.memory()], collections.Counter[int]()
    for tenth in range(10):
        start, stop = count * tenth // 10, count * (tenth + 1) // 10
        run([partial(ask, process, range(start + first, stop, CLIENTS), statuses) for first in range(CLIENTS)])
        samples.append(process.memory())
    print(f"{count} different requests, answers: {dict(statuses)}")
    return samples


def run(work: Sequence[Callable[[], None]], meanwhile: Callable[[], None] = lambda: None) -> None:
    """Everything at once, each in a thread; and something over and over until all have ended."""
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        meanwhile()
        time.sleep(0.02)


def bodies_that_never_end() -> Iterator[bytes]:
    size = 4 * 2**20
    for _ in range(250):
        yield HEAD.format("/v1/plans", size).encode() + b" " * (size - 1)


def bodies_that_wait_for_a_thread() -> Iterator[bytes]:
    overrides = json.dumps([["*_proj", "int4"]] * 256).encode()
    fat = b'{"a":[]},' * 320_000
    body = b'{"policy":{"overrides":%b},"config":{"model_type":"llama","num_hidden_layers":512,"a":[%b1]}}' % (
        overrides,
        fat,
    )
    for _ in range(40):
        yield HEAD.format("/v1/plans", len(body)).encode() + body


def answers_that_nobody_reads() -> Iterator[bytes]:
    for number in range(40):
        body = json.dumps(
            {"requests": [{"config": {**DEEP, "vocab_size": 1000 * number + i}} for i in range(400)]}
        ).encode()
        yield HEAD.format("/v1/plans/batch", len(body)).encode() + body


def batches_of_a_million_values() -> Iterator[bytes]:
    body = b'{"requests":[' + b'{"config":{"a":[]}},' * 900 + b'{"config":{"a":[%b1]}}]}' % (b'{"a":[]},' * 320_000)
    for _ in range(20):
        yield HEAD.format("/v1/plans/batch", len(body)).encode() + body


ATTACKS = (
    bodies_that_never_end,
    bodies_that_wait_for_a_thread,
    answers_that_nobody_reads,
    batches_of_a_million_values,
)


def send(process: Process, requests: Iterator[bytes], end: float) -> None:
    """Every request on a connection of its own, held until the end and not read."""
    host, port = process.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        for request in requests:
            with suppress(OSError):
                connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
                connection.sendall(request)
        time.sleep(max(0, end - time.monotonic()))


def highest(process: Process, attacks: tuple[Callable[[], Iterator[bytes]], ...]) -> int:
    """Resident bytes at the worst moment of attacks at once."""
    end = time.monotonic() + SECONDS
    samples: list[int] = []
    run([partial(send, process, attack(), end) for attack in attacks], lambda: samples.append(process.memory()))
    return max(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000)
    count = parser.parse_args().requests
    with service(log_level="error") as process:
        samples = ask_all(process, count)
        print("MiB after each tenth: " + ", ".join(f"{sample / 2**20:.0f}" for sample in samples))
        peaks = []
        for attacks in (*((attack,) for attack in ATTACKS), ATTACKS):
            peaks.append(highest(process, attacks))
            what = attacks[0].__name__.replace("_", " ") if len(attacks) == 1 else "all at once"
            print(f"{what}: at most {peaks[-1] / 2**20:.0f} MiB; a little later {process.memory() / 2**20:.0f} MiB")
        host, port = process.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        connection.request("GET", "/readyz")
        ready = connection.getresponse().status == 200
    if max(samples[6:]) > FLAT * samples[5] or max(peaks) > LIMIT or not ready:
        raise SystemExit(f"failed; ready at the end: {ready}")


if __name__ == "__main__":
    main()
