"""GGUF end to end with the `gguf` package: a random llama is written, quantized as planned, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from exports.conftest import LLAMA, MOE, Planner
from fastewq import read_config
from fastewq.apply import apply
from fastewq.document import Plan
from fastewq.errors import CannotExport, InvalidCheckpoint, NotFound, StorageFailure
from fastewq.exports import export
from fastewq.exports.names import gguf_leaves
from fastewq.modules import modules

TYPES = {"bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0", "ternary": "TQ2_0"}


def write_source(path: Path, plan: Plan, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.BF16) -> Path:
    """A raw GGUF file of the plan's model with random weights and a small made-up vocabulary."""
    model_type = plan.model["model_type"]
    architecture, names = model_type.replace("_", ""), gguf_leaves(model_type)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(sum(len(stack.blocks) for stack in plan.stacks))
    writer.add_token_list([f"t{i}" for i in range(128)])
    writer.add_float32("llama.rope.freq_base", 10000.0)
    random = np.random.default_rng(0)

    def add(name: str, shape: tuple[int, ...], raw: gguf.GGMLQuantizationType) -> None:
        values = random.normal(0, 0.02, shape).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, raw), raw_dtype=raw)

    f32 = gguf.GGMLQuantizationType.F32
    for stack in plan.stacks:
        for block in stack.blocks:
            for number, tensor in enumerate(plan.layouts[block.layout]):
                parts = names.get(tensor.name.removesuffix(".weight"))
                if parts and tensor.role != "router":
                    rows = tensor.shape[-2] // len(parts)
                    for part in parts:
                        shape = (*tensor.shape[:-2], rows, tensor.shape[-1])
                        add(f"blk.{block.index}.{part}.weight", shape, kind)
                elif tensor.role == "router":
                    add(f"blk.{block.index}.ffn_gate_inp.weight", tensor.shape, f32)
                else:
                    add(f"blk.{block.index}.n{number}_norm.weight", tensor.shape, f32)
    for group in plan.other:
        last = group.path.rpartition(".")[2]
        name = {"embed_tokens": "token_embd", "lm_head": "output"}.get(last, "output_norm")
        add(f"{name}.weight", plan.layouts[group.layout][0].shape, f32 if last == "norm" else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("config", [LLAMA, MOE], ids=["dense", "experts"])
@pytest.mark.parametrize("lowest", ["int4", "ternary"])
def test_written_types_and_size_are_the_plans(
    config: dict[str, Any], lowest: str, planned: Planner, tmp_path: Path
) -> None:
    blocks = config["num_hidden_layers"]
    overrides = [f"0-{blocks - 1}={lowest}", "0=raw", "*.1.self_attn.*=int8"]
    plan = planned(config, overrides, policy={"embeddings": "int8"}, intermediate_size=768, moe_intermediate_size=256)
    source = write_source(tmp_path / "raw.gguf", plan)
    seen: list[str] = []
    found = apply(
        plan, "llama.cpp", source, tmp_path / "out.gguf", progress=lambda done, total, name: seen.append(name)
    )

    assert found.wrong == ()
    assert (
        found.modules
        == sum(len(modules(block.layout)) for stack in read_config(config).stacks for block in stack.blocks) + 2
    )
    assert found.size_error == 0
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == "BF16"
    assert kinds["blk.1.attn_q.weight"] == "Q8_0"
    assert kinds["blk.1.ffn_gate_exps.weight" if config is MOE else "blk.1.ffn_gate.weight"] == TYPES[lowest]
    assert kinds["token_embd.weight"] == "Q8_0"
    assert kinds["output.weight"] == "BF16"
    assert {kind for name, kind in kinds.items() if "norm" in name or "gate_inp" in name} == {"F32"}
    assert seen == [t.name for t in gguf.GGUFReader(source).tensors]


def test_metadata_and_values_survive(planned: Planner, tmp_path: Path) -> None:
    plan = planned()
    source, out = write_source(tmp_path / "raw.gguf", plan), tmp_path / "out.gguf"
    apply(plan, "llama.cpp", source, out)
    before, after = gguf.GGUFReader(source), gguf.GGUFReader(out)
    for name, field in before.fields.items():
        if not name.startswith("GGUF."):
            assert after.fields[name].contents() == field.contents()
    for a, b in zip(before.tensors, after.tensors, strict=True):
        old, new = (gguf.quants.dequantize(t.data, t.tensor_type) for t in (a, b))
        error = np.square(old - new).sum() / np.square(old).sum()
        assert error <= {"F32": 0, "BF16": 0, "Q8_0": 5e-5, "Q4_0": 1.2e-2}[b.tensor_type.name]


def test_what_is_no_weight_keeps_its_type(planned: Planner, tmp_path: Path) -> None:
    """The A of a state space has two dimensions, and llama.cpp runs with it in float32 alone."""
    jamba = {
        **LLAMA,
        "architectures": ["JambaForCausalLM"],
        "model_type": "jamba",
        "num_hidden_layers": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 1,
    }
    plan = planned(jamba, ["0-1=int4"])
    writer = gguf.GGUFWriter(tmp_path / "raw.gguf", "jamba")
    for name, raw in (("blk.0.ssm_a", "F32"), ("blk.0.ssm_in.weight", "BF16"), ("blk.0.ssm_dt.weight", "F32")):
        kind, rows = gguf.GGMLQuantizationType[raw], 1 if name == "blk.0.ssm_dt.weight" else 64
        writer.add_tensor(name, gguf.quants.quantize(np.ones((rows, 64), np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    apply(plan, "llama.cpp", tmp_path / "raw.gguf", tmp_path / "out.gguf", nearest=True)
    types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    # As ggml counts dimensions, a matrix of one row has one: llama-quantize keeps gates of one output.
    assert types == {"blk.0.ssm_a": "F32", "blk.0.ssm_in.weight": "Q4_0", "blk.0.ssm_dt.weight": "F32"}


def test_predicted_file_size_is_within_half_a_percent(planned: Planner, tmp_path: Path) -> None:
    """The header holds tokenizer and tensor names, which a plan only estimates; here it is as small as the model."""
    plan = planned(
        hidden_size=1024,
        intermediate_size=2816,
        num_attention_heads=16,
        num_key_value_heads=4,
        num_hidden_layers=4,
        overrides=["0-3=int4"],
    )
    source = write_source(tmp_path / "raw.gguf", plan)
    found = apply(plan, "llama.cpp", source, tmp_path / "out.gguf")
    made = export(plan, "llama.cpp")
    assert abs((made.bytes + made.header_bytes) / found.written.files - 1) < 0.005


def test_sources_that_cannot_be_used(planned: Planner, tmp_path: Path) -> None:
    plan, out = planned(), tmp_path / "out.gguf"
    with pytest.raises(NotFound):
        apply(plan, "llama.cpp", tmp_path / "none.gguf", out)
    (tmp_path / "text.gguf").write_text("no such format, and long enough to be read as one")
    with pytest.raises(InvalidCheckpoint, match="not a GGUF file"):
        apply(plan, "llama.cpp", tmp_path / "text.gguf", out)
    quantized = write_source(tmp_path / "q8.gguf", plan, gguf.GGMLQuantizationType.Q8_0)
    with pytest.raises(CannotExport, match=r"blk\.0\..* is stored as Q8_0"):
        apply(plan, "llama.cpp", quantized, out)
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".fastewq")] == []
    out.write_text("already here")
    with pytest.raises(StorageFailure, match="exists"):
        apply(plan, "llama.cpp", quantized, out)
    assert out.read_text() == "already here"


def test_the_file_of_another_model_is_refused(planned: Planner, tmp_path: Path) -> None:
    """Whose rows the planned format does not divide: the writer would end in a ValueError."""
    wide, narrow = planned(overrides=["0-11=ternary"], policy={"name": "ternary-mixed"}), planned(hidden_size=128)
    source = write_source(tmp_path / "raw.gguf", narrow)
    with pytest.raises(CannotExport, match=r"rows of tensor .* have 128 values; TQ2_0 takes multiples of 256"):
        apply(wide, "llama.cpp", source, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_a_wrong_file_is_found_out(planned: Planner, tmp_path: Path) -> None:
    """The check itself can fail: a file written for another plan is reported module by module."""
    from fastewq.exports.assignment import assign
    from fastewq.exports.readback import check

    plan = planned()
    apply(plan, "llama.cpp", write_source(tmp_path / "raw.gguf", plan), tmp_path / "out.gguf")
    other = planned(overrides=["0-11=int4", "0=raw", "1=int8", "5=int8", "10=raw", "11=int8"])
    found = check(assign(other, "gguf"), "llama.cpp", tmp_path / "out.gguf")
    assert {(path.split(".")[2], a, b) for path, a, b in found.wrong} == {("11", 8, 4)}
    assert len(found.wrong) == 7
    assert found.size_error > 0
