"""CLIP's text encoder beside other towers: GroupViT's, which groups patches, and X-CLIP's, which sees frames."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Family,
    In,
    Layers,
    Linear,
    Named,
    Norm,
    Parameter,
    Rest,
    Stages,
    Under,
    entry,
    length,
    linears,
    patches,
    quotient,
    tensors,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, Tensors
from fastewq.architectures.vision.clip import CLIP_LAYER, CLIP_TEXT, OWL_VISION_REST, vision_layers
from fastewq.architectures.vision.images import patch_embedding, position_table

# -- GroupViT ---------------------------------------------------------------------------------------------------------


def perceptron(name: str, inputs: Size, inner: Size, outputs: Size) -> Part:
    return Under(name, Linear("fc1", inner, inputs), Linear("fc2", outputs, inner))


ATTENTION = linears("attn", "k_proj v_proj q_proj out_proj")


def assignment(f: Fields, tokens: int, groups: int) -> list[Part]:
    """Patches become as many tokens as there are groups."""
    ratios = f.value("assign_mlp_ratio")
    if not isinstance(ratios, list | tuple):
        ratios = (ratios, ratios)
    if len(ratios) != 2 or not all(type(r) in (int, float) and 0 < r <= 64 for r in ratios):
        raise f.refuse("assign_mlp_ratio", ratios, "two numbers from 0 to 64")
    among, within = (int(ratio * f[WIDTH]) for ratio in ratios)
    return [
        *(Norm(name) for name in ("norm_tokens", "norm_post_tokens", "norm_x", "norm_new_x")),
        perceptron("mlp_inter", tokens, among, groups),
        Under(
            "pre_assign_attn",
            *ATTENTION,
            Norm("norm2"),
            Norm("norm_post"),
            perceptron("mlp", WIDTH, FFN, WIDTH),
        ),
        *linears("assign", "q_proj k_proj v_proj proj"),
        perceptron("mlp_channels", WIDTH, within, WIDTH),
    ]


def counts(f: Fields, name: str, entries: int) -> list[int]:
    """A list of sizes, of which those at the end may be 0."""
    values = f.per_layer(name, entries)
    if not all(type(v) is int and 0 <= v <= 65_536 for v in values):
        raise f.refuse(name, values, "a list of numbers of tokens")
    return list(values)


def grouping(f: Fields) -> Tensors:
    """Beside the blocks of every stage: its group tokens, and how patches are given to them."""
    stages = f[length("depths")]
    tokens, groups = counts(f, "num_group_tokens", stages), counts(f, "num_output_groups", stages)
    parts: list[Part] = []
    for i, count in enumerate(tokens):
        if count == 0:
            continue
        path, before = f"encoder.stages.{i}", groups[i - 1] if i else 0
        parts.append(Parameter(f"{path}.group_token", (1, count, WIDTH)))
        parts.append(Under(f"{path}.downsample", *assignment(f, count, groups[i])))
        if before:
            parts.append(Norm(f"{path}.group_projector.0"))
            parts.append(perceptron(f"{path}.group_projector.1", before, quotient(WIDTH, 2), count))
    return tensors(f, parts)


def group_blocks(i: int) -> Layers:
    return vision_layers(f"encoder.stages.{i}.layers", *CLIP_LAYER, count=entry("depths", i))


GROUPVIT_VISION = Assembly(
    Rest(position_table(patches), patch_embedding(), Norm("embeddings.layernorm"), grouping, Norm("layernorm")),
    Stages(length("depths"), group_blocks),
)


def projection(name: str, inputs: Size) -> Part:
    inner = "projection_intermediate_dim"
    return Under(name, Linear("0", inner, inputs), Norm("1", inner), Linear("3", "projection_dim", inner))


SEEN, READ = f"vision_config.{WIDTH}", f"text_config.{WIDTH}"
GROUPVIT = Assembly(
    In("text_config", CLIP_TEXT, path="text_model"),
    In("vision_config", GROUPVIT_VISION, path="vision_model"),
    Rest(
        Parameter("logit_scale", ()),
        projection("visual_projection", SEEN),
        projection("text_projection", READ),
    ),
)

# -- X-CLIP: frames send each other messages, and the prompt depends on what is seen ----------------------------------

XCLIP_VISION = Assembly(
    OWL_VISION_REST,
    vision_layers(
        "encoder.layers",
        *CLIP_LAYER,
        Linear("message_fc", WIDTH, WIDTH),
        Norm("message_ln"),
        *linears("message_attn", "k_proj v_proj q_proj out_proj"),
    ),
)
FRAMES = Assembly(
    Rest(Parameter("position_embedding", (1, "num_frames", WIDTH), "embedding")),
    vision_layers("encoder.layers", *CLIP_LAYER, name="frames"),
)
INTEGRATED = (WIDTH, FFN, "num_hidden_layers", "num_attention_heads")


def integrating(f: Fields) -> Fields:
    return f.replaced(**{name: f.value(f"mit_{name}") for name in INTEGRATED})


PROMPT = "projection_dim"
XCLIP = Assembly(
    In("text_config", CLIP_TEXT, path="text_model"),
    In("vision_config", XCLIP_VISION, path="vision_model"),
    In("vision_config", Adjusted(FRAMES, integrating), path="mit"),
    Named(
        "prompts",
        At(
            "prompts_generator",
            Rest(Norm("layernorm", PROMPT), Parameter("alpha", (PROMPT,))),
            Layers(
                "decoder",
                (
                    *linears("cross_attn", "k_proj v_proj q_proj", PROMPT, PROMPT, False),
                    Linear("cross_attn.proj", PROMPT, PROMPT),
                    Norm("norm1", PROMPT),
                    Norm("norm3", PROMPT),
                    Linear("mlp.0", f"4*{PROMPT}", PROMPT),
                    Linear("mlp.3", PROMPT, f"4*{PROMPT}"),
                ),
                count="prompt_layers",
                width=PROMPT,
                heads="prompt_num_attention_heads",
                ffn=f"4*{PROMPT}",
            ),
        ),
    ),
    Rest(
        Linear("visual_projection", PROMPT, SEEN, False),
        Linear("text_projection", PROMPT, READ, False),
        Parameter("logit_scale", ()),
        Norm("prompts_visual_layernorm", SEEN),
        Parameter("prompts_visual_projection", (SEEN, PROMPT), "linear"),
    ),
)


def inside(name: str, body: BodyBuilder) -> dict[str, BodyBuilder]:
    return {"Model": At(name, body)}


CLIP_RELATIVES: Mapping[str, Family] = {
    "groupvit": Family("GroupViT", {"Model": GROUPVIT}),
    "groupvit_text_model": Family("GroupViTText", inside("text_model", CLIP_TEXT)),
    "groupvit_vision_model": Family("GroupViTVision", inside("vision_model", GROUPVIT_VISION)),
    "xclip": Family("XCLIP", {"Model": XCLIP}),
    "xclip_text_model": Family("XCLIPText", {"Model": CLIP_TEXT}),
    "xclip_vision_model": Family("XCLIPVision", {"Model": XCLIP_VISION}),
}
