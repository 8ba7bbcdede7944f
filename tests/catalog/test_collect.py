"""Collecting from a Hub on loopback: only what is new, whatever goes wrong, however often it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hub.loopback import Fault
from safetensors.numpy import save

import fastewq
from fastewq.catalog.build import build_index
from fastewq.catalog.collect import collect
from fastewq.catalog.index import Catalog
from fastewq.catalog.predict import predict
from fastewq.catalog.store import Store
from fastewq.engine import Engine
from fastewq.errors import HubUnavailable, NotFound
from fastewq.hub import Filters, Hub, Patience
from fastewq.predictor import load_predictor

# Daft leaves the pipe to its worker processes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def hub_configs(loopback, configs):
    """Every config as a repository of its own organization, plus one without a config and a gated one."""
    found = {f"cat/{name.replace('/', '-')}": text for name, text in configs.items()}
    for index, (name, text) in enumerate(found.items()):
        loopback.add(name, {"config.json": text.encode()}, downloads=index, pipeline_tag="text-generation")
    loopback.add("cat/no-config", {"README.md": b"hello"})
    loopback.add("cat/gated", {"config.json": b"{}"}, gated="auto")
    loopback.add("cat/latin", {"config.json": b'{"a": "\xe9"}'})
    return found


@pytest.fixture
def hub(loopback, hub_configs, tmp_path):
    return Hub(endpoint=loopback.endpoint, cache=tmp_path / "cache", patience=Patience(attempts=8, longest_wait=2.0))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "catalog")


def run(store: Store, hub: Hub, source: str = "hub://"):
    with store.locked():
        return collect(store, source, filters=Filters(author="cat"), hub=hub)


def rows(store: Store) -> list[dict]:
    return [row for path in store.files("configs") for row in pq.read_table(path).to_pylist()]


def test_every_model_ends_as_a_config_or_an_error(store, hub, loopback, hub_configs):
    counts = run(store, hub)
    assert (counts.found, counts.added, counts.unchanged) == (len(hub_configs) + 3, len(hub_configs), 0)
    assert counts.failed == {"not_found": 1, "access_denied": 1, "invalid_config": 1}
    found = {row["id"]: row for row in rows(store)}
    assert {name: row["config"] for name, row in found.items() if row["config"]} == hub_configs
    assert all(row["revision"] == loopback.repositories[name].commits[-1] for name, row in found.items())
    assert found["cat/copy-one"]["task"] == "text-generation"


def test_a_second_run_asks_only_for_what_is_new_changed_or_was_refused(store, hub, loopback, hub_configs):
    run(store, hub)
    name = next(iter(hub_configs))
    before = loopback.repositories[name].commits[-1]
    with loopback.injecting():
        again = run(store, hub)
        asked = {request.path for request in loopback.requests if "/resolve/" in request.path}
    assert (again.added, again.unchanged) == (0, len(hub_configs) + 2)
    assert {path.split("/resolve/")[0] for path in asked} == {"/cat/gated"}
    assert len(rows(store)) == len(hub_configs) + 3
    after = loopback.add(name, {"config.json": b'{"model_type": "changed"}'}, downloads=0)
    changed = run(store, hub)
    assert (changed.added, after != before) == (1, True)
    assert [row["revision"] for row in rows(store) if row["id"] == name] == [before, after]
    loopback.add(name, {"config.json": hub_configs[name].encode()}, downloads=0)


def test_a_list_of_ids_and_revisions(store, hub, loopback, hub_configs, tmp_path):
    commit = loopback.repositories["cat/copy-one"].commits[-1]
    lines = [
        "# models",
        "cat/copy-one",
        f"cat/copy-two@{loopback.repositories['cat/copy-two'].commits[0]}",
        "",
        "cat/nobody",
    ]
    (tmp_path / "ids.txt").write_text("\n".join(lines))
    counts = run(store, hub, str(tmp_path / "ids.txt"))
    assert (counts.added, counts.failed) == (2, {"not_found": 1})
    assert {row["id"]: row["revision"] for row in rows(store)}["cat/copy-one"] == commit
    again = run(store, hub, str(tmp_path / "ids.txt"))
    assert (again.added, again.unchanged, len(rows(store))) == (0, 2, 3)


def test_faults_on_the_way_change_no_row(store, hub, loopback, hub_configs, tmp_path):
    run(store, hub)
    disturbed = Store(tmp_path / "disturbed")
    with loopback.injecting(
        Fault("status", probability=0.08, status=500),
        Fault("status", probability=0.08, status=429, headers={"Retry-After": "0"}),
        Fault("reset", probability=0.08),
        Fault("truncate", probability=0.08),
    ):
        run(disturbed, hub)
        assert {request.fault for request in loopback.requests} >= {"status", "reset", "truncate"}

    def without_place(found: Store) -> list[tuple]:
        return sorted((row["id"], row["revision"], row["config"] or "", row["error_code"] or "") for row in rows(found))

    assert without_place(disturbed) == without_place(store)


def test_a_hub_that_fails_for_some_gives_rows_that_the_next_run_repairs(store, loopback, hub_configs, tmp_path):
    impatient = Hub(endpoint=loopback.endpoint, cache=tmp_path / "c", patience=Patience(attempts=1, longest_wait=1.0))
    with loopback.injecting(Fault("status", path="made-m00./resolve", status=503)):
        counts = run(store, impatient)
    assert counts.failed["hub_unavailable"] == 10
    assert counts.done == counts.found
    repaired = run(store, impatient)
    assert (repaired.added, repaired.failed["hub_unavailable"]) == (10, 0)
    assert run(store, impatient).added == 0


def test_a_listing_that_breaks_keeps_what_was_fetched(store, loopback, hub_configs, tmp_path, monkeypatch):
    monkeypatch.setattr(loopback, "page_size", 20)
    hub = Hub(endpoint=loopback.endpoint, cache=tmp_path / "c", patience=Patience(attempts=1, longest_wait=1.0))
    with (
        loopback.injecting(Fault("status", path="cursor=40", status=500)),
        pytest.raises(HubUnavailable, match="listing"),
    ):
        run(store, hub)
    assert 0 < len(rows(store)) <= 40
    assert run(store, hub).done == len(hub_configs) + 3
    assert Counter(row["id"] for row in rows(store)).most_common(1)[0][1] == 1


def test_headers_on_request_plan_what_the_config_alone_cannot(store, loopback, llama, artefact, tmp_path):
    small = {**llama, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 100}
    small |= {"torch_dtype": "float16", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    architecture = fastewq.read_config(small)
    tensors = {f"{b.path}.{t.name}": t.shape for b in architecture.stacks[0].blocks for t in b.layout.tensors}
    tensors |= {f"{g.path}.{t.name}": t.shape for g in architecture.outside for t in g.tensors}
    weights = save({name: np.zeros(shape, np.float16) for name, shape in tensors.items()})
    unknown, wrong = {**small, "model_type": "new"}, {**small, "intermediate_size": 96}
    for name, config in {"same": small, "unknown": unknown, "wrong": wrong, "bare": small}.items():
        files = {"config.json": json.dumps(config).encode(), "model.safetensors": weights}
        loopback.add(f"heads/{name}", {"config.json": files["config.json"]} if name == "bare" else files)
    hub = Hub(endpoint=loopback.endpoint, cache=tmp_path / "c")
    with store.locked():
        assert collect(store, "hub://", filters=Filters(author="heads"), hub=hub, headers=True).added == 4
        predict(store, artefact=artefact, engine=Engine(workers=1))
        build_index(store)
    catalog, predictor = Catalog(store.index), load_predictor(artefact)
    found = {name: catalog.get(f"heads/{name}") for name in ("same", "unknown", "wrong", "bare")}
    assert {name: entry.headers_agree for name, entry in found.items()} == {
        "same": True,
        "unknown": False,
        "wrong": False,
        "bare": None,
    }
    assert {entry.parameters for entry in found.values()} == {architecture.parameters}
    assert [entry.exact for entry in found.values()] == [True, False, False, True]
    for entry in found.values():
        plan = catalog.plan(entry, predictor=predictor)
        assert (plan.totals.bytes, list(plan.warnings)) == (entry.bytes_4bit_8bit_mixed, list(entry.warnings))


@pytest.fixture
def command(loopback, hub_configs, artefact, tmp_path):
    """Starts `fastewq catalog ...` with a home of its own."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": loopback.endpoint,
        "HF_HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "FASTEWQ_ARTEFACT": str(artefact),
    }

    def start(*arguments: str) -> subprocess.Popen[str]:
        code = "from fastewq.cli import main; main()"
        command = [sys.executable, "-c", code, "catalog", *arguments]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )

    return start


def done(process: subprocess.Popen[str], code: int = 0) -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors[-3000:]
    return output if code == 0 else errors


def test_killed_at_any_moment_every_model_ends_once(command, loopback, hub_configs, tmp_path):
    build = ("build", "hub://", "--author", "cat", "-o", str(tmp_path / "k"), "--workers", "1", "--json")
    with loopback.injecting(
        Fault("status", probability=0.05, status=500),
        Fault("reset", probability=0.05),
        Fault("truncate", probability=0.05),
    ):
        for seconds in (1.5, 2.5, 4.0):
            process = command(*build)
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        last = json.loads(done(command(*build)))
    assert last["entries"] == len(hub_configs) + 3
    catalog = Store(tmp_path / "k")
    (version,) = catalog.versions()
    planned = [row for path in catalog.files("models", version) for row in pq.read_table(path).to_pylist()]
    assert len(planned) == catalog.rows("configs") == len({row["sequence"] for row in planned})
    assert {row["id"] for row in planned} == {*hub_configs, "cat/no-config", "cat/gated", "cat/latin"}
    blocks = sum(row["num_blocks"] or 0 for row in planned)
    assert catalog.rows("blocks", version) == blocks
    assert json.loads(done(command(*build)))["planned"] == 0


def test_a_folder_without_configs_is_an_error(tmp_path):
    with pytest.raises(NotFound, match=r"holds no \.json file"):
        collect(Store(tmp_path / "catalog"), str(tmp_path))


def test_the_commands_end_to_end(command, loopback, configs, tmp_path):
    folder, catalog = tmp_path / "configs", str(tmp_path / "c")
    folder.mkdir()
    for name in ("copy/one", "made/m000", "broken/unknown"):
        (folder / f"{name.replace('/', '--')}.json").write_text(configs[name])
    output = done(command("build", str(folder), "-o", catalog, "--workers", "1"))
    assert "found 3: 3 added, 0 unchanged, failed: none" in output
    assert "3 planned, 0 kept; 3 entries in the index" in output
    assert "3 entries" in done(command("index", catalog))
    entry = json.loads(done(command("get", "copy/one", "--catalog", catalog, "--json")))
    plan = json.loads(done(command("get", f"copy/one@{entry['revision']}", "--catalog", catalog, "--plan", "--json")))
    assert plan["totals"]["raw_bytes"] == entry["raw_bytes"]
    assert plan["model"]["id"] == "copy/one"
    found = json.loads(done(command("search", "copy", "--catalog", catalog, "--memory", "1TiB", "--json")))
    assert [e["id"] for e in found["entries"]] == ["copy/one"]
    assert "2 exact, 0 approximate, 1 refused" in done(
        command("stats", "--catalog", catalog, "--html", str(tmp_path / "s.html"))
    )
    assert (tmp_path / "s.html").read_text().startswith("<!doctype html>")
    errors = done(command("get", "no/body", "--catalog", catalog, "--json"), code=4)
    assert json.loads(errors)["error"]["code"] == "not_found"


def test_without_a_network_a_command_says_what_it_cannot_reach_and_the_rest_works(command, loopback, configs, tmp_path):
    with loopback.injecting(Fault("status", status=503, headers={"Retry-After": "9999"})):
        errors = done(command("build", "hub://", "-o", str(tmp_path / "n"), "--json"), code=5)
        error = json.loads(errors)["error"]
        assert error["code"] == "hub_unavailable"
        assert "the listing of models" in error["message"]
        (tmp_path / "x.jsonl").write_text(json.dumps({"id": "a/b", "config": configs["copy/one"]}))
        done(command("build", str(tmp_path / "x.jsonl"), "-o", str(tmp_path / "n"), "--workers", "1"))
