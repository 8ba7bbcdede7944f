"""Load on the service, beside a bare FastAPI endpoint that parses and echoes the same body, in one run.

    apt-get install wrk
    python benchmarks/service.py [--seconds 5] [--rounds 3] [--json]

Each round drives the echo endpoint, the service without its plan cache, and the service with it, one after another with
the same bodies, a hundred different models in turn; so what else the machine does meets all three alike. The table has
the median round. Without the cache every plan is made anew, but what weighs a block of a shape that came before is
still known, as it is of the fine-tunes of a model; the row "new shapes" drives five thousand models in turn, more than
are remembered, at a service of its own, since they would push out what the other rows count on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ECHO = """
from typing import Any
from fastapi import FastAPI
app = FastAPI()
@app.post("/echo")
async def echo(body: dict[str, Any]) -> dict[str, Any]:
    return body
@app.get("/livez")
async def live() -> None: ...
"""
SIZES = {
    32: {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32},
    80: {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64},
    126: {"hidden_size": 16384, "intermediate_size": 53248, "num_attention_heads": 128},
}
"""Blocks -> the other sizes of Llama 3.1 with 8, 70 and 405 billion parameters."""
MODELS = 100
NEW_MODELS = 5000
CONNECTIONS = 8
LATENCY = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", re.MULTILINE)
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Load:
    """requests per second, latencies in milliseconds"""

    rate: float
    p50: float
    p99: float


def config(blocks: int) -> dict[str, Any]:
    sizes = SIZES.get(blocks, SIZES[80])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": blocks,
        **sizes,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"},
        "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009],
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.42.3",
        "use_cache": True,
    }


def models(blocks: int, count: int = MODELS) -> list[bytes]:
    """Bodies that each ask for another model of so many blocks."""
    found = config(blocks)
    sizes = [found["intermediate_size"] + 8 * number for number in range(count)]
    return [json.dumps({"config": {**found, "intermediate_size": size}}).encode() for size in sizes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


class Process:
    """A server on loopback that answers /livez; `cold_start` is the time until it did, in seconds."""

    def __init__(self, command: list[str], url: str, environment: Mapping[str, str], cwd: Path) -> None:
        started = time.perf_counter()
        self.url = url
        self._process = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not self._answers():
            if self._process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {self._process.returncode}")
            time.sleep(0.01)
        self.cold_start = time.perf_counter() - started

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/livez", timeout=1):
                return True
        except OSError:
            return False

    def memory(self) -> int:
        return resident(self._process.pid)

    def workers(self) -> list[int]:
        """Process ids of the children that serve, where there are several; the tracker of resources is none of them."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
        return [int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text("utf-8")]

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()


@contextmanager
def service(**settings: object) -> Iterator[Process]:
    port = free_port()
    environment = {f"FASTEWQ_{name.upper()}": str(value) for name, value in {"drain_seconds": 0, **settings}.items()}
    command = [sys.executable, "-c", "from fastewq.cli import main; main()", "serve", "--port", str(port)]
    process = Process(command, f"http://127.0.0.1:{port}", environment, Path.cwd())
    try:
        yield process
    finally:
        process.end()


@contextmanager
def echo(folder: Path) -> Iterator[Process]:
    port = free_port()
    (folder / "echo_app.py").write_text(ECHO, "utf-8")
    command = [sys.executable, "-m", "uvicorn", "echo_app:app", "--port", str(port), "--no-access-log"]
    process = Process(command, f"http://127.0.0.1:{port}", {}, folder)
    try:
        yield process
    finally:
        process.end()


def drive(url: str, bodies: list[bytes], seconds: int, folder: Path, connections: int = CONNECTIONS) -> Load:
    """wrk's figures for POSTs of these bodies in turn. Any answer but a 2xx fails the benchmark."""
    for number, body in enumerate(bodies):
        (folder / f"{number}.json").write_bytes(body)
    script = folder / "post.lua"
    script.write_text(
        f"""
        local requests, sent = {{}}, 0
        init = function()
            local headers = {{["Content-Type"] = "application/json"}}
            for number = 0, {len(bodies) - 1} do
                local file = io.open("{folder}/" .. number .. ".json")
                requests[number] = wrk.format("POST", nil, headers, file:read("*a"))
                file:close()
            end
        end
        request = function()
            sent = sent + 1
            return requests[sent % {len(bodies)}]
        end
        """,
        "utf-8",
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    latency = {percent: float(value) * UNITS[unit] for percent, value, unit in LATENCY.findall(out)}
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
    return Load(rate, latency["50"], latency["99"])


def median(loads: list[Load]) -> Load:
    return Load(*(statistics.median(column) for column in zip(*(asdict(load).values() for load in loads), strict=True)))


def compare(seconds: int, rounds: int, folder: Path) -> dict[str, Any]:
    with ExitStack() as stack:
        bare = stack.enter_context(echo(folder))
        uncached = stack.enter_context(service(plan_cache_bytes=0))
        forgetful = stack.enter_context(service(plan_cache_bytes=0))
        cached = stack.enter_context(service())
        targets = {
            "echo": bare.url + "/echo",
            "uncached": uncached.url + "/v1/plans",
            "new shapes": forgetful.url + "/v1/plans",
            "cached": cached.url + "/v1/plans",
        }
        table = []
        for blocks in SIZES:
            bodies = {name: models(blocks, NEW_MODELS if name == "new shapes" else MODELS) for name in targets}
            loads: dict[str, list[Load]] = {name: [] for name in targets}
            for _ in range(rounds):
                for name, url in targets.items():
                    loads[name].append(drive(url, bodies[name], seconds, folder))
            table += [{"blocks": blocks, "target": name, **asdict(median(found))} for name, found in loads.items()]
        growth = [
            {"blocks": blocks, **asdict(drive(targets["uncached"], models(blocks), seconds, folder, connections=1))}
            for blocks in (1, 10, 100, 500)
        ]
        return {
            "load": table,
            "growth": growth,
            "cold_start_seconds": {"echo": bare.cold_start, "service": cached.cold_start},
            "resident_bytes": {"echo": bare.memory(), "uncached": uncached.memory(), "cached": cached.memory()},
        }


def show(result: dict[str, Any]) -> None:
    echo_rates = {row["blocks"]: row["rate"] for row in result["load"] if row["target"] == "echo"}
    print("| blocks | endpoint | requests/s | of echo | p50 ms | p99 ms | p99/p50 |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for row in result["load"]:
        share = row["rate"] / echo_rates[row["blocks"]]
        print(
            f"| {row['blocks']} | {row['target']} | {row['rate']:.0f} | {share:.2f} "
            f"| {row['p50']:.2f} | {row['p99']:.2f} | {row['p99'] / row['p50']:.1f} |"
        )
    print(
        "\nGrowth with the number of blocks: one connection, no cache\n"
        "\n| blocks | requests/s | p50 ms |\n|---:|---:|---:|"
    )
    for row in result["growth"]:
        print(f"| {row['blocks']} | {row['rate']:.0f} | {row['p50']:.2f} |")
    start, memory = result["cold_start_seconds"], result["resident_bytes"]
    print(f"\ncold start until /livez: service {start['service']:.2f} s, echo {start['echo']:.2f} s")
    print(
        "memory per worker after the run: "
        + ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in memory.items())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; on Debian: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        result = compare(arguments.seconds, arguments.rounds, Path(folder))
    print(json.dumps(result, indent=1)) if arguments.json else show(result)


if __name__ == "__main__":
    main()
