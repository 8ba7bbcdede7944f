"""Language models of codes of images: Chameleon, Emu3, Janus and GLM-Image, with the codecs that make the codes.

The codecs' tensors, those of their few attention blocks too, are counted outside the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from math import log2
from typing import Final

from fastewq.architectures.assembly import (
    HEADS,
    TEXT_HEAD,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Each,
    Embedding,
    Family,
    In,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    linears,
    patches,
    scaled,
    sizes,
    tensors,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.decoders.dense import LLAMA, LLAMA_MLP, uniform
from fastewq.architectures.decoders.halves import GLM4_NORMS
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import Attention, GatedMLP, Part, Tensors, hidden_per_head, kv_heads
from fastewq.architectures.vision.clip import PATCH_KERNEL, fused_layers, vision_layers
from fastewq.architectures.vision_language.multimodal import speaking, speaks

# -- the codec: a convolutional network with attention in between -----------------------------------------------------

Normalize = Callable[[str, int], Part]
"""(name, width) -> a norm over groups of channels."""
Attend = Callable[[Normalize, str, str, int], list[Part]]
"""(norm, path of the attention, path of its norm, width) -> an attention block."""
MOST_BLOCKS: Final = 16
"""Of one resolution."""


def square(name: str, outputs: int, inputs: int, side: int = 3) -> Part:
    return Convolution(name, outputs, inputs, (side, side))


def residual(normalize: Normalize, name: str, inputs: int, outputs: int) -> list[Part]:
    parts = [
        normalize(f"{name}.norm1", inputs),
        square(f"{name}.conv1", outputs, inputs),
        normalize(f"{name}.norm2", outputs),
        square(f"{name}.conv2", outputs, outputs),
    ]
    return parts if inputs == outputs else [*parts, square(f"{name}.nin_shortcut", outputs, inputs, 1)]


def attend(normalize: Normalize, name: str, norm: str, width: int) -> list[Part]:  # noqa: ARG001
    """Its norm lies within."""
    matrices = (square(f"{name}.{matrix}", width, width, 1) for matrix in ("q", "k", "v", "proj_out"))
    return [normalize(f"{name}.norm", width), *matrices]


def middle(normalize: Normalize, attention: Attend | None, name: str, width: int) -> list[Part]:
    parts = residual(normalize, f"{name}.block_1", width, width)
    if attention:
        parts += attention(normalize, f"{name}.attn_1", f"{name}.attn_norm", width)
    return parts + residual(normalize, f"{name}.block_2", width, width)


def resolutions(f: Fields) -> list[int]:
    """Channels, the finest resolution first."""
    return [f["base_channels"] * factor for factor in sizes(f, "channel_multiplier", 1)]


def blocks(f: Fields) -> int:
    return f.count("num_res_blocks", high=MOST_BLOCKS)


def coarser(f: Fields, attention: Attend, attends: Callable[[int], bool], name: str) -> list[Part]:
    """Residual blocks of every resolution, and a strided convolution to the next."""
    widths, parts = resolutions(f), list[Part]()
    for i, (before, width) in enumerate(pairwise((f["base_channels"], *widths))):
        for j in range(blocks(f)):
            parts += residual(Norm, f"{name}.{i}.block.{j}", width if j else before, width)
            if attends(i):
                parts += attention(Norm, f"{name}.{i}.attn.{j}", f"{name}.{i}.attn_norms.{j}", width)
        if i < len(widths) - 1:
            parts.append(square(f"{name}.{i}.downsample.conv", width, width))
    return parts


def finer(
    f: Fields, normalize: Normalize, attention: Attend, attends: Callable[[int], bool], names: Callable[[int], str]
) -> list[Part]:
    """The way back, with one residual block more per resolution; `names` are the paths of the resolutions."""
    widths, parts = resolutions(f), list[Part]()
    before = widths[-1]
    for i in reversed(range(len(widths))):
        name, width = names(i), widths[i]
        for j in range(blocks(f) + 1):
            parts += residual(normalize, f"{name}.block.{j}", before, width)
            before = width
            if attends(i):
                parts += attention(normalize, f"{name}.attn.{j}", f"{name}.attn_norms.{j}", width)
        if i > 0:
            parts.append(square(f"{name}.upsample.conv", width, width))
    return parts


def latent(f: Fields) -> int:
    return f["latent_channels"] * (2 if f.flag("double_latent") else 1)


def encoder(f: Fields, attention: Attend | None, attends: Callable[[int], bool], down: str, mid: str) -> list[Part]:
    last = resolutions(f)[-1]
    return [
        square("conv_in", f["base_channels"], f["in_channels"]),
        *coarser(f, attention or attend, attends, down),
        *middle(Norm, attention, mid, last),
        Norm("norm_out", last),
        square("conv_out", latent(f), last),
    ]


CODEBOOK: tuple[Part, ...] = (
    Embedding("quantize.embedding", "num_embeddings", "embed_dim"),
    Convolution("quant_conv", "embed_dim", "latent_channels", (1, 1)),
    Convolution("post_quant_conv", "latent_channels", "embed_dim", (1, 1)),
)

# -- Chameleon --------------------------------------------------------------------------------------------------------


def chameleon_encoder(f: Fields) -> Tensors:
    vanilla = f.text("attn_type") == "vanilla"
    chosen = sizes(f, "attn_resolutions") if vanilla and f.value("attn_resolutions") is not None else ()
    attention = attend if vanilla else None
    return tensors(f, encoder(f, attention, lambda i: f["resolution"] >> i in chosen, "down", "mid"))


CHAMELEON_CODEC = Rest(Under("encoder", chameleon_encoder), *CODEBOOK)


def norm_of_each(name: str, heads: Size) -> Part:
    return Under(name, *(Parameter(part, (heads, hidden_per_head), "norm") for part in ("weight", "bias")))


CHAMELEON_ATTENTION = Attention(
    bias="attention_bias",
    dim=hidden_per_head,
    extras=(norm_of_each("q_norm", HEADS), norm_of_each("k_norm", kv_heads)),
)
CHAMELEON = Assembly(uniform(CHAMELEON_ATTENTION, LLAMA_MLP), In("vq_config", CHAMELEON_CODEC, path="vqmodel"))

# -- Emu3: its codec also shortens time, and what it makes of codes is normalized by them -----------------------------


def emu3_attention(normalize: Normalize, name: str, norm: str, width: int) -> list[Part]:
    return [*linears(name, "k_proj v_proj q_proj out_proj"), normalize(norm, width)]


def by_codes(codes: int, name: str, width: int) -> Part:
    return Under(name, Norm("norm_layer", width), square("conv_y", width, codes, 1), square("conv_b", width, codes, 1))


def through_time(name: str, width: int, frames: int) -> Part:
    return Convolution(f"{name}.conv", width, width, (frames, 3, 3))


def time_residuals(f: Fields, width: int) -> list[Part]:
    return [
        part
        for i in range(blocks(f))
        for name in (f"time_res_stack.{i}",)
        for part in (
            Norm(f"{name}.norm1", width),
            through_time(f"{name}.conv1", width, 3),
            Norm(f"{name}.norm2", width),
            through_time(f"{name}.conv2", width, 3),
        )
    ]


def halvings(f: Fields) -> int:
    """How often time is halved."""
    return int(log2(f.count("temporal_downsample_factor", low=1, high=1024)))


def emu3_attends(f: Fields) -> Callable[[int], bool]:
    return f.indices("attn_resolutions").__contains__


def emu3_encoder(f: Fields) -> Tensors:
    width = latent(f)
    return tensors(
        f,
        (
            *encoder(f, emu3_attention, emu3_attends(f), "down_block.down", "middle_block"),
            *(through_time(f"time_conv.{i}.conv", width, 4) for i in range(halvings(f))),
            *time_residuals(f, width),
        ),
    )


def emu3_decoder(f: Fields) -> Tensors:
    width, widths = f["latent_channels"], resolutions(f)
    normalize = partial(by_codes, f["embed_dim"])
    return tensors(
        f,
        (
            *time_residuals(f, width),
            *(through_time(f"time_conv.{i}.conv", width, 3) for i in range(halvings(f))),
            square("conv_in", widths[-1], width),
            *middle(normalize, emu3_attention, "middle_block", widths[-1]),
            *finer(f, normalize, emu3_attention, emu3_attends(f), "up_block.up.{}".format),
            normalize("norm_out", widths[0]),
            square("conv_out", f["out_channels"], widths[0]),
        ),
    )


EMU3_CODEC = Rest(
    Under("encoder", emu3_encoder),
    Under("decoder", emu3_decoder),
    Embedding("quantize.embedding", "codebook_size", "embed_dim"),
    Convolution("quant_conv.conv", "embed_dim", "latent_channels", (3, 1, 1)),
    Convolution("post_quant_conv.conv", "latent_channels", "embed_dim", (3, 1, 1)),
)
EMU3_TEXT: Mapping[str, Model] = {"emu3_text_model": decoder(LLAMA)}
EMU3 = (Nested("text_config", "text_model", EMU3_TEXT), In("vq_config", EMU3_CODEC, path="vqmodel"))

# -- Janus: sees by a tower, draws by codes ---------------------------------------------------------------------------

JANUS_FFN = scaled(WIDTH, "mlp_ratio")
JANUS_VISION = Assembly(
    Rest(
        Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL),
        Embedding("embeddings.position_embedding", patches),
        Norm("post_layernorm"),
    ),
    vision_layers(
        "encoder.layers",
        Norm("layer_norm1"),
        *linears("self_attn", "q_proj k_proj v_proj", bias="attention_bias"),
        Linear("self_attn.projection_layer", WIDTH, WIDTH),
        When("use_qk_norm", Norm("self_attn.q_norm"), Norm("self_attn.k_norm")),
        Norm("layer_norm2"),
        Linear("mlp.fc1", JANUS_FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, JANUS_FFN),
        ffn=JANUS_FFN,
    ),
)


def janus_attends(f: Fields) -> Callable[[int], bool]:
    return (len(sizes(f, "channel_multiplier")) - 1).__eq__


def janus_encoder(f: Fields) -> Tensors:
    return tensors(f, encoder(f, attend, janus_attends(f), "down", "mid"))


def janus_decoder(f: Fields) -> Tensors:
    widths = resolutions(f)
    return tensors(
        f,
        (
            square("conv_in", widths[-1], f["latent_channels"]),
            *middle(Norm, attend, "mid", widths[-1]),
            *finer(f, Norm, attend, janus_attends(f), lambda i: f"up.{len(widths) - 1 - i}"),
            Norm("norm_out", widths[0]),
            square("conv_out", f["out_channels"], widths[0]),
        ),
    )


JANUS_CODEC = Rest(Under("encoder", janus_encoder), Under("decoder", janus_decoder), *CODEBOOK)


def aligner(name: str, inputs: Size, layers: str) -> Part:
    """Matrices with an activation between them."""
    width = "projection_dim"
    return Under(
        name,
        Linear("fc1", width, inputs),
        Each("hidden_layers", lambda f: max(f[layers] - 1, 0), (Linear("", width, width),)),
    )


def drawn_width(f: Fields) -> int:
    return f.size("image_token_embed_dim", 2048)


JANUS = (
    In("vision_config", JANUS_VISION, path="vision_model"),
    In("vision_config", Rest(aligner("aligner", WIDTH, "depth")), path=""),
    In("vq_config", JANUS_CODEC, path="vqmodel"),
    In(
        "vq_config",
        Rest(
            Embedding("generation_embeddings", "num_embeddings", "embed_dim"),
            aligner("generation_aligner", "embed_dim", "num_hidden_layers"),
            Linear("generation_head.proj_out", "projection_dim", drawn_width),
            Linear("generation_head.vision_head", "num_embeddings", "projection_dim"),
        ),
        path="",
    ),
    speaks("language_model"),
)

# -- GLM-Image: codes alone; another model draws what they stand for --------------------------------------------------

GLM_VISION = Assembly(
    Rest(
        Embedding("embeddings.position_embedding", patches),
        Convolution("patch_embed.proj", WIDTH, "in_channels", PATCH_KERNEL),
    ),
    fused_layers("attention_bias"),
)
GLM_TEXT: Mapping[str, Model] = {
    "glm_image_text": decoder(
        uniform(Attention(bias="attention_bias", out_bias=False), GatedMLP(fused="gate_up_proj"), norms=GLM4_NORMS)
    )
}
GLM_CODES = Rest(*CODEBOOK)
GLM_IMAGE = (
    Nested("text_config", "language_model", GLM_TEXT),
    In("vision_config", GLM_VISION, path="visual"),
    In("vq_config", GLM_CODES, path="vqmodel"),
)
DRAWS = Rest(Linear("lm_head", "text_config.vision_vocab_size", f"text_config.{WIDTH}", False))

GENERATES = "ForConditionalGeneration"


def codec(name: str, build: BodyBuilder) -> Family:
    return Family(name, {"": build}, "", "")


IMAGE_CODES: Mapping[str, Model] = {
    "chameleon": Family(
        "Chameleon",
        {
            "Model": CHAMELEON,
            GENERATES: Assembly(At("model", CHAMELEON), TEXT_HEAD),
        },
        GENERATES,
    ),
    "chameleon_vqgan": codec("ChameleonVQVAE", CHAMELEON_CODEC),
    **EMU3_TEXT,
    "emu3": Family("Emu3", speaking(*EMU3), GENERATES),
    "emu3_vqgan": codec("Emu3VQVAE", EMU3_CODEC),
    **GLM_TEXT,
    "glm_image": Family("GlmImage", speaking(*GLM_IMAGE, lm_head=DRAWS), GENERATES),
    "glm_image_vision": Family("GlmImageVision", {"Model": GLM_VISION}),
    "glm_image_vqmodel": codec("GlmImageVQVAE", GLM_CODES),
    "janus": Family("Janus", speaking(*JANUS), GENERATES),
    "janus_vision_model": Family("JanusVision", {"Model": JANUS_VISION}),
    "janus_vqgan": codec("JanusVQVAE", JANUS_CODEC),
}
