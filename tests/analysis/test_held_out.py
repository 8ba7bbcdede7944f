"""Whole checkpoints of awkward weights, in every stored type, through the analysis and against the definition."""

from __future__ import annotations

import json
import math

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from fastewq.analysis.dequantize import block_layout, can_dequantize
from fastewq.analysis.report import analyze

from .making import EPSILONS, bits_of, exact_entropies, numbers_of, write_safetensors

VALUE_TYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
LARGEST = dict(zip(VALUE_TYPES, (1e30, 3e38, 6e4, 3e38, 448.0, 57344.0, 240.0, 57344.0), strict=True))
SMALLEST = dict(zip(VALUE_TYPES, (5e-324, 1e-45, 6e-8, 1e-40, 2**-9, 2**-16, 2**-10, 2**-17), strict=True))


def awkward(value_type: str) -> list[np.ndarray]:
    """Matrices, one per case, not yet rounded to the type."""
    random = np.random.default_rng(VALUE_TYPES.index(value_type))

    def normal(scale: float = 0.02) -> np.ndarray:
        return random.standard_normal((24, 40)) * scale

    def with_one(value: float) -> np.ndarray:
        weights = normal()
        weights[17, 5] = value
        return weights

    return [
        normal(),
        with_one(1e4 if LARGEST[value_type] > 1e4 else LARGEST[value_type]),
        with_one(LARGEST[value_type]),
        with_one(-LARGEST[value_type]),
        np.sign(normal()) * SMALLEST[value_type],  # subnormal, both signs
        np.full((24, 40), 0.5),
        np.zeros((24, 40)),
        np.where(normal() > 0, 0.0, -0.0),
        np.array([[0.25]]),
        normal(1.0)[:1],
    ]


def check(found: dict[float, float], values: np.ndarray, case: object) -> None:
    """To 1e-12, or to the 60 digits of the reference itself, where an outlier leaves less than 1e-46 to the others."""
    for eps, exact in zip(EPSILONS, exact_entropies(values, EPSILONS), strict=True):
        assert abs(found[eps] - exact) <= 1e-12 * abs(exact) + 1e-58, f"{case}, eps {eps}: {found[eps]!r}, not {exact}"


def write_sharded(folder, tensors, shards: int = 3) -> None:
    """Tensors dealt to the shards in turn, so that every block lies in several of them."""
    weight_map = {name: f"model-{n % shards + 1:05}-of-{shards:05}.safetensors" for n, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        write_safetensors(folder / file, {name: tensors[name] for name in tensors if weight_map[name] == file})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_every_type_with_outliers_subnormals_constants_and_empty_tensors(tmp_path, value_type):
    stored, values = {}, {}
    for n, weights in enumerate(awkward(value_type)):
        bits = bits_of(weights, value_type)
        name = f"model.layers.{n}.mlp.up_proj.weight"
        stored[name] = (value_type, bits.shape, bits.tobytes())
        stored[f"model.layers.{n}.mlp.gate_proj.weight"] = (value_type, (0, 16), b"")
        stored[f"model.layers.{n}.self_attn.q_proj.weight"] = (
            value_type,
            (1, 3),
            bits_of([1.0] * 3, value_type).tobytes(),
        )
        values[name] = numbers_of(bits, value_type)
    write_sharded(tmp_path, stored)
    (stack,) = analyze(tmp_path, more_epsilons=EPSILONS, threads=2).stacks
    assert len(stack.blocks) == len(values)
    for block, (name, expected) in zip(stack.blocks, values.items(), strict=True):
        tensor, _ = sorted(block.tensors, key=lambda t: t.info.name)  # the empty one is left out
        assert tensor.info.name == name
        check(tensor.readings[0].entropies, expected, name)
        assert tensor.readings[0].maximum == expected.max()
        assert tensor.readings[0].zeros == np.mean(expected == 0)


def test_a_block_of_mixed_types_is_weighted_by_size_and_labelled_by_the_definition(tmp_path):
    stored, entropies = {}, []
    for n in range(5):
        weighted, size = 0, 0
        for k, value_type in enumerate(VALUE_TYPES):
            weights = np.random.default_rng(10 * n + k).standard_normal((8 + 4 * k, 32)) * 0.3 * (1 + (2 * n) % 5)
            if n == 3 and value_type == "F32":
                weights[0, 0] = 1e30
            bits = bits_of(weights, value_type)
            stored[f"model.layers.{n}.part{k}.weight"] = (value_type, bits.shape, bits.tobytes())
            (exact,) = exact_entropies(numbers_of(bits, value_type), [0.01])
            weighted, size = weighted + exact * bits.size, size + bits.size
        entropies.append(weighted / size)
    write_sharded(tmp_path, stored)
    (stack,) = analyze(tmp_path).stacks
    for block, exact in zip(stack.blocks, entropies, strict=True):
        assert abs(block.entropy - exact) <= 1e-12 * abs(exact)
    mean = math.fsum(map(float, entropies)) / 5
    assert [block.quantized for block in stack.blocks] == [h <= mean for h in entropies]
    assert stack.blocks[3].quantized


def test_every_gguf_type_that_the_package_dequantizes(tmp_path):
    types = [t.name for t in gguf.quants._type_traits if can_dequantize(t.name)]
    assert {t.name for t in gguf.quants._type_traits} - set(types) <= {"F32", "F16", "BF16"}
    assert len(types) >= 20
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    expected = {}
    for n, name in enumerate(types):
        per_block, size = block_layout(name)
        # Bytes below 0x3c: as a float16 scale they are finite and at most about 1.
        raw = np.random.default_rng(n).integers(0, 0x3C, (4, 512 // per_block * size), dtype=np.uint8)
        writer.add_tensor(f"blk.{n}.ffn_up.weight", raw, raw_dtype=GGMLQuantizationType[name])
        writer.add_tensor(f"blk.{n}.ffn_down.weight", np.ones((2, 512), np.float32))
        expected[f"blk.{n}.ffn_up.weight"] = gguf.quants.dequantize(raw, GGMLQuantizationType[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (stack,) = analyze(tmp_path / "m.gguf", more_epsilons=EPSILONS).stacks
    found = {tensor.info.name: tensor.readings[0] for block in stack.blocks for tensor in block.tensors}
    for name, values in expected.items():
        assert np.isfinite(values).all()
        check(found[name].entropies, values, name)
