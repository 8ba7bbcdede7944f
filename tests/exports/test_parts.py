"""Which part of a model a tool takes, for the configs of many architectures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastewq import plan_architecture, read_config
from fastewq.architecture import Architecture
from fastewq.document import Plan
from fastewq.exports import export
from fastewq.exports.assignment import assign
from fastewq.exports.gptqmodel import CROSS_ATTENTION, TAKEN_APART, WHOLE, leaves_out
from fastewq.exports.names import GPTQMODEL, GPTQMODEL_KEEPS
from fastewq.exports.text_part import text_part, text_paths, text_stacks
from fastewq.memory import read_memory
from fastewq.modules import FUSED, module_name
from fastewq.predictor import load_predictor

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "architectures" / "golden"
LISTED: dict[str, Any] = json.loads((TESTS / "data" / "gptqmodel_modules.json").read_text("utf-8"))
"""What GPTQModel's definitions list, written by tools/gptqmodel_modules.py."""


def configs(model_type: str) -> list[dict[str, Any]]:
    file = GOLDEN / f"{model_type}.json"
    return [case["config"] for case in json.loads(file.read_text("utf-8"))["cases"]] if file.exists() else []


def planned(architecture: Architecture, **options: Any) -> Plan:
    blocks = sum(len(stack.blocks) for stack in architecture.stacks)
    return plan_architecture(architecture, np.full(blocks, 0.5), predictor=load_predictor(), **options)


@pytest.mark.parametrize(
    ("model_type", "texts"),
    [
        ("bart", ["encoder", "decoder"]),
        ("bert", ["encoder"]),
        ("deepseek_ocr2", ["decoder"]),  # its towers are called sam and encoder
        ("gemma3", ["decoder"]),
        ("granite_speech", ["decoder"]),
        ("idefics3", ["decoder"]),  # in text_model
        ("llama", ["decoder"]),
        ("llama4", ["decoder"]),
        ("marian", ["encoder", "decoder"]),  # an embedding each
        ("nemotron_h_omni", ["decoder"]),
        ("phi4_multimodal", ["decoder"]),  # model.layers, with towers below model.embed_tokens_extend
        ("qwen2_5_omni", ["decoder"]),  # not the talker
        ("qwen3_omni_moe", ["decoder"]),  # neither the talker nor its code predictor
        ("t5", ["encoder", "decoder"]),
        ("video_llava", ["decoder"]),  # a tower is called video
        ("whisper", ["decoder"]),
    ],
)
def test_the_language_model_is_known_by_its_embedding(model_type: str, texts: list[str]) -> None:
    plan = planned(read_config(configs(model_type)[0]))
    assert [stack.name for stack in text_stacks(plan)] == texts


@pytest.mark.parametrize(
    ("model_type", "told"),
    [
        ("idefics2", True),
        ("deepseek_ocr2", True),
        ("video_llava", True),
        ("t5", False),
        ("t5gemma2", False),
        ("whisper", False),
        ("musicgen", False),
        ("bark", False),
        ("blt", False),
        ("mask2former", False),
        ("sam3", False),
        ("vit", False),
        ("wav2vec2", False),
    ],
)
def test_engines_that_count_layers_count_those_of_one_language_model(model_type: str, told: bool) -> None:
    """Whatever the parts are called that prepare what it reads; an encoder and its decoder are not such a pair."""
    architecture = read_config(configs(model_type)[0])
    made = export(planned(architecture, memory=read_memory(devices=["1TiB", "1TiB"])), "devices")
    assert ("llama_cpp_args.txt" in made.files) is told
    if told:
        (text,) = [stack for stack in architecture.stacks if stack.role == "decoder"]
        split = [int(n) for n in made.files["llama_cpp_args.txt"].split()[-1].split(",")]
        assert sum(split) == len(text.blocks) + 1


@pytest.mark.parametrize(
    ("model_type", "inside", "outside"),
    [
        ("llava", ["model.language_model.norm", "lm_head"], ["model.multi_modal_projector.linear_1"]),
        ("llama4", ["language_model.model.norm", "language_model.lm_head"], ["multi_modal_projector.linear_1"]),
        ("smolvlm", ["model.text_model.norm", "lm_head"], ["model.connector.modality_projection.proj"]),
        (
            "phi4_multimodal",
            ["model.norm", "lm_head"],
            ["model.embed_tokens_extend.image_embed.img_projection_up", "model.embed_tokens_extend.audio_embed.x"],
        ),
        ("idefics", ["model.norm", "lm_head"], ["model.vision_model.post_layernorm"]),
        ("qwen2_5_omni", ["thinker.lm_head"], ["talker.lm_head", "talker.model.norm", "token2wav.lm_head"]),
    ],
)
def test_what_belongs_to_the_language_model(model_type: str, inside: list[str], outside: list[str]) -> None:
    is_text = text_paths(planned(read_config(configs(model_type)[0])))
    assert [path for path in [*inside, *outside] if is_text(path)] == inside


def test_the_part_counts_its_own_blocks_and_bytes() -> None:
    plan = planned(read_config(configs("qwen2_5_omni")[0]))
    whole = assign(plan, "plain")
    part = text_part(whole, "not taken")
    assert part.part
    assert not whole.part
    assert {m.path.split(".")[0] for m in part.modules if m.block >= 0} == {"thinker"}
    assert sorted({m.block for m in part.modules if m.block >= 0}) == list(range(len(part.plan.stacks[0].blocks)))
    assert part.tensor_bytes() < whole.tensor_bytes()
    assert {d.path.split(".")[0] for d in part.differences} <= {"thinker", "talker", "token2wav"}


def test_every_definition_of_gptqmodel_is_listed() -> None:
    assert LISTED.keys() == GPTQMODEL
    assert GPTQMODEL_KEEPS.keys() | TAKEN_APART <= GPTQMODEL


@pytest.mark.parametrize("model_type", sorted(GPTQMODEL))
def test_gptqmodel_says_where_it_does_not_find_the_blocks(model_type: str) -> None:
    generating = [c for c in configs(model_type) if str(c.get("architectures")).endswith(("LM']", "Generation']"))]
    for config in generating[:1]:
        plan = planned(read_config(config))
        paths = {stack.blocks[0].path.rpartition(".")[0] for stack in text_stacks(plan)}
        warnings = export(plan, "gptqmodel", nearest=True).warnings
        assert any("looks for the blocks" in warning for warning in warnings) is not any(
            f"{path}.".startswith(f"{listed}.") for path in paths for listed in LISTED[model_type]["blocks"]
        )


@pytest.mark.parametrize("model_type", sorted(GPTQMODEL))
def test_gptqmodel_quantizes_what_its_definition_lists(model_type: str) -> None:
    listed = set(LISTED[model_type]["modules"])
    architectures = [read_config(config) for config in configs(model_type)] if listed else []
    texts = {stack.name for architecture in architectures[:1] for stack in text_stacks(planned(architecture))}
    wrong = set()
    for architecture in architectures:
        layouts = {layout for stack in architecture.stacks if stack.name in texts for layout in stack.blocks.layouts}
        for layout in layouts:
            names = {module_name(tensor.name) for tensor in layout.tensors if tensor.role == "linear"}
            if model_type in TAKEN_APART:
                split = {name for name in names if name.endswith(f".{WHOLE}")}
                names = (names - split) | {n.removesuffix(WHOLE) + part for n in split for part in FUSED[WHOLE]}
            crossing = CROSS_ATTENTION.get(model_type)
            if not crossing or not any(name.startswith(crossing) for name in names):
                wrong |= {name for name in names if leaves_out(model_type, name) is (name in listed)}
    assert wrong == set()
