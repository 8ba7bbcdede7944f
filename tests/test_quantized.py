"""Bytes of checkpoints that are already quantized, against what tools wrote and what publishers state."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from fastewq.analysis.tensors import BITS, TensorInfo
from fastewq.architecture import STORED_PRECISIONS, Architecture, Tensor
from fastewq.config import read_config
from fastewq.document import read_plan
from fastewq.errors import CannotExport, InvalidConfig, InvalidPlan, UnsupportedArchitecture
from fastewq.exports import export
from fastewq.plan import plan
from fastewq.quantized import dequantized
from fastewq.quantized.selection import _remembered
from fastewq.source import read_source
from fastewq.stored import dump_tensors, dumped_architecture, logical_tensors

ROOT = Path(__file__).parents[1]
WRITTEN: dict[str, Any] = json.loads((ROOT / "tests" / "data" / "stored_formats.json").read_text("utf-8"))
SHARED = ROOT.parent / "shared" / "configs"

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "dtype": "bfloat16",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "tie_word_embeddings": False,
}
QWEN_MOE = {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "dtype": "bfloat16",
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "moe_intermediate_size": 128,
    "num_experts": 8,
    "vocab_size": 1000,
}


def marked(architecture: Architecture) -> list[tuple[str, Tensor]]:
    """Every tensor with its path."""
    blocks = [(f"{b.path}.{t.name}", t) for s in architecture.stacks for b in s.blocks for t in b.layout.tensors]
    return blocks + [(f"{g.path}.{t.name}", t) for g in architecture.outside for t in g.tensors]


FP8_GROUP = {"targets": ["Linear", "re:.*c_attn"], "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"}}


@pytest.mark.parametrize(
    "said",
    [
        {"quant_method": "fp8"},
        {"quant_method": "fbgemm_fp8"},
        {"quant_method": "bitnet"},
        {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": FP8_GROUP}},
    ],
    ids=lambda said: said["quant_method"],
)
def test_matrices_of_gpt2_are_no_linear_modules(said: dict[str, Any]) -> None:
    """The tools replace `Linear` modules alone; `gpt_bigcode` has these under the names of GPT-2's."""
    sizes = {
        "n_embd": 64,
        "n_head": 4,
        "n_layer": 2,
        "vocab_size": 100,
        "dtype": "bfloat16",
        "quantization_config": said,
    }
    gpt2, bigcode = read_config(sizes | {"model_type": "gpt2"}), read_config(sizes | {"model_type": "gpt_bigcode"})
    blocks = [{t.name for t in a.stacks[0].blocks[0].layout.tensors if t.stored} for a in (gpt2, bigcode)]
    assert blocks == [set(), {f"{m}.weight" for m in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")}]
    gptq = read_config(sizes | {"model_type": "gpt2", "quantization_config": {"quant_method": "gptq", "bits": 4}})
    assert {t.name for t in gptq.stacks[0].blocks[0].layout.tensors if t.stored} == blocks[1]


def with_headers(case: dict[str, Any]) -> tuple[Architecture, bool]:
    tensors = (TensorInfo(n, tuple(shape), dtype, "f", 0, 0) for n, (dtype, shape) in case["tensors"].items())
    return dumped_architecture(case["config"], dump_tensors(tensors))


def tensor_bytes(architecture: Architecture) -> dict[str, int]:
    """Path -> bytes of every tensor, two per weight where it is not quantized."""
    return {path: t.stored.bytes if t.stored else 2 * t.parameters for path, t in marked(architecture)}


def precisions(config: dict[str, Any]) -> dict[str, str]:
    """Path -> precision of every matrix that is stored quantized."""
    return {path: t.stored.precision for path, t in marked(read_config(config)) if t.stored}


@pytest.mark.parametrize("name", WRITTEN)
def test_bytes_are_those_a_tool_wrote(name: str) -> None:
    """Every tensor, to the byte; the JSON text in bitsandbytes' 4-bit matrices varies in length by a few."""
    case = WRITTEN[name]
    written = [
        TensorInfo(n, tuple(shape), dtype, "f", 0, prod(shape) * BITS[dtype] // 8)
        for n, (dtype, shape) in case["tensors"].items()
    ]
    expected = {t.name: t.nbytes for t in logical_tensors(written, case["config"]["quantization_config"])}
    found = tensor_bytes(read_config(case["config"]))
    assert found.keys() == expected.keys()
    slack = 24 if "4" in name and "bitsandbytes" in name else 0
    wrong = {n: (found[n], size) for n, size in expected.items() if abs(found[n] - size) > slack}
    assert not wrong
    quantized = sum(expected.values()) < 2 * read_config(case["config"]).parameters
    assert quantized != (name == "bitnet online"), "nothing was quantized, or what is rounded while it runs"


@pytest.mark.parametrize("name", WRITTEN)
def test_headers_of_a_quantized_checkpoint_agree_with_its_config(name: str) -> None:
    config = WRITTEN[name]["config"]
    architecture, agree = with_headers(WRITTEN[name])
    assert agree, architecture.warnings
    assert architecture.quantization == read_config(config).quantization


def test_bytes_of_headers_correct_what_a_config_leaves_out() -> None:
    """ModelOpt's config does not name the size of groups; here it is half of what is usual."""
    case = json.loads(json.dumps(WRITTEN["modelopt INT4_AWQ_CFG"]))
    for name, (_, shape) in case["tensors"].items():
        if name.endswith("weight_scale"):
            shape[1] *= 2
    by_config = read_config(case["config"])
    found, agree = with_headers(case)
    assert not agree
    scales = sum(prod(shape) * 4 for name, (_, shape) in case["tensors"].items() if name.endswith("weight_scale"))
    sizes = [sum(t.stored.bytes for _, t in marked(a) if t.stored) for a in (by_config, found)]
    assert sizes[1] - sizes[0] == scales // 2
    assert "model.layers, blocks 0-1: quantized matrices have " in found.warnings[-1]


def test_a_matrix_that_mlx_left_alone_is_seen_in_the_headers() -> None:
    """MLX's config does not say which modules were left alone."""
    case = json.loads(json.dumps(WRITTEN["mlx 4-bit"]))
    module = "model.layers.1.self_attn.o_proj"
    case["tensors"] = {n: t for n, t in case["tensors"].items() if not n.startswith(module)}
    case["tensors"][f"{module}.weight"] = ["BF16", [320, 192]]
    found, agree = with_headers(case)
    assert not agree
    assert [name for name, t in marked(found) if t.role == "linear" and not t.stored] == [f"{module}.weight"]
    assert found.warnings[-1].startswith("model.layers, blocks 1: quantized matrices have ")
    assert found.warnings[-1].endswith("(not quantized there: self_attn.o_proj.weight)")


def test_an_lm_head_left_alone_is_seen_in_the_headers() -> None:
    case = json.loads(json.dumps(WRITTEN["mlx 4-bit"]))
    case["tensors"] = {n: t for n, t in case["tensors"].items() if not n.startswith("lm_head")}
    case["tensors"]["lm_head.weight"] = ["BF16", [320, 320]]
    found, agree = with_headers(case)
    assert not agree
    assert [name for name, t in marked(found) if t.role == "linear" and not t.stored] == ["lm_head.weight"]


def test_gpt_oss_has_its_published_size() -> None:
    """openai/gpt-oss-20b: the index of its files states a total_size of 13,761,264,768 bytes."""
    path = SHARED / "openai--gpt-oss-20b.json"
    if not path.is_file():
        pytest.skip("needs ../shared")
    found = plan(json.loads(path.read_text("utf-8")))
    assert found.totals.raw_bytes == 13_761_264_768
    assert {b.precision for b in found.stacks[0].blocks if b.precision != "int8"} <= {"mxfp4"}


def with_quantization(base: dict[str, Any], **q: Any) -> dict[str, Any]:
    return {**base, "quantization_config": q}


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}


def test_what_is_remembered_of_one_model_says_nothing_wrong_about_another() -> None:
    """One list for models of other sizes, names and roles, read in turn, and lists that differ in a word."""
    q = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["mlp.down_proj", "fc1"]}
    kept_elsewhere = {**q, "modules_to_not_convert": ["self_attn.q_proj"]}
    llama = json.loads((Path(__file__).parents[1] / "examples" / "llama-3.1-8b.json").read_text("utf-8"))
    models = [llama, {**llama, "hidden_size": 2048}, {**llama, "model_type": "starcoder2", "architectures": None}]
    configs = [{**model, "quantization_config": own} for model in models for own in (q, kept_elsewhere)]

    def alone(config: dict[str, Any]) -> Architecture:
        _remembered.cache_clear()
        return read_config(config)

    expected = [alone(config) for config in configs]
    _remembered.cache_clear()
    assert [read_config(config) for config in (*configs, *configs)] == expected * 2
    assert expected[0] != expected[1]


def test_groups_of_compressed_tensors_go_by_name_before_class() -> None:
    found = precisions(
        with_quantization(
            LLAMA,
            quant_method="compressed-tensors",
            format="mixed-precision",
            config_groups={
                "rest": {"targets": ["Linear"], "weights": INT4, "format": "pack-quantized"},
                "down": {"targets": ["re:.*down_proj"], "weights": INT8, "format": "int-quantized"},
            },
            ignore=["lm_head", "re:.*layers\\.(0|3)\\..*"],
        )
    )
    assert {path.split(".")[2] for path in found} == {"1", "2"}
    assert {p for path, p in found.items() if "down_proj" in path} == {"stored-int8"}
    assert {p for path, p in found.items() if "down_proj" not in path} == {"stored-int4"}


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ("model.layers.1.mlp", 3),
        ("model.layers.1", 7),
        ("model.layers.1*", 7),
        ("layers.1.mlp.up_proj.weight", 1),
        ("q_proj", 4),
        ("self_attn", 16),
        ("model.layers.*.self_attn", 16),
        ("language_model.model.layers.0.self_attn.o_proj", 1),
        ("proj", 0),
        ("gate", 0),
        ("re:.*layers.2.*", 7),
        ("re:model\\.layers\\.\\d+\\.mlp\\.(up|down)_proj$", 8),
        ("re:.*mlp$", 0),
    ],
)
def test_entries_of_a_list_name_whole_modules(entry: str, kept: int) -> None:
    found = precisions(with_quantization(LLAMA, quant_method="fp8", ignore=[entry]))
    assert len(found) == 28 - kept
    assert "lm_head.weight" not in found


def test_experts_follow_the_names_their_files_have() -> None:
    everything = precisions(with_quantization(QWEN_MOE, quant_method="fp8", weight_block_size=[128, 128]))
    assert len(everything) == 3 * 6
    for entry in ("model.layers.0.mlp.experts.0.down_proj", "model.layers.0.mlp.experts", "mlp.experts"):
        found = precisions(with_quantization(QWEN_MOE, quant_method="fp8", modules_to_not_convert=[entry]))
        assert set(everything) - set(found) >= {"model.layers.0.mlp.experts.down_proj"}, entry


def quark(**weight: Any) -> dict[str, Any]:
    return {"quant_method": "quark", "global_quant_config": {"weight": weight}}


MIXED = {
    "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
    "model.layers.1.mlp.up_proj": {"quant_algo": "NVFP4"},
}


@pytest.mark.parametrize(
    ("q", "bits"),
    [
        ({"quant_method": "fbgemm_fp8"}, 8 + 32 / 512),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 4 + 20 / 128 + 32 / 512),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8 + 24 / 512 + 32 / 512),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, 4 + 20 / 64),
        ({"quant_method": "auto-round", "bits": 2, "group_size": 32}, 2 + 18 / 32),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, 4.5),
        ({"quant_algo": "FP8"}, 8),
        ({"quantization": {"quant_algo": "FP8_PB_WO"}}, 8 + 32 / 128**2),
        ({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}, 2),
        ({"bits": 4, "group_size": 128, "desc_act": False, "damp_percent": 0.1}, 4 + 20 / 128 + 32 / 512),
        ({"w_bit": 4, "q_group_size": 128, "zero_point": True}, 4 + 20 / 128),
        ({"bits": 4, "group_size": 64}, 4.5),
        ({"bits": 8, "group_size": 32, "mode": "affine"}, 9),
        ({"bits": 4, "group_size": 32, "mode": "mxfp4"}, 4.25),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}},
            },
            8,
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}},
            },
            4.25,
        ),
        ({"quantization_config": {"config_groups": {"g": {"targets": ["Linear"], "weights": INT8}}}}, 8 + 16 / 512),
    ],
)
def test_bits_per_weight_of_a_projection(q: dict[str, Any], bits: float) -> None:
    """Of a 512 x 512 matrix, constants per matrix apart."""
    architecture = read_config(with_quantization(LLAMA, **q))
    stored = next(t.stored for t in architecture.layouts[0].tensors if t.name == "self_attn.o_proj.weight")
    assert stored is not None
    assert 0 <= stored.bytes - bits * 512 * 512 / 8 <= 16


def test_mlx_quantizes_embeddings_too_and_has_the_published_size() -> None:
    """mlx-community/Llama-3.2-3B-Instruct-4bit: its one file has 1,807,496,278 bytes with its header."""
    llama = {
        **LLAMA,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    }
    found = plan(llama | {"quantization": {"group_size": 64, "bits": 4}})
    assert found.model["quantization"] == "mlx"
    assert 0 < 1_807_496_278 - found.totals.raw_bytes < 100_000


def test_mlx_gives_single_modules_other_bits() -> None:
    own = {"model.layers.0.mlp.up_proj": {"group_size": 64, "bits": 8}, "model.layers.1.self_attn.q_proj": False}
    found = precisions({**LLAMA, "quantization": {"group_size": 64, "bits": 4, **own}})
    assert found["model.layers.0.mlp.up_proj.weight"] == "stored-int8"
    assert "model.layers.1.self_attn.q_proj.weight" not in found
    assert found["lm_head.weight"] == found["model.embed_tokens.weight"] == "stored-int4"


@pytest.mark.parametrize(
    "q",
    [
        {"quant_method": "auto-round", "data_type": "nv_fp", "bits": 4, "group_size": 16},
        {"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}},
        {
            "quant_method": "compressed-tensors",
            "format": "marlin-24",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int"}}},
        },
        {"bits": 4, "group_size": 32, "mode": "new"},
        {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int3"}}},
        {"quant_method": "quark", "global_quant_config": {"weight": {}}, "layer_quant_config": {"*.q_proj": {}}},
        {"something": 1},
    ],
)
def test_formats_that_are_not_known_are_not_guessed(q: dict[str, Any]) -> None:
    found = read_config(with_quantization(LLAMA, **q))
    assert "is not understood" in found.warnings[-1]
    assert not any(layout.quantized for layout in found.layouts)


def test_bits_may_be_integral_floats() -> None:
    four, fourth = (with_quantization(LLAMA, quant_method="gptq", bits=bits, group_size=128) for bits in (4, 4.0))
    assert read_config(four) == read_config(fourth)
    with pytest.raises(InvalidConfig, match=r"quantization_config.bits is 4.5; expected an integer"):
        read_config(with_quantization(LLAMA, quant_method="gptq", bits=4.5, group_size=128))


@pytest.mark.parametrize("q", [[1], "int8", 4])
def test_a_quantization_that_is_no_object_is_refused(q: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"quantization_config is .*; expected an object"):
        read_config({**LLAMA, "quantization_config": q})


def test_modelopt_mixed_precision_lists_its_modules() -> None:
    found = precisions(
        with_quantization(LLAMA, quant_method="modelopt", quant_algo="MIXED_PRECISION", quantized_layers=MIXED)
    )
    assert found == {
        "model.layers.0.self_attn.q_proj.weight": "fp8",
        "model.layers.1.mlp.up_proj.weight": "nvfp4",
    }


def test_the_backbone_of_files_is_the_model() -> None:
    """nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4 and its relatives: the library renames `backbone.` to `model.`."""
    config = {"model_type": "nemotron_h", "layers_block_type": ["mamba", "attention", "mamba"], "vocab_size": 512}
    kept = ["lm_head", "backbone.layers.0.mixer.in_proj"]
    q = {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": kept}
    one = precisions(with_quantization(config, **q))
    assert "model.layers.0.mixer.in_proj.weight" not in one
    assert one["model.layers.2.mixer.in_proj.weight"] == "nvfp4"
    listed = {"backbone.layers.0.mixer.in_proj": {"quant_algo": "FP8"}}
    q = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": listed}
    assert precisions(with_quantization(config, **q)) == {"model.layers.0.mixer.in_proj.weight": "fp8"}


def test_modelopt_that_lists_every_expert_is_read_by_the_first() -> None:
    """nvidia/MiniMax-M3-NVFP4 has 22,422 entries, 384 for the experts of one block."""
    listed = {
        f"model.layers.{i}.mlp.experts.{e}.{name}": {"quant_algo": "NVFP4", "group_size": 16}
        for i in range(3)
        for e in range(2000)
        for name in ("gate_proj", "up_proj", "down_proj")
    }
    q = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": listed}
    found = read_config(with_quantization(QWEN_MOE, **q))
    assert found.warnings == ()
    assert set(precisions(with_quantization(QWEN_MOE, **q)).values()) == {"nvfp4"}


def test_shared_experts_are_no_stacked_ones() -> None:
    """MiniMax-M3 names its dense feed-forward in two ways; neither takes the format of the experts."""
    listed = {
        "language_model.model.layers.1.block_sparse_moe.experts.0.w3": {"quant_algo": "NVFP4"},
        "language_model.model.layers.1.block_sparse_moe.shared_experts.gate_proj": {"quant_algo": "MXFP8"},
        "language_model.model.layers.0.mlp.gate_proj": {"quant_algo": "MXFP8"},
        "language_model.model.layers.1.self_attn.index_q_proj": {"quant_algo": "MXFP8"},
    }
    text = {"num_hidden_layers": 2, "moe_layer_freq": [0, 1], "num_local_experts": 4}
    text |= {"sparse_attention_config": {"sparse_attention_freq": [0, 1], "sparse_index_dim": 128}}
    config = {"model_type": "minimax_m3_vl", "text_config": text}
    found = precisions(
        with_quantization(config, quant_method="modelopt", quant_algo="MIXED_PRECISION", quantized_layers=listed)
    )
    inside = "model.language_model.layers"
    assert found[f"{inside}.1.mlp.shared_experts.gate_up_proj.weight"] == "mxfp8"
    assert found[f"{inside}.0.mlp.gate_up_proj.weight"] == "mxfp8"
    assert found[f"{inside}.1.self_attn.indexer.q_proj.weight"] == "mxfp8"
    assert found[f"{inside}.1.mlp.experts.gate_up_proj"] == "nvfp4"


def test_modelopt_without_a_method_is_known_by_its_algorithm() -> None:
    """Qwen/Qwen3-32B-FP8-Static-PerTensor: groups without targets, and no quant_method."""
    groups = {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}
    found = read_config(with_quantization(LLAMA, quant_algo="FP8", config_groups=groups, ignore=["lm_head"]))
    assert found.quantization == "modelopt"
    assert all(layout.quantized for layout in found.layouts)


def test_fp8_with_experts_in_another_format() -> None:
    """nvidia/DeepSeek-V4-Flash-NVFP4: `ignore` lists what is not in 4 bits, which stays in fp8."""
    found = precisions(
        with_quantization(
            {"model_type": "deepseek_v4", "num_hidden_layers": 2},
            quant_method="fp8",
            moe_quant_algo="NVFP4",
            group_size=16,
            weight_block_size=[128, 128],
            scale_fmt="ue8m0",
            ignore=["*.attn.*", "*.ffn.shared_experts.*", "head"],
        )
    )
    assert {p for path, p in found.items() if ".experts." in path} == {"nvfp4"}
    assert {p for path, p in found.items() if "self_attn" in path or "shared_experts" in path} == {"fp8"}


MIXTRAL: dict[str, Any] = {
    "model_type": "mixtral", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 4, "vocab_size": 64, "num_local_experts": 2, "dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.parametrize(("version", "changed", "apart"), [
    ("4.57.1", {}, True),
    ("5.0.0", {}, False),
    (None, {}, False),
    ("4.57.1", {"model_type": "gpt_oss", "head_dim": 16}, False),
    ("4.57.1", {"model_type": "gpt_oss", "head_dim": 16, "unsloth_fixed": True}, True),
    ("5.0.0", {"model_type": "sdar_moe", "num_experts": 2, "moe_intermediate_size": 64}, True),
])  # fmt: skip
def test_bitsandbytes_leaves_experts_in_one_tensor_alone(
    version: str | None, changed: dict[str, Any], apart: bool
) -> None:
    """Which version 5 of the transformers library has for all of its models, and some types had before."""
    config = with_quantization({**MIXTRAL, "transformers_version": version, **changed}, load_in_8bit=True)
    found = {name.rpartition(".self_attn.")[1] or name.rpartition(".mlp.experts.")[1] for name in precisions(config)}
    assert found == ({".self_attn.", ".mlp.experts."} if apart else {".self_attn."})


def test_bitsandbytes_and_experts_take_what_the_library_saved() -> None:
    """365,712 bytes: a random model of this config, loaded in 8 bits by transformers 5.23 and saved."""
    config = with_quantization({**MIXTRAL, "transformers_version": "5.23.0"}, load_in_8bit=True)
    assert plan(config).totals.raw_bytes == 365_712


def test_bitsandbytes_leaves_falcons_own_linear_modules_alone() -> None:
    falcon = {"model_type": "falcon", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    assert not precisions(with_quantization({**falcon, "transformers_version": "5.23.0"}, load_in_8bit=True))
    assert precisions(with_quantization({**falcon, "transformers_version": "4.27.4"}, load_in_8bit=True))


def test_an_unknown_method_counts_the_weights_before_it_and_says_so() -> None:
    found = plan(with_quantization(LLAMA, quant_method="sorcery"))
    assert found.totals.raw_bytes == 2 * found.model["parameters"]
    assert found.model["already_quantized"]
    assert found.model["quantization"] == "sorcery"
    assert any("'sorcery' is not understood" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    "q",
    [
        {"quant_method": "fp8", "ignored_layers": ["a"] * 100_000},
        {"quant_method": "fp8", "ignored_layers": [f"re:.*{i}.*" for i in range(1000)]},
        {"quant_method": "fp8", "ignored_layers": [f"re:{i}" for i in range(1000)]},
        {"quant_method": "fp8", "ignored_layers": [f"a{'b' * i}" for i in range(200)]},
        {"quant_method": "fp8", "ignored_layers": [f"layers.0.{'b' * i}" for i in range(200)]},
        {"quant_method": "fp8", "ignored_layers": [f"layers.{i}.b" for i in range(9000)]},
        {"quant_method": "gptq", "dynamic": {f"+:a{i}": {} for i in range(100)}},
        {"quant_method": "auto-round", "extra_config": {f"a{i}": {"bits": 2, "group_size": i} for i in range(1, 100)}},
    ],
)
def test_a_list_too_long_to_follow_is_a_warning(q: dict[str, Any]) -> None:
    found = read_config(with_quantization(LLAMA, **q))
    assert "before quantization" in found.warnings[-1]
    assert not any(layout.quantized for layout in found.layouts)


def test_a_pattern_that_cannot_be_followed_is_named() -> None:
    found = plan(with_quantization(LLAMA, quant_method="fp8", ignore=["re:(a+)+$"]))
    assert any("(a+)+" in warning for warning in found.warnings)


# -- the plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_never_rounds_to_more_bits_than_there_are() -> None:
    fp8 = plan(with_quantization(LLAMA, quant_method="fp8", weight_block_size=[128, 128]), policy="8bit-mixed")
    assert {block.precision for block in fp8.stacks[0].blocks} == {"fp8"}
    assert fp8.totals.bytes == fp8.totals.raw_bytes
    gptq = plan(with_quantization(LLAMA, quant_method="gptq", bits=4))
    assert {block.precision for block in gptq.stacks[0].blocks} == {"stored-int4"}
    assert gptq.totals.bytes == gptq.totals.raw_bytes


def test_blocks_are_rounded_below_what_is_stored() -> None:
    config = with_quantization(LLAMA, quant_method="fp8", weight_block_size=[128, 128])
    found = plan(config, policy={"name": "4bit-8bit-mixed", "overrides": ["1=int4", "2=int8", "0=raw", "3=raw"]})
    assert [block.precision for block in found.stacks[0].blocks] == ["fp8", "int4", "fp8", "fp8"]
    plain = plan(LLAMA, policy={"name": "4bit-8bit-mixed", "overrides": ["1=int4"]})
    assert found.stacks[0].blocks[1].bytes == plain.stacks[0].blocks[1].bytes
    assert found.totals.bytes < found.totals.raw_bytes


def test_modules_that_keep_what_they_have_are_listed() -> None:
    config = with_quantization(
        QWEN_MOE, quant_method="compressed-tensors", config_groups={"g": {"targets": ["Linear"], "weights": INT4}},
        format="pack-quantized", ignore=["lm_head", "re:.*self_attn.*"],
    )  # fmt: skip
    found = plan(config, policy={"name": "8bit-mixed", "overrides": ["0-2=int8"]})
    block = found.stacks[0].blocks[0]
    assert block.precision == "stored-int4"
    assert set(block.modules.values()) == {"int8"}
    assert all(name.startswith("self_attn.") for name in block.modules)


def test_a_budget_counts_what_is_stored() -> None:
    config = with_quantization(LLAMA, quant_method="fp8", weight_block_size=[128, 128])
    stored = plan(config).totals.raw_bytes
    assert {b.precision for b in plan(config, memory=stored).stacks[0].blocks} == {"fp8"}
    tight = plan(config, memory=stored - 1)
    assert "int4" in {b.precision for b in tight.stacks[0].blocks}
    assert "int8" not in {b.precision for b in tight.stacks[0].blocks}
    assert tight.totals.bytes < stored


def test_a_tool_starts_from_plain_weights() -> None:
    config = with_quantization(LLAMA, quant_method="fp8", weight_block_size=[128, 128])
    found, plain = plan(config, target="gguf"), plan(LLAMA, target="gguf")
    assert found.stacks == plain.stacks
    assert found.totals.bytes == plain.totals.bytes
    assert found.totals.raw_bytes < plain.totals.raw_bytes
    assert any("convert them to bfloat16 first" in warning for warning in found.warnings)
    assert export(found, "llama.cpp").files == export(plain, "llama.cpp").files
    with pytest.raises(CannotExport, match=r"already quantized \('fp8'\)"):
        export(plan(config), "llama.cpp")
    assert "lm_head" in export(plan(config), "ignore-list").files["ignore.txt"]


def test_the_document_is_read_back() -> None:
    found = plan(with_quantization(QWEN_MOE, quant_method="fp8", weight_block_size=[128, 128]))
    document = json.loads(json.dumps(found.as_dict()))
    assert read_plan(document).as_dict() == found.as_dict()
    used = {b["precision"] for s in document["stacks"] for b in s["blocks"]}
    assert used & STORED_PRECISIONS
    tensor = next(t for layout in document["layouts"] for t in layout if "stored" in t)
    tensor["stored"]["precision"] = "fp9"
    with pytest.raises(InvalidPlan, match="fp9"):
        read_plan(document)


def test_dequantized_is_the_model_before() -> None:
    config = with_quantization(QWEN_MOE, quant_method="fp8", weight_block_size=[128, 128])
    assert dequantized(read_config(config)).stacks == read_config(QWEN_MOE).stacks


# -- files beside the config ------------------------------------------------------------------------------------------


def test_nvidias_file_beside_the_config_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert "quantization_config" not in read_source(str(tmp_path)).config
    said = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(said))
    for source in (tmp_path, tmp_path / "config.json"):
        found = plan(read_source(str(source)).config)
        assert found.model["quantization"] == "modelopt"
        assert {block.precision for block in found.stacks[0].blocks} >= {"fp8"}


def test_headers_that_are_quantized_although_the_config_says_nothing() -> None:
    case = WRITTEN["fp8"]
    config = {name: value for name, value in case["config"].items() if name != "quantization_config"}
    dump = dump_tensors(TensorInfo(n, tuple(s), d, "f", 0, 0) for n, (d, s) in case["tensors"].items())
    architecture, agree = dumped_architecture(config, dump)
    assert not agree
    assert any("stored as F8_E4M3" in warning for warning in architecture.warnings)
    assert plan(config, architecture=architecture).model["dtype"] == "bfloat16"


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "q",
    [
        {"quant_method": "gptq", "bits": 10**9},
        {"quant_method": "gptq", "bits": "four"},
        {"quant_method": "gptq", "group_size": 2**40},
        {"quant_method": "gptq", "dynamic": [1]},
        {"quant_method": "fp8", "weight_block_size": [0, 128]},
        {"quant_method": "fp8", "weight_block_size": "128"},
        {"quant_method": "fp8", "ignored_layers": [3]},
        {"quant_method": "fp8", "ignored_layers": ["x" * 10_000]},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"targets": ["Linear"], "weights": 4}}},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"targets": [4], "weights": INT4}}},
        {"quant_method": "auto-round", "extra_config": {"a": 4}},
    ],
)
def test_a_malformed_quantization_config_is_refused(q: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match="quantization_config"):
        read_config(with_quantization(LLAMA, **q))


def test_bitnet_with_norms_of_its_own_is_refused() -> None:
    with pytest.raises(UnsupportedArchitecture, match="use_rms_norm"):
        read_config(LLAMA | {"quantization_config": {"quant_method": "bitnet", "use_rms_norm": True}})
