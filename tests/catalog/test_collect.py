"""Collecting from a Hub on loopback: only what is new, whatever goes wrong, however often it is killed."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from hub.loopback import GOOD_TOKEN, Fault
from safetensors.numpy import save
from typer.testing import CliRunner

import fastewq
from fastewq import hub as hub_module
from fastewq.catalog import collect as collect_module
from fastewq.catalog.build import build_index
from fastewq.catalog.collect import collect
from fastewq.catalog.index import Catalog
from fastewq.catalog.predict import predict
from fastewq.catalog.store import Store
from fastewq.cli.catalog import app
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
        return collect(store, source, filters=Filters(author="cat") if source == "hub://" else None, hub=hub)


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


def test_a_list_may_name_several_commits_of_a_model_and_one_twice(store, hub, loopback, hub_configs, tmp_path):
    commits = [loopback.add("pinned/m", {"config.json": json.dumps({"n": n}).encode()}) for n in range(3)]
    lines = [*(f"pinned/m@{commit}" for commit in commits), f"pinned/m@{'0' * 40}", f"pinned/m@{commits[0]}"]
    (tmp_path / "ids.txt").write_text("\n".join(lines))
    counts = run(store, hub, str(tmp_path / "ids.txt"))
    assert (counts.found, counts.total, counts.failed) == (4, 4, {"not_found": 1})
    assert sorted(row["revision"] for row in rows(store)) == sorted([*commits, "0" * 40])
    with loopback.injecting():
        assert run(store, hub, str(tmp_path / "ids.txt")).unchanged == 4
        assert loopback.requests == []
    assert len(rows(store)) == 4


def test_a_commit_that_a_list_names_beside_a_model_is_not_its_newest(store, hub, loopback, tmp_path, monkeypatch):
    old, new = [loopback.add("beside/m", {"config.json": json.dumps({"n": n}).encode()}) for n in range(2)]
    (tmp_path / "ids.txt").write_text(f"beside/m\nbeside/m@{old}\nbeside/m@{'0' * 40}\n")
    for _ in range(2):
        run(store, hub, str(tmp_path / "ids.txt"))
        found = [row["revision"] for row in rows(store)]
        assert (sorted(found[:2]), found[2:]) == (sorted(["0" * 40, old]), [new])


def test_a_later_list_of_old_revisions_leaves_main_the_newest(store, hub, loopback, artefact, tmp_path):
    made = [{"model_type": "llama", "num_hidden_layers": n} for n in (1, 2, 3)]
    old, tagged, new = [loopback.add("later/m", {"config.json": json.dumps(config).encode()}) for config in made]
    ids = tmp_path / "ids.txt"

    def collected(text: str) -> int:
        ids.write_text(text)
        before = len(rows(store))
        run(store, hub, str(ids))
        return len(rows(store)) - before

    def newest() -> str:
        with store.locked():
            predict(store, artefact=artefact, engine=Engine(workers=1))
            build_index(store)
        catalog = Catalog(store.index)
        assert [entry.revision for entry in catalog.search(text="later/m").entries] == [catalog.get("later/m").revision]
        return catalog.get("later/m").revision

    assert (collected(f"later/m@{tagged}"), newest()) == (1, tagged)  # nothing else is known yet
    assert (collected("later/m"), newest()) == (1, new)
    assert (collected(f"later/m@{old}"), newest()) == (1, new)
    assert collected(f"later/m@{old}\nlater/m@{tagged}\nlater/m@{new}\nlater/m") == 0
    assert (collected(f"later/m@{'0' * 40}"), newest()) == (1, new)
    with store.locked():
        assert collect(store, "hub://", filters=Filters(author="later"), hub=hub).unchanged == 1
    loopback.add("later/m", {"config.json": json.dumps(made[0]).encode()})
    assert (collected("later/m"), newest()) == (1, loopback.repositories["later/m"].commits[-1])


def test_what_only_lists_named_becomes_main_when_main_is_that(store, hub, loopback, artefact, tmp_path):
    first, second = [loopback.add("became/m", {"config.json": b"{}"}), loopback.add("became/m", {"config.json": b"[]"})]
    for text in (f"became/m@{second}", "became/m", f"became/m@{first}"):
        (tmp_path / "ids.txt").write_text(text)
        run(store, hub, str(tmp_path / "ids.txt"))
    predict(store, artefact=artefact, engine=Engine(workers=1))
    build_index(store)
    assert Catalog(store.index).get("became/m").revision == second


def test_names_that_no_repository_should_have_stop_nothing(store, loopback, hub, tmp_path):
    for name in ("odd--name", "in order", "fine"):
        loopback.add(f"names/{name}", {"config.json": b"{}"})
    with store.locked():
        counts = collect(store, "hub://", filters=Filters(author="names"), hub=hub)
    assert (counts.found, counts.added) == (3, 1)
    errors = {row["id"]: row["error_message"] for row in rows(store) if row["error_code"] == "not_found"}
    assert set(errors) == {"names/odd--name", "names/in order"}
    assert all("is not a Hub id" in message for message in errors.values())


def test_a_model_that_the_listing_names_twice_is_kept_once(store, loopback, hub, hub_configs, monkeypatch):
    """Pages are cut anew for each request, and a download moves a model from one to the next."""
    page = loopback.listing_page

    def doubled(query):
        entries, cursor = page(query)
        return [*entries, *entries], cursor

    monkeypatch.setattr(loopback, "listing_page", doubled)
    counts = run(store, hub)
    assert counts.found == counts.done == 2 * (len(hub_configs) + 3)
    assert Counter(row["id"] for row in rows(store)).most_common(1)[0][1] == 1


def test_a_token_opens_a_gated_model_that_was_refused_before(store, loopback, hub, tmp_path):
    loopback.add("closed/m", {"config.json": b"{}"}, gated="auto")
    (tmp_path / "ids.txt").write_text("closed/m")
    assert run(store, hub, str(tmp_path / "ids.txt")).failed == {"access_denied": 1}
    known = Hub(endpoint=loopback.endpoint, cache=tmp_path / "cache", token=GOOD_TOKEN)
    assert run(store, known, str(tmp_path / "ids.txt")).added == 1
    assert [row["config"] for row in rows(store)] == [None, "{}"]


def test_requests_run_side_by_side_up_to_a_bound(store, loopback, tmp_path, monkeypatch):
    monkeypatch.setattr(collect_module, "IN_FLIGHT", 4)

    class Counting(Hub):
        running, lock, most = 0, threading.Lock(), threading.Barrier(4)

        def fetch_config(self, repo_id, revision):
            with self.lock:
                self.running += 1
                assert self.running <= 4
            self.most.wait(60)  # passes when four are here
            with self.lock:
                self.running -= 1
            return b"{}", "0" * 40

    (tmp_path / "ids.txt").write_text("\n".join(f"many/m{n}" for n in range(40)))
    assert run(store, Counting(endpoint=loopback.endpoint), str(tmp_path / "ids.txt")).added == 40


def test_faults_on_the_way_change_no_row(store, hub, loopback, hub_configs, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "READ_SECONDS", 2.0)
    run(store, hub)
    disturbed = Store(tmp_path / "disturbed")
    with loopback.injecting(
        Fault("status", probability=0.08, status=500),
        Fault("status", probability=0.08, status=429, headers={"Retry-After": "0"}),
        Fault("reset", probability=0.08),
        Fault("truncate", probability=0.08),
        Fault("stall", probability=0.08, times=5),
    ):
        run(disturbed, hub)
        assert {request.fault for request in loopback.requests} >= {"status", "reset", "truncate", "stall"}

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


QUICK = Patience(attempts=2, longest_wait=0.01)


@pytest.mark.parametrize("kind", ["reset", "status"])
def test_a_hub_that_vanishes_in_the_middle_ends_the_run_with_one_error(
    store, loopback, hub_configs, tmp_path, monkeypatch, kind
):
    monkeypatch.setattr(hub_module, "LOST_SECONDS", 0.0)
    monkeypatch.setattr(collect_module, "IN_FLIGHT", 1)  # an answer that comes late would be a sign of life
    ids, names = tmp_path / "ids.txt", [f"cat/made-m{n:03}" for n in range(40)]
    ids.write_text("\n".join(names))
    hub = Hub(endpoint=loopback.endpoint, cache=tmp_path / "c", patience=QUICK)
    with loopback.injecting(Fault(kind, path="made-m0[1-3]", status=503)):
        counts = run(store, hub, str(ids))
        assert len(loopback.requests) < 10 + 2 * QUICK.attempts * hub_module.LOST_REPOSITORIES
    assert (counts.added, hub.lost) == (10, True)
    assert counts.failed["hub_unavailable"] == hub_module.LOST_REPOSITORIES - 1  # with the next one it was lost
    assert re.match(r"stopped after \d+ models: cat/made-m0\d\d@main: config.json: http", counts.stopped.message)
    assert "same command goes on" in counts.stopped.hint
    again = run(store, hub, str(ids))
    assert (again.added, again.stopped, hub.lost) == (30, None, False)


def test_a_short_silence_of_the_hub_ends_no_run(store, loopback, hub_configs, tmp_path):
    ids, names = tmp_path / "ids.txt", [f"cat/made-m{n:03}" for n in range(40)]
    ids.write_text("\n".join(names))
    hub = Hub(endpoint=loopback.endpoint, cache=tmp_path / "c", patience=QUICK)
    hub.fetch_config("cat/made-m000", "main")  # the Hub has been there
    with loopback.injecting(Fault("reset", path="made-m0[1-3]")):
        counts = run(store, hub, str(ids))
    assert (counts.added, counts.failed, counts.stopped) == (10, {"hub_unavailable": 30}, None)


def test_a_hub_that_asks_for_hours_of_patience_is_not_asked_for_every_repository(store, loopback, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(f"hours/m{n:03}" for n in range(400)))
    hub = Hub(endpoint=loopback.endpoint, cache=tmp_path / "c", patience=QUICK)
    with loopback.injecting(Fault("status", status=429, headers={"Retry-After": "9999"})):
        counts = run(store, hub, str(ids))
        assert len(loopback.requests) <= 5 * collect_module.IN_FLIGHT  # in flight and waiting to be
    assert (counts.done, "asks to wait 9999 s" in counts.stopped.message) == (0, True)


def test_a_listing_that_breaks_keeps_what_was_fetched(store, loopback, hub_configs, tmp_path, monkeypatch):
    monkeypatch.setattr(loopback, "page_size", 20)
    hub = Hub(endpoint=loopback.endpoint, cache=tmp_path / "c", patience=Patience(attempts=1, longest_wait=1.0))
    with loopback.injecting(Fault("status", path="cursor=40", status=500)):
        stopped = run(store, hub).stopped
    assert isinstance(stopped, HubUnavailable)
    assert "listing" in stopped.message
    assert 0 < len(rows(store)) <= 40
    again = run(store, hub)
    assert (again.done, again.stopped) == (len(hub_configs) + 3, None)
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

    def start(*arguments: str, **settings: str) -> subprocess.Popen[str]:
        code = "from fastewq.cli import main; main()"
        command = [sys.executable, "-c", code, "catalog", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, **pipes, env=environment | settings, start_new_session=True)

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


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("stage", ["collecting", "planning"])
def test_an_interrupt_ends_it_at_once_and_it_goes_on_later(command, loopback, hub_configs, tmp_path, stage, sent, code):
    output, seen = tmp_path / "i", len(hub_configs) // 2
    build = ("build", "hub://", "--author", "cat", "-o", str(output), "--workers", "1", "--json")
    if stage == "collecting":  # most are fetched when the last in the listing have every thread wait for minutes
        held_back = Fault("status", path="made-m00./resolve", status=429, headers={"Retry-After": "350"})
        begun = lambda: any(request.fault for request in loopback.requests)  # noqa: E731
    else:
        held_back, begun = Fault("reset", times=0), (output / "plans").exists
    with loopback.injecting(held_back):
        process = command(*build)
        while not begun():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(sent)
        output_text, errors = process.communicate(timeout=120)
    assert (process.returncode, output_text) == (code, ""), errors
    assert errors.endswith("interrupted: the same command goes on where it was\n")
    kept = Store(output).rows("configs")
    assert kept >= seen if stage == "collecting" else kept == len(hub_configs) + 3
    last = json.loads(done(command(*build)))
    assert last["unchanged"] >= kept - 1  # the gated model is asked for again
    assert last["entries"] == len(hub_configs) + 3


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
    assert "3 planned, 0 kept; 3 entries in the index, 1 without a plan" in output
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
    first = json.loads(done(command("search", "--catalog", catalog, "--limit", "1", "--json")))
    second = json.loads(done(command("search", "--catalog", catalog, "--cursor", first["cursor"], "--json")))
    assert [e["id"] for e in (*first["entries"], *second["entries"])] == ["copy/one", "made/m000"]


def test_a_disk_that_takes_no_more_is_an_error_and_no_abort(command, configs, tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"id": "a/b", "config": configs["copy/one"]}))
    build = ("build", str(tmp_path / "x.jsonl"), "-o", str(tmp_path / "d"), "--workers", "1")
    done(command(*build, "--collect-only"))
    process = command(*build)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4000, 4000))  # too little for a plan on its way
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, output) == (5, "")
    assert re.fullmatch(r"error: planning stopped: .*File too large\n", errors)
    assert "1 planned" in done(command(*build))


def test_a_hub_that_asks_for_too_much_patience_is_an_error(command, loopback, tmp_path):
    with loopback.injecting(Fault("status", status=503, headers={"Retry-After": "9999"})):
        errors = done(command("build", "hub://", "-o", str(tmp_path / "n"), "--json"), code=5)
    error = json.loads(errors)["error"]
    assert error["code"] == "hub_unavailable"
    assert "the listing of models" in error["message"]


def test_an_offline_machine_plans_what_it_has_and_says_in_a_line_what_it_cannot_reach(
    command, configs, other_artefact, tmp_path
):
    catalog, ids, lines = str(tmp_path / "n"), tmp_path / "ids.txt", tmp_path / "x.jsonl"
    ids.write_text("copy/one\ncopy/two\n")
    closed, off = {"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}
    for setting, why in (
        (closed, "http://127.0.0.1:9 cannot be reached"),
        (off, "not asked, since offline mode is on"),
    ):
        for source, what in (("hub://", "the listing of models"), (str(ids), "copy/")):
            error, hint = done(command("build", source, "-o", catalog, **setting), code=5).splitlines()
            assert error.startswith(f"error: {what}")
            assert why in error
            assert hint.startswith("hint: ")
    lines.write_text(json.dumps({"id": "a/b", "config": configs["copy/one"]}))
    done(command("build", str(lines), "-o", catalog, "--workers", "1", **off))
    off["FASTEWQ_ARTEFACT"] = str(other_artefact)  # plans everything anew, which needs no Hub
    process = command("build", "hub://", "-o", catalog, "--workers", "1", "--json", **off)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 5
    found = json.loads(output)
    assert (found["found"], found["planned"], found["kept"], found["entries"]) == (0, 1, 0, 1)
    assert why in json.loads(errors)["error"]["message"]
    assert "a/b" in done(command("get", "a/b", "--catalog", catalog, **off))


def test_progress_has_counts_rate_time_left_and_failures(loopback, hub_configs, tmp_path, monkeypatch):
    monkeypatch.setattr("fastewq.cli.catalog.LOG_SECONDS", 0.0)
    monkeypatch.setattr(collect_module, "Hub", partial(Hub, endpoint=loopback.endpoint))
    (tmp_path / "ids.txt").write_text("cat/copy-one\ncat/copy-two\ncat/gated\n")
    for source, total in ((str(tmp_path / "ids.txt"), " of 3"), ("hub://", "")):
        only = ["--author", "cat"] if source == "hub://" else []
        arguments = ["build", source, "-o", str(tmp_path / "c"), "--collect-only", *only]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        done = 3 if total else len(hub_configs) + 3
        left = ", 0:00:00 left" if total else ""
        failed = "access_denied 1" if total else "access_denied 1, invalid_config 1, not_found 1"
        added = 2 if total else len(hub_configs) - 2
        last = [line for line in result.stderr.splitlines() if line.startswith("collecting: ")][-1]
        rate = r"[0-9,]+ a second"
        assert re.fullmatch(rf"collecting: {done:,}{total} models, {rate}{left}; {added} new, failed: {failed}", last)


def test_no_progress_with_json(tmp_path, configs, monkeypatch):
    monkeypatch.setattr("fastewq.cli.catalog.LOG_SECONDS", 0.0)
    (tmp_path / "org--name.json").write_text(configs["copy/one"])
    result = CliRunner().invoke(app, ["build", str(tmp_path), "-o", str(tmp_path / "c"), "--collect-only", "--json"])
    assert (result.stderr, json.loads(result.stdout)["added"]) == ("", 1)


def test_an_index_of_nothing_leaves_nothing_behind(tmp_path, configs):
    (tmp_path / "org--name.json").write_text(configs["copy/one"])
    result = CliRunner().invoke(app, ["index", str(tmp_path)])
    assert isinstance(result.exception, NotFound)
    assert [path.name for path in tmp_path.iterdir()] == ["org--name.json"]


def test_what_a_killed_index_left_is_removed(store):
    with store.locked():
        pass
    (store.folder / ".index.sqlite.77.tmp").write_bytes(b"half")
    (store.folder / ".gitignore").write_text("*")
    with store.locked():
        assert sorted(path.name for path in store.folder.iterdir()) == [".gitignore", "configs", "lock"]
