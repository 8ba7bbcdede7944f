"""The dataset builder at scale: killed and started again, on several engines, from folders, from a Hub that fails."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from analysis.making import write_safetensors
from hub.loopback import Fault
from safetensors.numpy import save
from source_wheels import BERT, bert_tensors, make_model

from fastewq import hub as hub_module
from fastewq.analysis import remote
from fastewq.analysis.report import analyze
from fastewq.engine import Engine
from fastewq.errors import AccessDenied, HubUnavailable, InputError, InvalidCheckpoint, InvalidDataset, NotFound
from fastewq.hub import Hub, Patience
from fastewq.training import dataset
from fastewq.training.dataset import build_dataset
from fastewq.training.sources import pin_revision, read_sources_file

# Daft leaves the pipe to its worker processes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

KILLS = 10
"""Of a process forked for each; `benchmarks/dataset_kills.py` kills the command itself."""

TABLES = ("blocks.csv", "blocks.tensors.csv", "blocks.sources.csv")


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


def finished_keys(cache: Path) -> list[str]:
    """The keys of all whole lines of all logs."""
    lines = [line for path in cache.glob("readings/*/*.jsonl") for line in path.read_bytes().split(b"\n")[:-1]]
    return [json.loads(line)["key"] for line in lines]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Three checkpoints of 64 tensors each, in float32, float16 and float32, 2 million weights in all."""
    folder = tmp_path_factory.mktemp("models")
    for number, dtype in enumerate((np.float32, np.float16, np.float32)):
        make_model(folder / f"model-{number}", number, dtype, scale=8)
    return folder


@pytest.fixture(scope="module")
def undisturbed(models, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    report = build_dataset([str(models)], folder / "blocks.csv", folder / "cache")
    assert [(source.name, source.blocks) for source in report.sources] == [(f"model-{n}", 4) for n in range(3)]
    return tables(folder)


# --- killed -----------------------------------------------------------------------------------------------------------

# Everything is imported and compiled once; each build is a process of its own, forked from here, that is killed with
# SIGKILL as soon as the logs hold the given number of readings and some milliseconds have gone by.
KILLER = """
import os, signal, sys, time
from pathlib import Path
import fastewq.training.dataset as dataset
from fastewq.analysis.checkpoints import open_checkpoint
from fastewq.analysis.kernel import measure

for folder in Path(sys.argv[1]).iterdir():
    checkpoint = open_checkpoint(folder)
    measure(checkpoint.matrices(min(checkpoint.tensors, key=lambda t: t.nbytes))[0], threads=1)

models, folder = sys.argv[1], Path(sys.argv[2])

def finished():
    return sum(path.read_bytes().count(b"\\n") for path in folder.glob("cache/readings/*/*.jsonl"))

for moment in sys.argv[3:]:
    count, delay = moment.split("+")
    child = os.fork()
    if child == 0:
        dataset.build_dataset([models], folder / "blocks.csv", folder / "cache")
        signal.pause()  # done before it was killed: on a busy machine this process looks too late
    while finished() < int(count):
        time.sleep(0.0005)
    time.sleep(float(delay))
    os.kill(child, signal.SIGKILL)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]), finished(), flush=True)
"""


def test_a_build_killed_at_random_moments_ends_with_the_rows_of_an_undisturbed_one(models, undisturbed, tmp_path):
    chance = random.Random(4)
    counts = sorted(chance.sample(range(170), KILLS))
    moments = [f"{count}+{chance.uniform(0, 0.02):.4f}" for count in counts]
    command = [sys.executable, "-c", KILLER, str(models), str(tmp_path), *moments]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert killed.returncode == 0, killed.stderr[-2000:]
    ends = [tuple(map(int, line.split())) for line in killed.stdout.splitlines()]
    assert len(ends) == KILLS
    assert [signal for signal, _ in ends] == [9] * KILLS
    kept = [count for _, count in ends]
    assert kept == sorted(kept)
    assert kept[0] < 192
    build_dataset([str(models)], tmp_path / "blocks.csv", tmp_path / "cache")
    assert tables(tmp_path) == undisturbed
    keys = finished_keys(tmp_path / "cache")
    assert len(keys) == len(set(keys)) == 192  # none lost, none read twice
    assert not list(tmp_path.rglob(".partial-*"))


# --- engines ----------------------------------------------------------------------------------------------------------


# A Ray cluster does too: tests/catalog/test_predict.py starts one, for the catalog and for this.
def test_several_processes_give_identical_rows(models, undisturbed, tmp_path):
    build_dataset([str(models)], tmp_path / "blocks.csv", tmp_path / "cache", engine=Engine(workers=2))
    assert tables(tmp_path) == undisturbed
    assert len(list(tmp_path.glob("cache/readings/*/*.jsonl"))) == 2


def test_the_local_engine_stays_in_this_process_inside_a_ray_job():
    """Daft by itself would take Ray there, and load it wherever it is installed."""
    code = """if True:
        import os, sys
        from fastewq.engine import Engine
        Engine().start()
        Engine(workers=2).start()
        import daft
        assert daft.from_pydict({"a": [1, 2]}).sum("a").to_pylist() == [{"a": 3}]
        assert "ray" not in sys.modules
        os._exit(0)  # Daft's threads may fail while Python shuts down; see `resumable`
    """
    environment = {**os.environ, "RAY_JOB_ID": "01000000"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# --- what SOURCES may be ----------------------------------------------------------------------------------------------


def test_a_file_a_folder_and_a_folder_of_folders(models, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(models / "model-0", alone)
    single = tmp_path / "single"
    single.mkdir()
    (single / "config.json").write_text(json.dumps(BERT))
    (single / "weights.safetensors").write_bytes(save(bert_tensors()))
    (single / "other.safetensors").write_bytes(b"not this one")
    report = build_dataset(
        [str(alone), str(single / "weights.safetensors")], tmp_path / "blocks.csv", tmp_path / "cache"
    )
    assert [(s.name, s.blocks) for s in report.sources] == [("alone", 4), ("weights.safetensors", 4)]
    lines = (tmp_path / "blocks.csv").read_text().splitlines()
    first = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert (first["model"], first["family"], first["modality"], first["stored"]) == (
        "alone",
        "bert",
        "text encoder",
        "F32",
    )


def test_scaled_float8_and_stacked_experts_are_read_as_the_analysis_reads_them(tmp_path):
    random_numbers = np.random.default_rng(0)
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    for block in range(2):
        path = f"model.layers.{block}."
        codes = random_numbers.integers(0, 0x70, (256, 128)).astype(np.uint8)
        scales = random_numbers.uniform(0.01, 0.1, (2, 1)).astype(np.float32)
        experts = random_numbers.standard_normal((3, 40, 50)).astype(np.float32)
        tensors[path + "self_attn.q_proj.weight"] = ("F8_E4M3", codes.shape, codes.tobytes())
        tensors[path + "self_attn.q_proj.weight_scale_inv"] = ("F32", scales.shape, scales.tobytes())
        tensors[path + "mlp.experts.down_proj"] = ("F32", experts.shape, experts.tobytes())
        tensors[path + "input_layernorm.weight"] = ("F32", (128,), np.ones(128, np.float32).tobytes())
    folder = tmp_path / "mixed"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text('{"model_type": "never_heard_of"}')
    report = build_dataset([str(folder)], tmp_path / "blocks.csv", tmp_path / "cache")
    assert [(s.name, s.blocks, s.tensors) for s in report.sources] == [("mixed", 2, 2 * 5)]
    (stack,) = analyze(folder, more_epsilons=[0.0]).stacks
    with (tmp_path / "blocks.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["entropy_0.01"]) for row in rows] == [block.entropy for block in stack.blocks]
    with (tmp_path / "blocks.tensors.csv").open(newline="") as stream:
        found = {(row["tensor"], int(row["part"])): float(row["entropy_0"]) for row in csv.DictReader(stream)}
    expected = {
        (tensor.info.name, part): reading.entropies[0.0]
        for block in stack.blocks
        for tensor in block.tensors
        for part, reading in enumerate(tensor.readings)
    }
    assert found == expected


def test_packed_weights_are_refused_by_name(tmp_path):
    folder = tmp_path / "packed"
    folder.mkdir()
    words = np.zeros((16, 64), np.int32).tobytes()
    halves = np.zeros((2, 64), np.float16).tobytes()
    tensors = {}
    for block in range(2):
        for name in ("q_proj", "k_proj"):
            tensors[f"model.layers.{block}.self_attn.{name}.qweight"] = ("I32", (16, 64), words)
            tensors[f"model.layers.{block}.self_attn.{name}.scales"] = ("F16", (2, 64), halves)
    write_safetensors(folder / "model.safetensors", tensors)
    config = {"model_type": "never_heard_of", "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (folder / "config.json").write_text(json.dumps(config))
    (error,) = build_dataset([str(folder)], tmp_path / "blocks.csv", tmp_path / "cache").errors
    assert isinstance(error, InvalidCheckpoint)
    assert "qweight is stored as I32" in error.message


def test_a_local_checkpoint_that_changed_is_read_again(tmp_path):
    folder = make_model(tmp_path / "model", 1)
    build_dataset([str(folder)], tmp_path / "blocks.csv", tmp_path / "cache")
    before = tables(tmp_path)
    shutil.rmtree(folder)
    make_model(folder, 2)
    build_dataset([str(folder)], tmp_path / "blocks.csv", tmp_path / "cache")
    after = tables(tmp_path)
    assert after["blocks.csv"] != before["blocks.csv"]
    assert after["blocks.sources.csv"] == before["blocks.sources.csv"]


def test_a_local_source_that_fails_is_one_row_of_the_report(models, tmp_path):
    folder = tmp_path / "models"
    shutil.copytree(models / "model-0", folder / "good")
    shutil.copytree(models / "model-1", folder / "cut")
    shard = folder / "cut" / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    shutil.copytree(models / "model-1", folder / "bare")
    (folder / "bare" / "config.json").unlink()
    report = build_dataset([str(folder)], tmp_path / "blocks.csv", tmp_path / "cache")
    assert [(s.name, s.blocks) for s in report.sources] == [("bare", 0), ("cut", 0), ("good", 4)]
    assert [type(error) for error in report.errors] == [NotFound, InvalidCheckpoint]
    rows = (tmp_path / "blocks.sources.csv").read_text().splitlines()
    assert rows[0] == "model,source,blocks,tensors,error_code,error_message"
    assert rows[1].startswith("bare,,0,0,not_found,")
    assert rows[2].startswith("cut,,0,0,invalid_checkpoint,")
    assert rows[3] == "good,good,4,64,,"


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        (["absent.toml"], NotFound, "no sources file"),
        (["./absent"], NotFound, "does not exist; expected a sources file"),
        (["empty"], NotFound, "hold no checkpoint"),
        (["model", "model"], InputError, "more than once: model"),
    ],
)
def test_sources_that_are_none_end_the_run(tmp_path, monkeypatch, names, error, words):
    (tmp_path / "empty").mkdir()
    make_model(tmp_path / "model", 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        build_dataset(names, tmp_path / "blocks.csv", tmp_path / "cache")


# --- the Hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repositories(loopback, models) -> dict[str, str]:
    """The models as repositories data/model-N; id -> commit."""
    found = {}
    for folder in sorted(models.iterdir()):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        found[f"data/{folder.name}"] = loopback.add(f"data/{folder.name}", files)
    return found


@pytest.fixture
def hub(loopback, monkeypatch, tmp_path) -> Hub:
    monkeypatch.setattr(remote, "SEGMENT", 200_000)
    return Hub(endpoint=loopback.endpoint, cache=tmp_path / "hub", patience=Patience(attempts=5, longest_wait=1.0))


def digests(loopback, repo_id: str) -> str:
    """A pattern of the addresses of a repository's weights."""
    return "cdn/(" + "|".join(digest for digest, _ in loopback.repositories[repo_id].lfs.values()) + ")"


def hub_rows(undisturbed: dict[str, bytes], commits: dict[str, str]) -> dict[str, bytes]:
    """What the same checkpoints give as folders, with the ids and commits of the Hub in place of names and origins."""
    blocks, tensors, _ = (undisturbed[name].decode() for name in TABLES)
    for repo_id, commit in commits.items():
        name = repo_id.removeprefix("data/")
        blocks = blocks.replace(f",{name},", f",{repo_id}@{commit},").replace(f"\n{name},", f"\n{repo_id},")
        tensors = tensors.replace(f"\n{name},", f"\n{repo_id},")
    return {"blocks.csv": blocks.encode(), "blocks.tensors.csv": tensors.encode()}


def test_repositories_give_the_rows_of_the_same_files_and_nothing_is_stored(
    hub, loopback, repositories, undisturbed, tmp_path
):
    listed = tmp_path / "hub_models.toml"
    entries = [f'[[model]]\nid = "{name}"\nfamily = "bert"\nrevision = ""\n' for name in repositories]
    listed.write_text("# kept\nformat = 1\n\n" + "\n".join(entries))
    report = build_dataset([str(listed)], tmp_path / "blocks.csv", tmp_path / "cache", hub=hub)
    assert not report.errors
    assert {name: tables(tmp_path)[name] for name in TABLES[:2]} == hub_rows(undisturbed, repositories)
    assert {model.id: model.revision for model in read_sources_file(listed).model} == repositories
    assert listed.read_text().startswith("# kept\nformat = 1\n\n[[model]]\n")
    stored = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    weights = sum(size for name in repositories for _, size in loopback.repositories[name].lfs.values())
    assert stored < weights / 20


TRANSIENT = [
    Fault("truncate", times=3),
    Fault("reset", times=3),
    Fault("stall", times=1),
    Fault("wrong_range", times=3),
    Fault("status", times=3, status=500),
    Fault("status", times=2, status=429, headers={"Retry-After": "1"}),
]


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda f: f"{f.kind}-{f.status}")
def test_a_fault_that_passes_changes_nothing(hub, loopback, repositories, undisturbed, tmp_path, monkeypatch, fault):
    if fault.kind == "stall":  # a busy machine must not look like one
        monkeypatch.setattr(hub_module, "READ_SECONDS", 1.0)
    fault = Fault(fault.kind, digests(loopback, "data/model-1"), fault.times, 0.5, fault.status, fault.headers)
    with loopback.injecting(fault):
        report = build_dataset(list(repositories), tmp_path / "blocks.csv", tmp_path / "cache", hub=hub)
        assert any(request.fault for request in loopback.requests)
    assert not report.errors
    assert {name: tables(tmp_path)[name] for name in TABLES[:2]} == hub_rows(undisturbed, repositories)


LASTING = [
    ("reading", Fault("truncate"), HubUnavailable, "model-0000"),
    ("reading", Fault("stall"), HubUnavailable, "model-0000"),
    ("opening", Fault("ignore_range"), HubUnavailable, "range"),
    ("reading", Fault("ignore_range"), HubUnavailable, "range"),
    ("reading", Fault("status", status=500), HubUnavailable, "500"),
    ("opening", Fault("status", status=401), AccessDenied, "401"),
    ("reading", Fault("status", status=401), AccessDenied, "401"),
    ("opening", Fault("status", status=404), NotFound, "404"),
    ("reading", Fault("status", status=404), NotFound, "404"),
    ("opening", Fault("status", status=429, headers={"Retry-After": "600"}), HubUnavailable, "600 s"),
]


@pytest.mark.parametrize(
    ("phase", "fault", "error", "words"), LASTING, ids=[f"{p}-{f.kind}-{f.status}" for p, f, _, _ in LASTING]
)
def test_a_fault_that_stays_is_one_row_and_the_next_run_completes_the_rest(
    loopback, repositories, undisturbed, tmp_path, monkeypatch, phase, fault, error, words
):
    monkeypatch.setattr(remote, "SEGMENT", 200_000)
    if fault.kind == "stall":  # a busy machine must not look like one
        monkeypatch.setattr(hub_module, "READ_SECONDS", 1.0)
    impatient = Hub(endpoint=loopback.endpoint, cache=tmp_path / "hub", patience=Patience(attempts=2, longest_wait=0.2))
    where = digests(loopback, "data/model-1")
    if fault.status in (401, 404) and fault.kind == "status":
        where += "|data/model-1/resolve"  # the Hub itself refuses; a CDN that does is asked again through the Hub
    fault = Fault(fault.kind, where, None, 1.0, fault.status, fault.headers)
    name = {"opening": "_open_all", "reading": "read_sources"}[phase]
    original = getattr(dataset, name)

    def failing(*args, **options):
        with loopback.injecting(fault):
            return original(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(dataset, name, failing)
        report = build_dataset(list(repositories), tmp_path / "blocks.csv", tmp_path / "cache", hub=impatient)
    assert [source.blocks for source in report.sources] == [4, 0, 4]
    (found,) = report.errors
    assert type(found) is error, found.message
    assert words in found.message
    line = (tmp_path / "blocks.sources.csv").read_text().splitlines()[2]
    assert line.startswith("data/model-1,")
    assert f",0,0,{error.code}," in line
    assert b"data/model-1" not in tables(tmp_path)["blocks.csv"] + tables(tmp_path)["blocks.tensors.csv"]
    build_dataset(list(repositories), tmp_path / "blocks.csv", tmp_path / "cache", hub=impatient)
    assert {name: tables(tmp_path)[name] for name in TABLES[:2]} == hub_rows(undisturbed, repositories)
    keys = finished_keys(tmp_path / "cache")
    assert len(keys) == len(set(keys)) == 192


def test_absent_and_gated_repositories_are_rows_of_the_report(hub, loopback, repositories, tmp_path):
    loopback.add("data/gated", {"config.json": b"{}"}, gated="manual")
    names = ["data/none", "data/gated", "data/model-0"]
    report = build_dataset(names, tmp_path / "blocks.csv", tmp_path / "cache", hub=hub)
    assert [source.blocks for source in report.sources] == [0, 0, 4]
    assert [type(error) for error in report.errors] == [NotFound, AccessDenied]


def test_pins_are_written_only_where_they_are_expected(tmp_path):
    path = tmp_path / "models.toml"
    path.write_text('format = 1\n[[model]]\nid = "a/b"\nrevision = "v1"\n[[model]]\nid = "c/d"\nrevision = ""\n')
    with pytest.raises(InvalidDataset, match="no line to write the revision of a/b to"):
        pin_revision(path, "a/b", "0" * 40)
    pin_revision(path, "c/d", "1" * 40)
    assert [model.revision for model in read_sources_file(path).model] == ["v1", "1" * 40]


def test_the_curated_list_is_one(root):
    path = root / "training_data" / "hub_models.toml"
    listed = read_sources_file(path).model
    assert 75 <= len(listed) <= 90
    assert len({model.family for model in listed}) >= 20
    assert all(model.family for model in listed)
    for line in path.read_text().splitlines():
        if re.match(r'id = "(meta-llama/|google/(gemma|paligemma|recurrentgemma))', line):
            assert line.endswith("  # gated"), line


def test_revisions_of_the_curated_list_can_be_filled_in(root, tmp_path):
    path = Path(shutil.copy(root / "training_data" / "hub_models.toml", tmp_path))
    before = read_sources_file(path).model
    chosen = [model.id for model in before if not model.revision][::8]
    for name in chosen:
        pin_revision(path, name, "1" * 40)
    after = {model.id: model.revision for model in read_sources_file(path).model}
    assert after == {model.id: "1" * 40 if model.id in chosen else model.revision for model in before}


def test_the_command_names_failures_and_exits_with_the_first(loopback, repositories, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": loopback.endpoint, "XDG_CACHE_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", "from fastewq.cli import main; main()", "dataset", "build", "data/none"]
    done = subprocess.run(
        [*command, "data/model-0", "-o", str(tmp_path)], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 4, done.stderr
    assert "data/none: failed: data/none" in done.stderr
    assert done.stdout.splitlines() == ["data/model-0: 4 blocks", f"{tmp_path / 'blocks.csv'}: 4 blocks"]
