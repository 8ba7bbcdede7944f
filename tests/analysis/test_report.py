"""The whole analysis on small checkpoints: numbers by hand, the document, what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from safetensors.numpy import save_file

from fastewq.analysis.checkpoints import open_checkpoint
from fastewq.analysis.report import SCHEMA, analyze, analyze_checkpoint
from fastewq.errors import InputError, InvalidCheckpoint, NonFiniteWeights

from .making import bits_of, exact_entropies, numbers_of, small_model, write_safetensors


def save(folder, tensors, value_type="F32"):
    stored = {
        name: (value_type, t.shape, bits_of(t, value_type).tobytes()) if isinstance(t, np.ndarray) else t
        for name, t in tensors.items()
    }
    write_safetensors(folder / "model.safetensors", stored)
    return folder


def by_hand(tensors, eps, vectors=False):
    """H_block of each block of `small_model`, from the definition."""
    entropies = []
    for n in range(sum(name.endswith("up_proj.weight") for name in tensors)):
        chosen = [t for name, t in tensors.items() if name.startswith(f"model.layers.{n}.") and (vectors or t.ndim > 1)]
        sizes = [t.size for t in chosen]
        exact = [exact_entropies(t, [eps])[0] for t in chosen]
        entropies.append(float(sum(n * h for n, h in zip(sizes, exact, strict=True)) / sum(sizes)))
    return entropies


@pytest.mark.parametrize("eps", [0, 0.01])
@pytest.mark.parametrize("vectors", [False, True])
def test_block_entropies_and_labels_are_those_of_the_definition(tmp_path, eps, vectors):
    tensors = small_model()
    analysis = analyze(save(tmp_path, tensors), epsilon=eps, include_vectors=vectors)
    (stack,) = analysis.stacks
    entropies = [b.entropy for b in stack.blocks]
    assert entropies == pytest.approx(by_hand(tensors, eps, vectors), rel=1e-13)
    assert stack.mean == pytest.approx(np.mean(entropies), rel=1e-14)
    assert stack.std == pytest.approx(np.std(entropies), rel=1e-8)
    assert stack.threshold == stack.mean - stack.std
    for block in stack.blocks:
        keep, aggressive = block.entropy > stack.mean, block.entropy <= stack.threshold
        assert block.label == ("keep" if keep else "aggressive" if aggressive else "8-bit")
        assert block.quantized is not keep
    assert {b.label for b in stack.blocks} == {"keep", "8-bit", "aggressive"}


def test_the_document(tmp_path):
    tensors = small_model()
    document = analyze(save(tmp_path, tensors, "BF16"), x=0.5).as_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert {k: document[k] for k in ("schema", "model", "epsilon", "x", "include_vectors")} == {
        "schema": SCHEMA,
        "model": tmp_path.name,
        "epsilon": 0.01,
        "x": 0.5,
        "include_vectors": False,
    }
    (stack,) = document["stacks"]
    assert set(stack) == {"name", "mean", "std", "threshold", "blocks"}
    block = stack["blocks"][1]
    assert (block["index"], block["path"]) == (1, "model.layers.1")
    assert block["parameters"] == 32 + 32 * 32 + 96 * 32
    assert set(block) == {"index", "path", "parameters", "entropy", "label", "quantized", "tensors"}
    names = ["input_layernorm.weight", "self_attn.q_proj.weight", "mlp.up_proj.weight"]
    assert [t["name"] for t in block["tensors"]] == [f"model.layers.1.{name}" for name in names]
    tensor = block["tensors"][1]
    assert (tensor["shape"], tensor["dtype"]) == ([32, 32], "BF16")
    numbers = numbers_of(bits_of(tensors[tensor["name"]], "BF16"), "BF16")
    assert tensor["entropy"] == pytest.approx(float(exact_entropies(numbers, [0.01])[0]), rel=1e-14)
    (reading,) = tensor["readings"]
    assert reading["minimum"] == numbers.min()
    assert set(reading["rounding_error"]) == {"8", "4", "3"}


def test_the_order_and_number_of_shards_do_not_matter(tmp_path):
    tensors = small_model(6)
    whole = analyze(save(tmp_path, tensors)).as_dict()
    folder = tmp_path / tmp_path.name  # the same name, since a document says which model it is of
    folder.mkdir()
    names = sorted(tensors, key=lambda n: n[::-1])
    files = [f"model-{i:05d}-of-00005.safetensors" for i in range(1, 6)]
    for i, file in enumerate(files):
        save_file({n: tensors[n] for n in names[i::5]}, folder / file)
    weight_map = {n: files[i % 5] for i, n in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    sharded = analyze(folder, threads=1).as_dict()
    for a, b in zip(whole["stacks"][0]["blocks"], sharded["stacks"][0]["blocks"], strict=True):
        assert sorted(a.pop("tensors"), key=lambda t: t["name"]) == sorted(b.pop("tensors"), key=lambda t: t["name"])
    assert sharded == whole


def test_relabelling_is_analysing_again(tmp_path):
    folder = save(tmp_path, small_model())
    analysis = analyze(folder, more_epsilons=(0, 1e-4))
    for options in ({"epsilon": 0.0}, {"epsilon": 1e-4, "x": 2.0}, {"include_vectors": True}, {"x": 0.1}):
        again, directly = analysis.relabel(**options), analyze(folder, **options)
        for a, b in zip(again.stacks[0].blocks, directly.stacks[0].blocks, strict=True):
            assert (a.entropy, a.label) == (b.entropy, b.label)
        assert again.stacks[0].threshold == directly.stacks[0].threshold
    with pytest.raises(InputError, match=r"epsilon 0\.5 was not computed"):
        analysis.relabel(epsilon=0.5)


def test_experts_count_one_matrix_each(tmp_path):
    rng = np.random.default_rng(0)
    stacked = {f"model.layers.{n}.mlp.experts.up_proj": rng.standard_normal((3, 8, 16)) * 0.1 for n in range(2)}
    router = {f"model.layers.{n}.mlp.gate.weight": rng.standard_normal((3, 16)) for n in range(2)}
    analysis = analyze(save(tmp_path, stacked | router), epsilon=0)
    apart = {
        f"model.layers.{n}.mlp.experts.{e}.up_proj.weight": stacked[f"model.layers.{n}.mlp.experts.up_proj"][e]
        for n in range(2)
        for e in range(3)
    }
    separate = analyze(save(tmp_path, apart | router), epsilon=0)
    assert [b.entropy for b in analysis.stacks[0].blocks] == [b.entropy for b in separate.stacks[0].blocks]
    assert len(analysis.stacks[0].blocks[0].tensors[0].readings) == 3


def test_float8_scales_are_no_matrices(tmp_path):
    codes = np.random.default_rng(0).integers(0, 0x78, (2, 2, 16, 16)).astype(np.uint8)
    tensors = {}
    for n in range(2):
        for m in range(2):
            tensors[f"layers.{n}.{m}.weight"] = ("F8_E4M3", (16, 16), codes[n, m].tobytes())
            tensors[f"layers.{n}.{m}.weight_scale_inv"] = ("F32", (1, 1), np.float32(0.001).tobytes())
    (stack,) = analyze(save(tmp_path, tensors)).stacks
    assert [len(b.tensors) for b in stack.blocks] == [2, 2]
    assert stack.blocks[0].tensors[0].readings[0].maximum < 0.5


def test_masks_are_left_out(tmp_path):
    tensors = small_model()
    expected = analyze(save(tmp_path, tensors)).as_dict()
    mask = np.tril(np.ones((1, 1, 32, 32), np.float32))
    masked = tensors | {f"model.layers.{n}.attn.bias": mask for n in range(4)}
    assert analyze(save(tmp_path, masked)).as_dict() == expected


@pytest.mark.parametrize("value_type", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.2.mlp.up_proj.weight", "model.layers.1.input_layernorm.weight"]
)
def test_a_nan_anywhere_names_file_and_tensor(tmp_path, value_type, bad, name):
    tensors = small_model()
    tensors[name].flat[7] = bad
    with pytest.raises(NonFiniteWeights, match=rf"model\.safetensors: tensor {name} holds 1 NaN or infinite"):
        analyze(save(tmp_path, tensors, value_type))


def test_packed_integers_in_a_block_are_refused(tmp_path):
    packed = {f"model.layers.{n}.q_proj.qweight": ("I32", (4, 4), bytes(64)) for n in range(2)}
    scales = {f"model.layers.{n}.q_proj.scales": ("F16", (4, 4), bytes(32)) for n in range(2)}
    with pytest.raises(InvalidCheckpoint, match=r"model\.layers\.0\.q_proj\.qweight is stored as I32"):
        analyze(save(tmp_path, packed | scales))


def test_counters_and_position_tables_are_passed_over(tmp_path):
    tensors = small_model()
    expected = analyze(save(tmp_path, tensors)).as_dict()
    extra = {
        "embeddings.position_ids": ("I64", (1, 5), bytes(40)),
        "model.layers.0.relative_position_index": ("I64", (2, 2), bytes(32)),
        "model.layers.0.empty": ("F32", (0, 3), b""),
    }
    found = analyze(save(tmp_path, tensors | extra)).as_dict()
    assert found == expected


def test_a_checkpoint_without_blocks_is_refused(tmp_path):
    with pytest.raises(InvalidCheckpoint, match="no numbered blocks"):
        analyze(save(tmp_path, {"a.weight": np.ones((2, 2)), "b.weight": np.ones((2, 2))}))


@pytest.mark.parametrize("options", [{"epsilon": -1}, {"epsilon": math.nan}, {"x": math.inf}, {"more_epsilons": [-2]}])
def test_impossible_options_are_refused(tmp_path, options):
    with pytest.raises(InputError):
        analyze(save(tmp_path, small_model()), **options)


def test_progress_counts_bytes_to_the_end(tmp_path):
    seen: list[tuple[int, int]] = []
    checkpoint = open_checkpoint(save(tmp_path, small_model()))
    analyze_checkpoint(checkpoint, progress=lambda done, total: seen.append((done, total)))
    total = sum(t.nbytes for t in checkpoint.tensors)
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
