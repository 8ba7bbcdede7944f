"""Headers over the network: few bytes, checked ranges, several shards in flight, and faults."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save

import fastewq
from fastewq import hub as hub_module
from fastewq.errors import HubUnavailable, InvalidCheckpoint, NotFound
from fastewq.headers import FIRST_READ, HubFiles, read_exact, read_headers
from fastewq.hub import Hub, Patience
from hub.loopback import Fault

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 1000,
    "torch_dtype": "float16",
}


@pytest.fixture(scope="module")
def sharded(loopback):
    architecture = fastewq.read_config(CONFIG)
    inside = {f"{b.path}.{t.name}": t.shape for b in architecture.stacks[0].blocks for t in b.layout.tensors}
    tensors = inside | {f"{g.path}.{t.name}": t.shape for g in architecture.outside for t in g.tensors}
    names = [f"model-{i:05}-of-00004.safetensors" for i in (1, 2, 3, 4)]
    weight_map = {name: names[i % 4] for i, name in enumerate(tensors)}
    files = {
        file: save({n: np.zeros(s, np.float16) for n, s in tensors.items() if weight_map[n] == file}) for file in names
    }
    index = json.dumps({"weight_map": weight_map}).encode()
    loopback.add(
        "headers/llama",
        {"config.json": json.dumps(CONFIG).encode(), "model.safetensors.index.json": index, **files},
    )
    loopback.add("headers/none", {"config.json": json.dumps(CONFIG).encode()})
    loopback.add("headers/cut", {"model.safetensors": files[names[0]][:20]})
    loopback.add("headers/nothing", {"model.safetensors": b""})
    return "headers/llama"


@pytest.fixture
def hub(loopback, sharded, tmp_path):
    return Hub(endpoint=loopback.endpoint, cache=tmp_path, patience=Patience(attempts=4, longest_wait=2.0))


def test_headers_of_a_repository_agree_with_its_config(hub, loopback, sharded):
    with loopback.injecting():
        found = read_exact(CONFIG, HubFiles(hub, sharded))
        assert found.agrees
        assert found.parameters == fastewq.read_config(CONFIG).parameters
        ranges = [r.range for r in loopback.requests if r.path.startswith("/cdn/")]
    assert ranges == [f"bytes=0-{FIRST_READ - 1}"] * 4


FAULTS = [
    Fault("status", path="cdn", times=3, status=500),
    Fault("reset", path="cdn", times=2),
    Fault("truncate", path="cdn", times=2),
    Fault("wrong_range", path="cdn", times=1),
    Fault("status", path="resolve", times=2, status=429, headers={"Retry-After": "1"}),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.kind}-{f.status}")
def test_passing_faults_change_nothing(hub, loopback, sharded, fault):
    expected = read_headers(HubFiles(hub, sharded))
    with loopback.injecting(Fault(**fault.__dict__)):
        assert read_headers(HubFiles(Hub(endpoint=loopback.endpoint, patience=hub.patience), sharded)) == expected
        assert any(r.fault for r in loopback.requests)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("headers/none", NotFound, "no safetensors file"),
        ("headers/cut", InvalidCheckpoint, "header length"),
        ("headers/nothing", InvalidCheckpoint, r"model\.safetensors has 0 bytes"),
        ("headers/absent", NotFound, "no such repository"),
    ],
)
def test_what_cannot_be_read_is_named(hub, name, error, words):
    with pytest.raises(error, match=words):
        read_headers(HubFiles(hub, name))


@pytest.mark.parametrize("fault", [Fault("ignore_range", path="cdn"), Fault("stall", path="cdn")], ids=lambda f: f.kind)
def test_lasting_faults_are_errors(loopback, sharded, fault, monkeypatch):
    impatient = Hub(endpoint=loopback.endpoint, patience=Patience(attempts=2, longest_wait=0.1))
    files = HubFiles(impatient, sharded)
    if fault.kind == "stall":  # a busy machine must not look like one
        monkeypatch.setattr(hub_module, "READ_SECONDS", 1.0)
    with loopback.injecting(fault), pytest.raises(HubUnavailable, match="model-0000"):
        read_headers(files)
