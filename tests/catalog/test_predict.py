"""The DataFrame from configs to plans: complete, resumable, the same on every engine."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from training.source_wheels import make_model

from fastewq import __version__
from fastewq import engine as engine_module
from fastewq.catalog import predict as predict_module
from fastewq.catalog.build import build_index
from fastewq.catalog.collect import collect
from fastewq.catalog.index import Catalog
from fastewq.catalog.predict import predict
from fastewq.catalog.schema import BLOCKS, CONFIGS, MODELS
from fastewq.catalog.store import Store
from fastewq.engine import Engine
from fastewq.errors import InputError, InvalidDataset, MissingExtra, NotFound, StorageFailure, UnavailableError
from fastewq.hub import Filters
from fastewq.predictor import load_predictor
from fastewq.training.dataset import build_dataset

# Daft leaves the pipe to its worker processes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def write_input(path: Path, configs: dict[str, str]) -> Path:
    rows = [{"id": name, "revision": "a" * 40, "config": text} for name, text in configs.items()]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def tables(store: Store) -> dict[str, list[dict]]:
    """All rows, in an order that does not depend on the files."""
    (version,) = store.versions()
    found = {}
    for kind, schema in (("models", MODELS), ("blocks", BLOCKS)):
        table = pa.concat_tables([pq.read_table(path) for path in store.files(kind, version)])
        assert table.schema == schema
        found[kind] = sorted(table.to_pylist(), key=lambda row: json.dumps(row, sort_keys=True))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory, configs, artefact):
    """A catalog of all configs, planned without disturbance."""
    folder = tmp_path_factory.mktemp("finished")
    store = Store(folder / "catalog")
    with store.locked():
        collect(store, str(write_input(folder / "in.parquet", configs)))
        assert predict(store, artefact=artefact, engine=Engine(workers=1)).new == len(configs)
    return store


@pytest.fixture(scope="module")
def undisturbed(finished):
    return tables(finished)


@pytest.fixture
def store(finished, tmp_path):
    """A copy to be disturbed."""
    shutil.copytree(finished.folder, tmp_path / "catalog")
    return Store(tmp_path / "catalog")


def test_every_config_becomes_one_row_and_its_blocks(undisturbed, configs):
    models, blocks = undisturbed["models"], undisturbed["blocks"]
    assert sorted(row["id"] for row in models) == sorted(configs)
    assert {row["id"]: row["config"] for row in models} == configs
    counts = {row["id"]: row["num_blocks"] or 0 for row in models}
    assert len(blocks) == sum(counts.values())
    for name in ("made/m000", "broken/text"):
        assert sum(row["id"] == name for row in blocks) == counts[name]


def test_a_second_run_does_nothing_and_new_rows_are_added(store, undisturbed, artefact, tmp_path, configs):
    before = {path: path.read_bytes() for path in store.folder.rglob("*.parquet")}
    assert predict(store, artefact=artefact).new == 0
    assert {path: path.read_bytes() for path in store.folder.rglob("*.parquet")} == before
    with store.locked():
        collect(store, str(write_input(tmp_path / "more.parquet", {"new/model": configs["copy/one"]})))
    added = predict(store, artefact=artefact, engine=Engine(workers=1))
    assert (added.new, added.kept) == (1, len(configs))
    assert {row["id"] for row in tables(store)["models"]} == {*configs, "new/model"}


def test_what_a_killed_run_left_is_completed_and_nothing_is_doubled(store, undisturbed, artefact):
    (version,) = store.versions()
    folder = store.plans(version)
    (finished,) = store.files("models", version)
    finished.unlink()  # killed after its blocks and before its models
    (folder / "blocks" / ".half.parquet.77.tmp").write_bytes(b"half")
    (folder / "models" / ".half.parquet.77.tmp").write_bytes(b"half")
    predict(store, artefact=artefact, engine=Engine(workers=1))
    assert tables(store) == undisturbed
    assert not list(folder.rglob(".*"))


def test_only_rows_without_a_plan_are_planned(store, undisturbed, artefact):
    (version,) = store.versions()
    for kind in ("models", "blocks"):
        (path,) = store.files(kind, version)
        table = pq.read_table(path)
        lost = sorted(row["id"] for row in undisturbed["models"])[1::3]
        pq.write_table(table.filter(pc.invert(pc.is_in(table["id"], pa.array(lost)))), path)
    again = predict(store, artefact=artefact, engine=Engine(workers=1))
    assert (again.new, again.kept) == (len(lost), len(undisturbed["models"]) - len(lost))
    assert tables(store) == undisturbed


def test_another_predictor_plans_everything_anew_without_fetching(
    store, undisturbed, artefact, other_artefact, configs
):
    (old,) = store.versions()
    again = predict(store, artefact=other_artefact, engine=Engine(workers=1))
    assert (again.new, again.kept) == (len(configs), 0)
    (new,) = store.versions()
    assert new != old
    assert {row["predictor"] for row in tables(store)["models"]} == {new.partition("+")[0]}


def test_another_fastewq_plans_everything_anew_as_it_may_read_more(store, artefact, configs):
    (version,) = store.versions()
    plans = store.folder / "plans"
    (plans / version).rename(plans / f"{version.partition('+')[0]}+0")
    assert predict(store, artefact=artefact, engine=Engine(workers=1)).new == len(configs)
    assert store.versions() == [version]
    build_index(store)
    assert Catalog(store.index).about["predictor"] == load_predictor(artefact).version


def test_workers_of_another_fastewq_are_refused_with_both_versions(store, artefact, monkeypatch):
    """As on a cluster whose machines were not all updated: its plans would lie among those of another version."""
    shutil.rmtree(store.folder / "plans")
    monkeypatch.setattr(predict_module, "__version__", "9")  # here, and not in the processes that are started
    predictor = load_predictor(artefact).version
    words = (
        rf"^planning stopped: a worker has {predictor}\+{__version__}, the command {predictor}\+9; expected the same"
    )
    with pytest.raises(StorageFailure, match=words):
        predict(store, artefact=artefact, engine=Engine(workers=2))
    assert store.rows("models", f"{predictor}+9") == 0


def test_the_index_names_a_predictor_whose_version_holds_a_plus(store):
    (version,) = store.versions()
    (store.folder / "plans" / version).rename(store.folder / "plans" / "1.0+local+9")
    build_index(store)
    assert Catalog(store.index).about["predictor"] == "1.0+local"


@pytest.mark.parametrize("address", ["a..b:1", f"{'a' * 64}.b:1", "ray://127.0.0.1:99999"])
def test_addresses_that_cannot_be_are_unavailable(address):
    with pytest.raises(UnavailableError, match="cannot be reached"):
        Engine("ray", address=address).start()


@pytest.mark.parametrize("address", ["[::1]:6379", "ray://[::1]:6379"])
def test_an_address_of_ipv6_is_asked_without_its_brackets(address, monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "create_connection", lambda place, _: asked.append(place) or socket.socket())
    engine_module._reach(address)
    assert asked == [("::1", 6379)]


def test_several_processes_give_identical_rows(store, undisturbed, artefact):
    shutil.rmtree(store.folder / "plans")
    predict(store, artefact=artefact, engine=Engine(workers=2))
    assert tables(store) == undisturbed


def test_a_working_directory_that_holds_another_fastewq_is_not_imported(store, undisturbed, artefact, tmp_path):
    """Such as a clone beside an installed FastEWQ. Ray would import it, whatever it is told."""
    (tmp_path / "fastewq").mkdir()
    (tmp_path / "fastewq" / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    shutil.rmtree(store.folder / "plans")
    (tmp_path / "in.jsonl").touch()
    command = [sys.executable, "-P", "-c", "from fastewq.cli import main; main()", "catalog", "build", "in.jsonl"]
    command += ["-o", str(store.folder), "--artefact", str(artefact), "--workers", "2", "--engine"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}

    def run(engine: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, engine], cwd=tmp_path, env=environment, capture_output=True, text=True)

    refused = run("ray")
    assert (refused.returncode, "Ray's workers would import it" in refused.stderr) == (3, True)
    done = run("local")
    assert done.returncode == 0, done.stderr[-2000:]
    assert tables(store) == undisturbed


def test_workers_that_are_killed_while_they_start_are_waited_for_no_longer_than_a_start_takes(
    store, artefact, monkeypatch
):
    shutil.rmtree(store.folder / "plans")
    with monkeypatch.context() as changed:
        changed.setattr(engine_module, "START_SECONDS", 1.0)
        changed.setattr(sys, "executable", shutil.which("false"))
        with pytest.raises(StorageFailure, match=r"^planning stopped: a worker process died or did not start"):
            predict(store, artefact=artefact, engine=Engine(workers=2))
    assert predict(store, artefact=artefact, engine=Engine(workers=1)).kept == 0


# In a process of its own: an engine cannot be changed once Daft has run. The catalog is built by a third process, which
# finds the cluster by its address.
ON_RAY = """
import subprocess
import sys
import ray
from fastewq.cli import main
from fastewq.engine import Engine

Engine("ray", workers=2).start()
build = [sys.executable, "-c", "from fastewq.cli import main; main()", "catalog", "build", sys.argv.pop(1), "-o", "."]
folder = sys.argv.pop(1)  # in which the cluster does not run
build += ["--artefact", sys.argv.pop(1), "--workers", "2", "--engine", "ray"]
subprocess.run([*build, "--address", ray.get_runtime_context().gcs_address], cwd=folder, check=True)
main()
"""


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_ray_cluster_gives_identical_rows_in_catalog_and_dataset(store, undisturbed, artefact, configs, tmp_path):
    """One cluster for both, as starting one takes longer than all the rest."""
    make_model(tmp_path / "models" / "one", seed=1)
    make_model(tmp_path / "models" / "two", seed=2)
    here, there = tmp_path / "here", tmp_path / "there"
    build_dataset([str(tmp_path / "models")], here / "blocks.csv", here / "cache")
    shutil.rmtree(store.folder / "plans")
    collected = write_input(tmp_path / "in.parquet", configs)
    command = [sys.executable, "-c", ON_RAY, str(collected), str(store.folder), str(artefact)]
    command += ["dataset", "build", str(tmp_path / "models"), "-o", str(there), "--cache", str(there / "cache")]
    command += ["--engine", "ray", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert tables(store) == undisturbed
    for name in ("blocks.csv", "blocks.tensors.csv", "blocks.sources.csv"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
    keys = [json.loads(line)["key"] for log in there.rglob("*.jsonl") for line in log.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 128


def test_a_damaged_file_of_plans_is_named_and_can_be_deleted(store, undisturbed, artefact):
    (version,) = store.versions()
    (finished,) = store.files("models", version)
    finished.write_bytes(b"half")
    for read in (lambda: predict(store, artefact=artefact), lambda: build_index(store)):
        with pytest.raises(InvalidDataset, match=finished.name) as found:
            read()
        assert "Delete it" in found.value.hint
    finished.unlink()
    predict(store, artefact=artefact, engine=Engine(workers=1))
    assert tables(store) == undisturbed


def test_plans_without_their_blocks_are_made_again(store, undisturbed, artefact):
    (version,) = store.versions()
    store.files("blocks", version)[0].unlink()
    assert predict(store, artefact=artefact, engine=Engine(workers=1)).new
    assert tables(store) == undisturbed


def test_a_damaged_file_of_configs_can_be_deleted_with_the_plans(finished, store, undisturbed, artefact):
    added = store.folder / "added.jsonl"
    added.write_text(json.dumps({"id": "another/one", "config": {}}))
    with store.locked():
        collect(store, str(added))
    damaged = store.files("configs")[0]
    damaged.write_bytes(b"half")
    with pytest.raises(InvalidDataset, match=damaged.name) as found:
        store.known()
    assert found.value.hint.startswith(f"Delete it and {store.folder / 'plans'}: ")
    damaged.unlink()
    shutil.rmtree(store.folder / "plans")
    with store.locked():
        collect(store, str(finished.folder.parent / "in.parquet"))
    predict(store, artefact=artefact, engine=Engine(workers=1))
    blocks = [row for row in tables(store)["blocks"] if row["id"] != "another/one"]
    assert blocks == undisturbed["blocks"]
    assert build_index(store) == len(undisturbed["models"]) + 1


def test_a_file_that_somebody_put_beside_the_configs_is_named(store):
    shutil.copy(store.files("configs")[0], store.configs / "backup.parquet")
    with pytest.raises(InvalidDataset, match=r"backup\.parquet is no file of a catalog; expected names such as"):
        store.known()


def test_a_folder_that_cannot_be_read_leaves_no_models_out(tmp_path, monkeypatch):
    """The command says so; what is below it would be missing in the catalog, and nobody would know."""
    closed = tmp_path / "org" / "closed"
    closed.mkdir(parents=True)
    (tmp_path / "org" / "open.json").write_text("{}")
    scandir = os.scandir

    def scan(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(StorageFailure, match=r"closed cannot be read: Permission denied"):
        collect(Store(tmp_path / "catalog"), str(tmp_path))


def test_an_empty_revision_is_a_missing_one(tmp_path):
    """Else the second config of a model would be taken for the first."""
    rows = [{"id": "a/b", "revision": "", "config": {"number": number}} for number in range(2)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = Store(tmp_path / "catalog")
    with store.locked():
        assert collect(store, str(tmp_path / "x.jsonl")).added == 2
    assert all(len(revision) == 40 for _, revision in store.revisions())


def test_a_worker_that_dies_leaves_a_line_with_what_may_help(store, artefact, monkeypatch):
    shutil.rmtree(store.folder / "plans")
    evaluate = engine_module.udf.UdfHandle.eval_input

    def kill_first(handle, batch):
        handle.process.kill()
        handle.process.wait()
        return evaluate(handle, batch)

    monkeypatch.setattr(engine_module.udf.UdfHandle, "eval_input", kill_first)
    with pytest.raises(StorageFailure, match=r"^planning stopped: ") as found:
        predict(store, artefact=artefact, engine=Engine(workers=2))
    assert "--workers" in found.value.hint
    del found
    gc.collect()  # of the pipe that Daft leaves open


def test_a_full_disk_stops_it_with_a_line_that_names_the_file(store, artefact, monkeypatch, capfd):
    shutil.rmtree(store.folder / "plans")

    def full(path, table):
        raise StorageFailure(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(predict_module, "write_table", full)
    with pytest.raises(StorageFailure, match=r"^planning stopped: /\S+ cannot be written: No space left on device$"):
        predict(store, artefact=artefact, engine=Engine(workers=1))
    assert capfd.readouterr().err == ""


def test_a_cluster_that_is_not_there_is_named_at_once() -> None:
    with pytest.raises(UnavailableError, match=r"the Ray cluster at 127\.0\.0\.1:9 cannot be reached: .*refused"):
        Engine("ray", address="127.0.0.1:9").start()
    with pytest.raises(InputError, match=r"address is 'head:6379'.*expected engine ray"):
        Engine(address="head:6379").start()


def test_a_cluster_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that wants a token, for instance: Ray's error has no number, and no file."""

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("Could not connect")

    monkeypatch.setattr(engine_module.daft, "set_runner_ray", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=rf"the Ray cluster at {address} refuses: Could not connect"):
            Engine("ray", address=address).start()


def test_ray_that_is_not_installed_is_named_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="the package ray is not installed") as found:
        build_dataset(["no.toml"], tmp_path / "blocks.csv", tmp_path / "cache", engine=Engine("ray"))
    assert "fastewq[cluster]" in found.value.hint


def test_two_commands_do_not_write_at_once(store):
    with store.locked(), pytest.raises(StorageFailure, match="in use by another"), Store(store.folder).locked():
        pass


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("absent.parquet", None, NotFound, "does not exist"),
        ("x.csv", b"id,config", InvalidDataset, "suffix '.csv'"),
        ("x.parquet", b"nonsense", InvalidDataset, "not a Parquet file"),
        ("x.jsonl", b'{"id": 1', InvalidDataset, "line 1: not JSON"),
        ("x.jsonl", b'{"id": "a/b"}\n', InvalidDataset, "expected an object with id, revision and config"),
        ("x.jsonl", b'{"id": 7, "config": {}}\n', InvalidDataset, "line 1: id is 7; expected a string"),
        ("x.jsonl", b'{"id": "a/b", "config": {}, "revision": 1}\n', InvalidDataset, "line 1: revision is 1"),
        ("x.jsonl", b'{"id": "a\\n/b", "config": {}}\n', InvalidDataset, r"id is 'a\\n/b'; expected"),
        ("x.jsonl", b'{"id": "a/b@c", "config": {}}\n', InvalidDataset, "without '@'"),
        ("x.jsonl", b'{"id": "", "config": {}}\n', InvalidDataset, "an id is ''"),
        ("x.jsonl", b'{"id": "a/b", "config": "\\ud800"}\n', InvalidDataset, "not Unicode"),
        ("x.jsonl", b"\xff\xfe", InvalidDataset, "UTF-8"),
        ("x.txt", b"# models\n../../etc/passwd\n", InvalidDataset, "line 2: .* is not a Hub id"),
    ],
)
def test_inputs_that_cannot_be_read_are_refused(tmp_path, name, content, error, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    store = Store(tmp_path / "catalog")
    with store.locked(), pytest.raises(error, match=words):
        collect(store, str(tmp_path / name))
    assert store.rows("configs") == 0


@pytest.mark.parametrize("asked", [{"filters": Filters(author="a")}, {"headers": True}], ids=str)
def test_what_only_a_hub_can_do_is_not_ignored(tmp_path, asked):
    with pytest.raises(InputError, match="hub://"):
        collect(Store(tmp_path / "catalog"), str(tmp_path), **asked)


def test_parquet_without_a_column_or_with_holes(tmp_path):
    store = Store(tmp_path / "catalog")
    pq.write_table(pa.table({"id": ["a/b"], "config": ["{}"]}), tmp_path / "x.parquet")
    with store.locked(), pytest.raises(InvalidDataset, match="lacks the column revision"):
        collect(store, str(tmp_path / "x.parquet"))
    pq.write_table(pa.table({"id": ["a/b"], "revision": ["r"], "config": [{"a": 1}]}), tmp_path / "x.parquet")
    with store.locked(), pytest.raises(InvalidDataset, match="column config is struct<a: int64>; expected string"):
        collect(store, str(tmp_path / "x.parquet"))
    pq.write_table(
        pa.table({"id": ["a/b", None], "revision": ["r", "r"], "config": ["{}", "{}"]}), tmp_path / "x.parquet"
    )
    with store.locked(), pytest.raises(InvalidDataset, match="column id has 1 missing"):
        collect(store, str(tmp_path / "x.parquet"))


def test_folders_and_jsonl_and_keys_that_come_twice(tmp_path, configs):
    folder = tmp_path / "configs"
    (folder / "org" / "nested").mkdir(parents=True)
    (folder / "org" / "nested" / "config.json").write_text(configs["copy/one"])
    (folder / "org--flat.json").write_text(configs["copy/two"])
    for of_nested in ("tokenizer.json", "1_Pooling/config.json", "1_Pooling/x.json"):
        (folder / "org" / "nested" / of_nested).parent.mkdir(exist_ok=True)
        (folder / "org" / "nested" / of_nested).write_text("{}")
    store = Store(tmp_path / "catalog")
    with store.locked():
        assert collect(store, str(folder)).added == 2
        assert collect(store, str(folder)).unchanged == 2
        lines = [json.dumps({"id": "j/one", "revision": "r", "config": json.loads(configs["copy/one"])})] * 2
        (tmp_path / "x.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8-sig")  # as Windows writes it
        counts = collect(store, str(tmp_path / "x.jsonl"))
    assert (counts.found, counts.added, counts.unchanged) == (2, 1, 1)
    keys = store.revisions()
    assert ("j/one", "r") in keys
    assert sorted(name for name, _ in keys) == ["j/one", "org/flat", "org/nested"]
    sequences = [n for path in store.files("configs") for n in pq.read_table(path)["sequence"].to_pylist()]
    assert sequences == sorted(set(sequences))
    assert pq.read_table(store.files("configs")[0]).schema == CONFIGS
