"""Phi-4-multimodal: Phi-3's decoder, SigLIP's tower for images and a conformer for sounds.

`phi4_multimodal` is the library's model. `phi4mm` is how microsoft/Phi-4-multimodal-instruct was published, with
modeling_phi4mm.py, which is never run: other spellings, and two sets of adapters that stay beside the matrices.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    TEXT_HEAD,
    Adjusted,
    Assembly,
    At,
    Convolution,
    Embedding,
    Family,
    Layers,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    linears,
    query_width,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import Attention, GatedMLP, Part, Tensors, head_dim, kv_heads, linear
from fastewq.architectures.vision.clip import SIGLIP_VISION

WIDTH = "hidden_size"
CHANNELS, OUT = "nemo_conv_channels", "ext_pw_out_channel"


def halvings(f: Fields) -> int:
    """Strided convolutions; each halves time and frequencies."""
    reduction = f.count("time_reduction", low=2, high=1 << 16)
    return reduction.bit_length() - 1


def frequencies(f: Fields) -> int:
    left = f["input_size"]
    for _ in range(halvings(f)):
        left = (left - 1) // 2 + 1
    return (f.optional_size("nemo_final_size") or left) * f[CHANNELS]


def subsampling(f: Fields) -> Tensors:
    parts: list[Part] = [Convolution("conv.0", CHANNELS, 1, (3, 3))]
    for i in range(halvings(f) - 1):
        parts += [
            Convolution(f"conv.{3 * i + 2}", CHANNELS, 1, (3, 3)),
            Convolution(f"conv.{3 * i + 3}", CHANNELS, CHANNELS, (1, 1)),
        ]
    parts.append(Linear("out", WIDTH, frequencies))
    return tuple(t for part in parts for t in part(f))


def buckets(f: Fields) -> int:
    return f["bias_max_distance"] * (1 if f.flag("bias_symmetric", False) else 2)


def feed_forward(name: str) -> Part:
    return Under(
        name,
        Norm("layer_norm"),
        Linear("gate_up_proj", "2*intermediate_size", WIDTH),
        Linear("down_proj", WIDTH, "intermediate_size"),
    )


AUDIO = Assembly(
    Rest(
        Under("embed", subsampling),
        Embedding("relative_attention_bias_layer.bias_values", buckets, "num_attention_heads"),
    ),
    Layers(
        "encoders",
        (
            feed_forward("feed_forward_in"),
            *linears("self_attn", "q_proj k_proj v_proj", query_width, WIDTH),
            Linear("self_attn.o_proj", WIDTH, query_width),
            Norm("conv.layer_norm"),
            Parameter("conv.glu.b1", (1, OUT, 1), "bias"),
            Parameter("conv.glu.b2", (1, OUT, 1), "bias"),
            Convolution("conv.glu.ext_pw_conv_1d", f"2*{OUT}", WIDTH, (1,)),
            Convolution("conv.dw_sep_conv_1d.dw_conv", "hidden_size*depthwise_multiplier", 1, ("kernel_size",)),
            Convolution(
                "conv.dw_sep_conv_1d.pw_conv",
                "depthwise_separable_out_channel",
                "hidden_size*depthwise_multiplier",
                (1,),
            ),
            Convolution("conv.ext_pw_conv_1d", OUT, WIDTH, (1,)),
            feed_forward("feed_forward_out"),
            Norm("layer_norm_att"),
            Norm("layer_norm"),
        ),
        count="num_blocks",
        name="audio",
        role="audio",
        head_dim=head_dim,
    ),
)
EYES = {
    "phi4_multimodal_vision": Family("Phi4MultimodalVision", {"Model": SIGLIP_VISION}),
    "phi4_multimodal_audio": Family("Phi4MultimodalAudio", {"Model": AUDIO}),
}
SEEN, HEARD = "vision_config.hidden_size", "audio_config.hidden_size*audio_config.downsample_rate"


def beside(*audio: Part) -> BodyBuilder:
    """What turns images and sounds into embeddings."""
    return Assembly(
        At(
            "embed_tokens_extend.image_embed",
            Rest(
                Parameter("global_img_feature_extensor", (1, 1, SEEN)),
                Parameter("sub_img_feature_extensor", (1, 1, 1, SEEN)),
                Linear("img_projection_up", WIDTH, SEEN),
                Linear("img_projection_down", WIDTH, WIDTH),
            ),
            Nested("vision_config", "img_processor", EYES),
        ),
        At(
            "embed_tokens_extend.audio_embed",
            Nested("audio_config", "encoder", EYES),
            Rest(
                *(
                    Linear(f"{step}_proj_for_{what}", WIDTH, width)
                    for step, width in (("up", HEARD), ("down", WIDTH))
                    for what in ("speech", "vision_speech")
                ),
                *audio,
            ),
        ),
    )


ATTENTION, MLP = Attention(fused="qkv_proj"), GatedMLP(fused="gate_up_proj")
PHI4 = Assembly(uniform(ATTENTION, MLP), beside())

# -- as published -----------------------------------------------------------------------------------------------------

EYE = {"model_type": "phi4_multimodal_vision"}
"""`get_siglip_vision_model` has the same sizes as the library's defaults."""


SAME = (
    *("num_blocks", "input_size", "time_reduction", "kernel_size"),
    *("ext_pw_out_channel", "depthwise_multiplier"),
)


def published(f: Fields) -> Fields:
    """The same with the audio tower's sizes under the library's names, and the ranks of the adapters."""
    heard = f.sub("audio_processor", "").sub("config", "phi4_multimodal_audio")
    embed = f.sub("embd_layer", "")
    embed.choice("embedding_cls", ("image_audio",))
    seen = embed.sub("image_embd_layer", "")
    seen.choice("image_token_compression_cls", ("avg_pool_2d",))
    seen.choice("crop_size", (448,))
    heard.choice("input_layer", ("nemo_conv",))
    biases = heard.sub("relative_attention_bias_args", "")
    audio = {
        "model_type": "phi4_multimodal_audio",
        "hidden_size": heard["attention_dim"],
        "num_attention_heads": heard["attention_heads"],
        "intermediate_size": heard["linear_units"],
        "depthwise_separable_out_channel": heard["depthwise_seperable_out_channel"],
        "bias_max_distance": biases["t5_bias_max_distance"],
        "nemo_conv_channels": heard.sub("nemo_conv_settings", "")["conv_channels"],
        **{name: heard[name] for name in SAME},
    }
    ranks = {f"{name}_rank": f.sub(f"{name}_lora", "")["r"] for name in ("vision", "speech")}
    return f.replaced(vision_config=EYE, audio_config=audio, **ranks)


def adapters(f: Fields) -> Tensors:
    """Two low-rank pairs on every matrix of a block."""
    width, inner = f[WIDTH], f["intermediate_size"]
    queries, keys = f["num_attention_heads"] * head_dim(f), kv_heads(f) * head_dim(f)
    matrices = {
        "self_attn.qkv_proj": (queries + 2 * keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_up_proj": (2 * inner, width),
        "mlp.down_proj": (width, inner),
    }
    return tuple(
        t
        for module, (rows, columns) in matrices.items()
        for name in ("vision", "speech")
        for t in (
            *linear(f"{module}.lora_A.{name}", f[f"{name}_rank"], columns),
            *linear(f"{module}.lora_B.{name}", rows, f[f"{name}_rank"]),
        )
    )


MEANS = (
    Parameter("encoder.encoder_embedding.global_mean", ("audio_config.input_size",)),
    Parameter("encoder.encoder_embedding.global_invstd", ("audio_config.input_size",)),
)
PHI4MM = Adjusted(
    Assembly(At("model", uniform(ATTENTION, MLP, extras=(adapters,)), beside(*MEANS)), TEXT_HEAD), published
)
PHI4_MULTIMODAL: Mapping[str, Family] = {
    **EYES,
    "phi4_multimodal": Family(
        "Phi4Multimodal", {"Model": PHI4, "ForCausalLM": Assembly(At("model", PHI4), TEXT_HEAD)}, "ForCausalLM"
    ),
    "phi4mm": Family("Phi4MM", {"ForCausalLM": PHI4MM}, "ForCausalLM", "ForCausalLM", ("Phi4MMForCausalLM",)),
}
