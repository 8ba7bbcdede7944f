"""The towers of Gemma 3n and Gemma 4: what they see and hear through."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    WIDTH,
    Assembly,
    Convolution,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    entry,
    linears,
    quotient,
    sizes,
)
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, Tensors, parameter
from fastewq.architectures.vision.clip import vision_layers

QUERIES = "num_attention_heads*head_dim"
KEYS = "num_key_value_heads*head_dim"
GEMMA4_VISION = Assembly(
    Rest(
        Parameter("patch_embedder.position_embedding_table", (2, "position_embedding_size", WIDTH), "embedding"),
        Linear("patch_embedder.input_proj", WIDTH, "3*patch_size*patch_size", False),
    ),
    vision_layers(
        "encoder.layers",
        Linear("self_attn.q_proj.linear", QUERIES, WIDTH, False),
        Linear("self_attn.k_proj.linear", KEYS, WIDTH, False),
        Linear("self_attn.v_proj.linear", KEYS, WIDTH, False),
        Linear("self_attn.o_proj.linear", WIDTH, QUERIES, False),
        Norm("self_attn.q_norm", "head_dim", False),
        Norm("self_attn.k_norm", "head_dim", False),
        *linears("mlp", "gate_proj.linear up_proj.linear", FFN, WIDTH, False),
        Linear("mlp.down_proj.linear", WIDTH, FFN, False),
        Norm("input_layernorm", bias=False),
        Norm("post_attention_layernorm", bias=False),
        Norm("pre_feedforward_layernorm", bias=False),
        Norm("post_feedforward_layernorm", bias=False),
        kv_heads="num_key_value_heads",
        head_dim="head_dim",
        norm="rms",
    ),
)


def gemma4_audio_feed_forward(name: str) -> Part:
    return Under(
        name,
        Linear("ffw_layer_1.linear", "4*hidden_size", WIDTH, False),
        Linear("ffw_layer_2.linear", WIDTH, "4*hidden_size", False),
        Norm("pre_layer_norm", bias=False),
        Norm("post_layer_norm", bias=False),
    )


def gemma4_audio_features(f: Fields) -> int:
    """Inputs of the projection after two strided convolutions."""
    first, second = sizes(f, "subsampling_conv_channels", 2)[:2]
    return first // 4 * second


def subsampling(first: str, second: str, channels: str, features: Size) -> Part:
    """Two strided convolutions, a norm after each, and a projection; `channels` is a list in the config."""
    one, two = entry(channels, 0), entry(channels, 1)
    return Under(
        "subsample_conv_projection",
        Convolution(f"{first}.conv", one, 1, (3, 3), bias=False),
        Norm(f"{first}.norm", one, False),
        Convolution(f"{second}.conv", two, one, (3, 3), bias=False),
        Norm(f"{second}.norm", two, False),
        Linear("input_proj_linear", WIDTH, features, False),
    )


GEMMA4_AUDIO = Assembly(
    Rest(
        subsampling("layer0", "layer1", "subsampling_conv_channels", gemma4_audio_features),
        Linear("output_proj", "output_proj_dims", WIDTH),
    ),
    Layers(
        "layers",
        (
            gemma4_audio_feed_forward("feed_forward1"),
            gemma4_audio_feed_forward("feed_forward2"),
            Parameter("self_attn.per_dim_scale", (quotient(WIDTH, HEADS),)),
            *linears("self_attn", "q_proj.linear k_proj.linear v_proj.linear post.linear relative_k_proj", bias=False),
            Linear("lconv1d.linear_start.linear", "2*hidden_size", WIDTH, False),
            Linear("lconv1d.linear_end.linear", WIDTH, WIDTH, False),
            Convolution("lconv1d.depthwise_conv1d", WIDTH, 1, ("conv_kernel_size",), bias=False),
            Norm("lconv1d.pre_layer_norm", bias=False),
            Norm("lconv1d.conv_norm", bias=False),
            Norm("norm_pre_attn", bias=False),
            Norm("norm_post_attn", bias=False),
            Norm("norm_out", bias=False),
        ),
        name="audio",
        role="audio",
        ffn="4*hidden_size",
        norm="rms",
    ),
)


def gemma3n_audio_feed_forward(name: str) -> Part:
    return Under(
        name,
        Norm("pre_layer_norm", bias=False),
        Linear("ffw_layer_1", "4*hidden_size", WIDTH, False),
        Linear("ffw_layer_2", WIDTH, "4*hidden_size", False),
        Norm("post_layer_norm", bias=False),
    )


def gemma3n_audio_features(f: Fields) -> int:
    """Inputs of the projection: each convolution, of a kernel of 3 with padding, halves the frequencies."""
    f.require("sscp_conv_kernel_size", ([[3, 3], [3, 3]],))
    f.require("sscp_conv_stride_size", ([[2, 2], [2, 2]],))
    once = (f["input_feat_size"] + 1) // 2
    return (once + 1) // 2 * sizes(f, "sscp_conv_channel_size", 2)[-1]


GEMMA3N_HEADS = "conf_num_attention_heads"
GEMMA3N_AUDIO = Assembly(
    Rest(
        subsampling("conv_0", "conv_1", "sscp_conv_channel_size", gemma3n_audio_features),
    ),
    Layers(
        "conformer",
        (
            gemma3n_audio_feed_forward("ffw_layer_start"),
            Norm("attention.pre_attn_norm", bias=False),
            Parameter("attention.attn.per_dim_scale", (quotient(WIDTH, GEMMA3N_HEADS),)),
            *linears(
                "attention.attn",
                "relative_position_embedding.pos_proj q_proj k_proj v_proj",
                WIDTH,
                WIDTH,
                False,
            ),
            Linear("attention.post", WIDTH, WIDTH, False),
            Norm("attention.post_norm", bias=False),
            Norm("lconv1d.pre_layer_norm", bias=False),
            Linear("lconv1d.linear_start", "2*hidden_size", WIDTH, False),
            Convolution("lconv1d.depthwise_conv1d", WIDTH, 1, ("conf_conv_kernel_size",), bias=False),
            Norm("lconv1d.conv_norm", bias=False),
            Linear("lconv1d.linear_end", WIDTH, WIDTH, False),
            gemma3n_audio_feed_forward("ffw_layer_end"),
            Norm("norm", bias=False),
        ),
        count="conf_num_hidden_layers",
        name="audio",
        role="audio",
        heads=GEMMA3N_HEADS,
        ffn="4*hidden_size",
        norm="rms",
    ),
)


def mobilenet(f: Fields) -> Tensors:
    """The one tower Gemma 3n has, counted as a whole: `timm.create_model("mobilenetv5_300m_enc", num_classes=0)`."""
    f.choice("architecture", ("mobilenetv5_300m_enc",))
    return parameter("timm_model", 294_126_912, role="conv")


GEMMA_TOWERS: dict[str, Family] = {
    "gemma4_vision": Family("Gemma4Vision", {"Model": GEMMA4_VISION}),
    "gemma3n_audio": Family("Gemma3nAudio", {"Encoder": GEMMA3N_AUDIO}, "Encoder", "Encoder"),
    "gemma3n_vision": Family("Gemma3nVision", {"Model": Rest(mobilenet)}),
    "gemma4_audio": Family("Gemma4Audio", {"Model": GEMMA4_AUDIO}),
}
