"""Muse Glimmer and Muse Spark: gated attention, and in Spark narrow experts, gated residuals and an audio tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastewq.architectures.assembly import (
    WIDTH,
    Assembly,
    Convolution,
    Embedding,
    Family,
    Layers,
    Linear,
    Nested,
    Norm,
    Rest,
    Stages,
    entry,
    length,
    query_width,
    scaled,
    sizes,
)
from fastewq.architectures.audio.codecs import convolving
from fastewq.architectures.body import Body, always, listed
from fastewq.architectures.decoders.dense import GEMMA2_NORMS, uniform
from fastewq.architectures.decoders.experts import sparse
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import NEVER_TIED, Model, decoder
from fastewq.architectures.parts import (
    Attention,
    GatedMLP,
    MixtureOfExperts,
    Tensors,
    linear,
    norm,
    parameter,
    prefixed,
)
from fastewq.architectures.vision.clip import plain_layer, vision_layers
from fastewq.architectures.vision_language.multimodal import GENERATE, MOUTH, OWN_LM_HEAD, speaking

# -- text -------------------------------------------------------------------------------------------------------------

GATED = Attention(bias="attention_bias", extras=(Linear("gate_proj", query_width, WIDTH, False),))


@dataclass(frozen=True, kw_only=True)
class NarrowExperts(MixtureOfExperts):
    """Experts behind a projection to a narrower width, and one back; the router reads the full width."""

    def __call__(self, f: Fields) -> Tensors:
        hidden, narrow, (inner, experts) = f[WIDTH], f[self.hidden], self.facts(f)
        tensors = (
            *linear("gate", experts, hidden, role="router"),
            *linear("pre_expert_proj", narrow, hidden),
            *norm("pre_expert_norm", narrow),
            *self.stacked("experts.gate_up_proj", experts, 2 * inner, narrow, False),
            *self.stacked("experts.down_proj", experts, narrow, inner, False),
            *norm("experts.post_expert_norm", narrow),
            *linear("post_expert_proj", hidden, narrow),
        )
        return prefixed("mlp", tensors)


def residual_gates(f: Fields) -> Tensors:
    names = ("post_attention_residual_gate.gate", "post_feedforward_residual_gate.gate")
    return tuple(t for name in names for t in parameter(name, f[WIDTH]))


TEXT: Mapping[str, Model] = {
    "muse_glimmer_text": decoder(uniform(GATED, GatedMLP(), norms=GEMMA2_NORMS)),
    "muse_spark_text": decoder(
        sparse(
            GATED,
            NarrowExperts(experts="num_local_experts", hidden="moe_hidden_size"),
            GatedMLP(),
            listed("mlp_layer_types", always("sparse")),
            norms=("input_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
            extras=(residual_gates,),
        ),
        heads=NEVER_TIED,
    ),
}


def layers_read(f: Fields) -> int:
    """Features of the other model's layers that a drafting model reads, side by side."""
    read = 5 if f.value("target_layer_ids", None) is None else f[length("target_layer_ids")]
    return read * f[WIDTH]


DRAFTS = uniform(
    Attention(qk_norm="head"),
    GatedMLP(),
    embed="",
    vocab=WIDTH,
    beside=(Linear("encoder.fc", WIDTH, layers_read, False), Norm("encoder.output_norm_enc", bias=False)),
)


def drafts(f: Fields, path: str) -> Body:
    """Blocks without words of their own: both embeddings are the other model's."""
    return DRAFTS(f, path)._replace(vocab_size=0)


# -- towers -----------------------------------------------------------------------------------------------------------

VISION = Assembly(
    Rest(
        Linear("patch_embedder.patch_embedding", WIDTH, "3*patch_temporal*patch_size*patch_size", False),
        Embedding("patch_embedder.position_embedding_table", "pos_emb_height*pos_emb_width"),
        Norm("ln_pre"),
        Norm("ln_post"),
    ),
    vision_layers("layers", *plain_layer("attn", "proj", ("norm1", "norm2"))),
)
INNER = scaled("stage_width", "mlp_ratio")
STAGES = "num_hidden_layers"


def stage(f: Fields, i: int) -> Fields:
    count = f.layers(STAGES)
    widths, depths = sizes(f, "hidden_sizes", count), sizes(f, "depths", count)
    return f.replaced(stage_width=widths[i], stage_depth=depths[i])


def blocks(i: int) -> Layers:
    return convolving(
        f"layers.{i}.conv_blocks",
        INNER,
        Convolution("conv", "stage_width", 1, ("conv_kernel_size",)),
        Norm("norm", "stage_width", False),
        Linear("mlp.fc1", INNER, "stage_width"),
        Linear("mlp.fc2", "stage_width", INNER),
    )


def embedders(f: Fields) -> Tensors:
    """Before each stage: several samples, or tokens of the last stage, become one."""
    count = f.layers(STAGES)
    widths, patches = sizes(f, "hidden_sizes", count), sizes(f, "patch_sizes", count)
    if not len(widths) == len(patches) == len(sizes(f, "depths")) == count:
        raise f.refuse("patch_sizes", patches, f"a list of {count} sizes, as in hidden_sizes and depths")
    inputs = (1, *widths)
    return tuple(
        t
        for i in range(count)
        for t in (
            *linear(f"layers.{i}.patch_embedder.proj", widths[i], inputs[i] * patches[i], True),
            *norm(f"layers.{i}.patch_embedder.norm", widths[i]),
        )
    )


LAST = entry("hidden_sizes", -1)
OUT: Size = "out_hidden_size"
AUDIO = Assembly(
    Rest(embedders, Norm("norm", LAST, False), Linear("proj", OUT, LAST), Norm("post_proj_norm", OUT, False)),
    Stages(STAGES, blocks, stage),
)
TOWERS = {
    "muse_glimmer_vision": Family("MuseGlimmerVision", {"Model": VISION}),
    "muse_spark_vision": Family("MuseSparkVision", {"Model": VISION}),
    "muse_spark_audio": Family("MuseSparkAudio", {"Model": AUDIO}),
}
GLIMMER = (
    Nested("vision_config", "vision_tower", TOWERS),
    Nested("text_config", "language_model", TEXT),
    Rest(
        Linear("vision_adapter.fc1", "projector_hidden_size", OUT, False),
        Linear("vision_adapter.fc2", "projector_hidden_size", "projector_hidden_size", False),
        Linear("vision_projection", MOUTH, "projector_hidden_size", False),
    ),
)
MUSE: Mapping[str, Model] = {
    **TEXT,
    **TOWERS,
    "muse_glimmer_assistant": Family("MuseGlimmerAssistant", {"Model": drafts}),
    "muse_glimmer": Family("MuseGlimmer", speaking(*GLIMMER), GENERATE),
    "muse_spark": Family(
        "MuseSpark",
        speaking(*GLIMMER, Nested("audio_config", "audio_tower", TOWERS), lm_head=OWN_LM_HEAD),
        GENERATE,
    ),
}
