"""Weights streamed from a Hub give the very readings of the same files on disk, whatever goes wrong on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from analysis.making import write_raw_safetensors
from analysis.test_checkpoints import LYING_HEADERS
from safetensors.numpy import save_file

from fastewq import hub as hub_module
from fastewq.analysis import remote
from fastewq.analysis.checkpoints import open_checkpoint
from fastewq.analysis.remote import HubSource, open_hub_checkpoint
from fastewq.analysis.report import analyze_checkpoint
from fastewq.errors import AccessDenied, HubUnavailable, InvalidCheckpoint, NonFiniteWeights, NotFound
from fastewq.headers import HubFiles
from fastewq.hub import Hub, Patience
from hub.loopback import Fault


@pytest.fixture(scope="module")
def weights(loopback, tmp_path_factory):
    """Two shards, float16 and float32, about 3 MB; the same files in a folder and as a repository."""
    folder = tmp_path_factory.mktemp("weights")
    generator = np.random.default_rng(1)
    shards: dict[str, dict[str, np.ndarray]] = {
        "model-00001-of-00002.safetensors": {},
        "model-00002-of-00002.safetensors": {},
    }
    for index in range(6):
        part = list(shards.values())[index // 3]
        for name in ("self_attn.q_proj", "mlp.up_proj"):
            values = generator.normal(0, 0.02 * (index + 1), (300, 401))
            part[f"model.layers.{index}.{name}.weight"] = values.astype(np.float16 if index % 2 else np.float32)
    for file, tensors in shards.items():
        save_file(tensors, folder / file)
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    loopback.add("weights/good", {path.name: path.read_bytes() for path in folder.iterdir()})
    bad = np.zeros((4, 4), np.float32)
    bad[2, 2] = np.nan
    save_file({f"h.{i}.{n}": bad for i in range(2) for n in ("a", "b")}, folder.parent / "nan.safetensors")
    loopback.add("weights/nan", {"model.safetensors": (folder.parent / "nan.safetensors").read_bytes()})
    loopback.add("weights/cut", {"model.safetensors": (folder / "model-00001-of-00002.safetensors").read_bytes()[:-1]})
    return folder


@pytest.fixture
def hub(loopback, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "SEGMENT", 100_000)
    return Hub(endpoint=loopback.endpoint, cache=tmp_path / "cache", patience=Patience(attempts=8, longest_wait=1.0))


def blocks(checkpoint) -> list[dict]:
    return analyze_checkpoint(checkpoint, more_epsilons=[0.0]).as_dict()["stacks"]


@pytest.fixture(scope="module")
def local(weights):
    return blocks(open_checkpoint(weights))


def test_the_readings_are_those_of_the_local_files_and_nothing_is_stored(hub, weights, local, tmp_path):
    with open_hub_checkpoint(hub, "weights/good") as checkpoint:
        assert blocks(checkpoint) == local
        assert isinstance(checkpoint.source, HubSource)
        size = sum(path.stat().st_size for path in weights.glob("*.safetensors"))
        assert checkpoint.source.fetched == size
    assert list(tmp_path.iterdir()) == []


def test_a_range_of_no_bytes_is_empty_and_asks_nothing(hub, loopback):
    with open_hub_checkpoint(hub, "weights/good") as checkpoint, loopback.injecting():
        with checkpoint.source.read("model-00001-of-00002.safetensors", 7, 7) as values:
            assert values.size == 0
        assert loopback.requests == []


def test_random_faults_change_nothing(hub, loopback, local):
    faults = [
        Fault("status", path="cdn", probability=0.06, status=500),
        Fault("status", path="cdn", probability=0.06, status=429, headers={"Retry-After": "0"}),
        Fault("reset", path="cdn", probability=0.06),
        Fault("truncate", path="cdn", probability=0.06),
        Fault("wrong_range", path="cdn", probability=0.06),
    ]
    with loopback.injecting(*faults):
        for _ in range(20):  # requests in flight share the dice, so one reading may meet a kind less
            with open_hub_checkpoint(hub, "weights/good") as checkpoint:
                assert blocks(checkpoint) == local
            met = {request.fault for request in loopback.requests}
            if met >= {"status", "reset", "truncate"}:
                return
    raise AssertionError(f"only these faults were injected: {met}")


def test_several_requests_are_in_flight_and_no_more_than_allowed(hub, loopback):
    running = peak = 0
    lock, together = threading.Lock(), threading.Event()

    class Counting(HubFiles):
        def segment(self, file, start, stop):
            nonlocal running, peak
            with lock:
                running += 1
                peak = max(peak, running)
                if running > 1:
                    together.set()
            try:
                if start:  # the size of the file is known: a second request is on its way, perhaps late
                    together.wait(60)
                return super().segment(file, start, stop)
            finally:
                with lock:
                    running -= 1

    source = HubSource(Counting(hub, "weights/good"))
    try:
        for start in range(0, 1_000_000, 50_000):
            with source.read("model-00001-of-00002.safetensors", start, start + 50_000) as values:
                assert len(values) == 50_000
        assert 1 < peak <= remote.IN_FLIGHT
        assert len(source._segments) <= remote.KEPT
    finally:
        source._pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("weights/nan", NonFiniteWeights, r"model\.safetensors.*h\.0\.a"),
        ("weights/cut", InvalidCheckpoint, r"model\.safetensors"),
        ("weights/absent", NotFound, "no such repository"),
    ],
)
def test_corrupt_inputs_are_named(hub, name, error, words):
    with pytest.raises(error, match=words), open_hub_checkpoint(hub, name) as checkpoint:
        blocks(checkpoint)


@pytest.mark.parametrize("case", LYING_HEADERS)
def test_headers_that_lie_are_refused_as_on_disk(hub, loopback, tmp_path, case):
    header, data, message = LYING_HEADERS[case]
    write_raw_safetensors(tmp_path / "lie.safetensors", header, bytes(data))
    name = f"lies/{case.replace(' ', '-')}"
    loopback.add(name, {"lie.safetensors": (tmp_path / "lie.safetensors").read_bytes()})
    with pytest.raises(InvalidCheckpoint, match=rf"lie\.safetensors: .*{message}"), open_hub_checkpoint(hub, name):
        pass


LASTING = [
    (Fault("status", status=500), HubUnavailable, "answered 500"),
    (Fault("status", status=401), AccessDenied, "answered 401"),
    (Fault("status", status=404), NotFound, "answered 404"),
    (Fault("status", status=429, headers={"Retry-After": "600"}), HubUnavailable, "asks to wait 600 s"),
    (Fault("truncate"), HubUnavailable, "cannot be reached"),
    (Fault("stall"), HubUnavailable, "cannot be reached"),
    (Fault("ignore_range"), HubUnavailable, "does not support range requests|expected 206"),
]


@pytest.mark.parametrize(("fault", "error", "words"), LASTING, ids=[f"{f.kind}-{f.status}" for f, _, _ in LASTING])
def test_a_fault_that_stays_ends_the_run_with_its_name(loopback, hub, weights, monkeypatch, fault, error, words):
    if fault.kind == "stall":
        monkeypatch.setattr(hub_module, "READ_SECONDS", 0.5)
    impatient = Hub(endpoint=loopback.endpoint, patience=Patience(attempts=2, longest_wait=1.0))
    fault = replace(fault, path="cdn|resolve")
    with open_hub_checkpoint(impatient, "weights/good") as checkpoint, loopback.injecting(fault):
        with pytest.raises(error, match=words) as caught:
            blocks(checkpoint)
        checkpoint.source._pool.shutdown(cancel_futures=True)  # tries that go on would be seen by the next test
    assert "weights/good@" in caught.value.message
    assert "model-0000" in caught.value.message


def test_analyze_takes_a_hub_id(loopback, weights, local, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": loopback.endpoint, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", "from fastewq.cli import main; main()", "analyze", "weights/good", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True)
    document = json.loads(done.stdout)
    assert document["model"].startswith("weights/good@")
    assert [b["entropy"] for s in document["stacks"] for b in s["blocks"]] == [
        b["entropy"] for s in local for b in s["blocks"]
    ]
