"""Qwen-Omni whole: the half that thinks, the half that talks, and what makes sound of its codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    UNTIED,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Convolution,
    Each,
    Embedding,
    Family,
    In,
    Layers,
    Linear,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    entry,
    linears,
    plus,
    scaled,
    sizes,
    times,
)
from fastewq.architectures.audio_language.speech_language import GENERATE, SPEECH_LANGUAGE
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.decoders.experts import QWEN_SHARED, shared_gate, sparse
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import (
    Attention,
    GatedMLP,
    MixtureOfExperts,
    Part,
    Tensors,
    convolution,
    parameter,
)

THINKS = Nested("thinker_config", "thinker", SPEECH_LANGUAGE, GENERATE)


def talks(f: Fields) -> bool:
    return f.flag("enable_audio_output", True)


def snake(name: str, width: Size) -> Part:
    """An activation with two numbers per channel."""
    return Under(name, Parameter("alpha", (width,)), Parameter("beta", (width,)))


# -- Qwen2.5-Omni: a diffusion transformer makes a spectrogram, BigVGAN a waveform ------------------------------------

TALKER2 = Assembly(
    uniform(
        Attention(bias=True, out_bias=False, dim="head_dim"),
        GatedMLP(),
        embed="model.embed_tokens",
        embed_width="embedding_size",
        final_norm="model.norm",
        layers="model.layers",
        name="talker",
    ),
    Rest(
        Linear("thinker_to_talker_proj", WIDTH, "embedding_size"),
        Linear("codec_head", "vocab_size", WIDTH, False),
    ),
)
LAST = entry("enc_channels", -1)


def voice(f: Fields) -> Tensors:
    """The speaker's voice as a vector: ECAPA-TDNN, arXiv 2005.07143."""
    channels = sizes(f, "enc_channels", 2)
    kernels = sizes(f, "enc_kernel_sizes", len(channels))
    if len(kernels) != len(channels):
        raise f.refuse("enc_kernel_sizes", kernels, f"a list of {len(channels)} sizes, as in enc_channels")
    groups = f.count("enc_res2net_scale", low=1, high=128)
    parts: list[Part] = [Convolution("blocks.0.conv", channels[0], "mel_dim", (kernels[0],))]
    for i, width in enumerate(channels[1:-1], 1):
        split = width // groups
        parts += [
            Convolution(f"blocks.{i}.tdnn1.conv", width, channels[i - 1], (1,)),
            Each(
                f"blocks.{i}.res2net_block.blocks",
                lambda _: groups - 1,
                (Convolution("conv", split, split, (kernels[i],)),),
            ),
            Convolution(f"blocks.{i}.tdnn2.conv", width, width, (1,)),
            Convolution(f"blocks.{i}.se_block.conv1", "enc_se_channels", width, (1,)),
            Convolution(f"blocks.{i}.se_block.conv2", width, "enc_se_channels", (1,)),
        ]
    parts += [
        Convolution("mfa.conv", LAST, LAST, (kernels[-1],)),
        Convolution("asp.tdnn.conv", "enc_attention_channels", times(3, LAST), (1,)),
        Convolution("asp.conv", LAST, "enc_attention_channels", (1,)),
        Convolution("fc", "enc_dim", times(2, LAST), (1,)),
    ]
    return tuple(t for part in parts for t in part(f))


def dit_inputs(f: Fields) -> int:
    return f["mel_dim"] + f["enc_dim"] + f["enc_emb_dim"] + f["emb_dim"]


INNER = "head_dim*num_attention_heads"
DIT_FFN = scaled(WIDTH, "ff_mult")
FREQUENCIES = 256
"""Sines and cosines that stand for a moment of the diffusion."""
DIT = Assembly(
    Rest(
        Linear("time_embed.time_mlp.0", WIDTH, FREQUENCIES),
        Linear("time_embed.time_mlp.2", WIDTH, WIDTH),
        Embedding("text_embed.codec_embed", plus("num_embeds", 1), "emb_dim"),
        Linear("input_embed.proj", WIDTH, dit_inputs),
        Under("input_embed.spk_encoder", voice),
        Linear("norm_out.linear", "2*hidden_size", WIDTH),
        Linear("proj_out", "mel_dim", WIDTH),
    ),
    Layers(
        "transformer_blocks",
        (
            Linear("attn_norm.linear", "6*hidden_size", WIDTH),
            *linears("attn", "to_q to_k to_v", INNER, WIDTH),
            Linear("attn.to_out.0", WIDTH, INNER),
            Linear("ff.ff.0", DIT_FFN, WIDTH),
            Linear("ff.ff.3", WIDTH, DIT_FFN),
        ),
        name="dit",
        role="audio",
        head_dim="head_dim",
        ffn=DIT_FFN,
    ),
)


def residual_sounds(name: str, width: int, kernel: int) -> Part:
    """Three pairs of convolutions, an activation before each."""
    once = Convolution("", width, width, (kernel,))
    return Under(
        name,
        Each("convs1", lambda _: 3, (once,)),
        Each("convs2", lambda _: 3, (once,)),
        Each("activations", lambda _: 6, (snake("act", width),)),
    )


def bigvgan(f: Fields) -> Tensors:
    """Ever more samples of ever fewer channels: BigVGAN, arXiv 2206.04658."""
    kernels = sizes(f, "resblock_kernel_sizes")
    f.per_layer("resblock_dilation_sizes", len(kernels))
    rates = sizes(f, "upsample_rates")
    upsampled = sizes(f, "upsample_kernel_sizes", len(rates))[: len(rates)]
    widths = [f["upsample_initial_channel"] >> i for i in range(len(rates) + 1)]
    if not widths[-1]:
        raise f.refuse("upsample_initial_channel", widths[0], f"at least 2 ** {len(rates)}")
    tensors = list(convolution("conv_pre", widths[0], f["mel_dim"], 7))
    for i, kernel in enumerate(upsampled):
        tensors += transposed(f"ups.{i}.0", widths[i], widths[i + 1], kernel)
        for j, size in enumerate(kernels):
            tensors += residual_sounds(f"resblocks.{i * len(kernels) + j}", widths[i + 1], size)(f)
    tensors += snake("activation_post.act", widths[-1])(f)
    return (*tensors, *convolution("conv_post", 1, widths[-1], 7, bias=False))


def transposed(name: str, inputs: int, outputs: int, kernel: int) -> Tensors:
    """A convolution that spreads each sample: shape (inputs, outputs, kernel)."""
    return (
        *parameter(f"{name}.weight", inputs, outputs, kernel, role="conv"),
        *parameter(f"{name}.bias", outputs, role="bias"),
    )


TOKEN2WAV = Assembly(
    In("dit_config", DIT, path="code2wav_dit_model"),
    In("bigvgan_config", Rest(bigvgan), path="code2wav_bigvgan_model"),
)
QWEN2_5_OMNI = Assembly(
    THINKS,
    Only(
        talks,
        In("talker_config", TALKER2, path="talker"),
        In("token2wav_config", TOKEN2WAV, path="token2wav"),
    ),
)

# -- Qwen3-Omni: codes of several levels, a transformer and convolutions ----------------------------------------------

TALKER3: Mapping[str, Any] = {"num_code_groups": 32, "thinker_hidden_size": 2048}
CODE2WAV: Mapping[str, Any] = {
    "codebook_size": 2048,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "attention_bias": False,
    "intermediate_size": 3072,
    "num_hidden_layers": 8,
    "num_quantizers": 16,
    "upsample_rates": [8, 5, 4, 3],
    "upsampling_ratios": [2, 2],
    "decoder_dim": 1536,
}
"""What the classes of these two configs assume; they have no model_type of their own."""


def given(f: Fields, name: str) -> Mapping[str, Any]:
    value = f.value(name, None)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise f.refuse(name, value, "an object")
    return value


def completed(f: Fields) -> Fields:
    """The same with what the classes of the talker and of the sound assume."""
    sent = Fields({**TALKER3, **given(f, "talker_config")}, "", "talker_config")
    halves = {
        name: {**given(sent, name), "model_type": f"qwen3_omni_moe_talker_{kind}"}
        for name, kind in (("text_config", "text"), ("code_predictor_config", "code_predictor"))
    }
    return f.replaced(
        talker_config={**TALKER3, **given(f, "talker_config"), **halves},
        code2wav_config={**CODE2WAV, **given(f, "code2wav_config")},
    )


def levels(f: Fields) -> int:
    """Levels of codes beside the first one, which the talker itself says."""
    return f.count("num_code_groups", low=1) - 1


def resized(name: str) -> Part:
    return Under(
        name,
        Linear("linear_fc1", "text_config.intermediate_size", "thinker_hidden_size"),
        Linear("linear_fc2", "text_config.hidden_size", "text_config.intermediate_size"),
    )


NORMED_ATTENTION = Attention(bias="attention_bias", qk_norm="head")
TALKER_TEXT = sparse(
    NORMED_ATTENTION,
    MixtureOfExperts(shared=QWEN_SHARED, extras=(shared_gate,)),
    embed="codec_embedding",
    name="talker",
)
TALKER = Assembly(
    In("text_config", TALKER_TEXT, path="model"),
    Rest(
        resized("text_projection"),
        resized("hidden_projection"),
        Linear("codec_head", "text_config.vocab_size", "text_config.hidden_size", False, UNTIED),
    ),
    In(
        "code_predictor_config",
        uniform(
            NORMED_ATTENTION,
            GatedMLP(),
            layers="model.layers",
            embed="",
            final_norm="model.norm",
            name="code_predictor",
        ),
        Rest(
            Each("model.codec_embedding", levels, (Embedding("", "vocab_size"),)),
            Each("lm_head", levels, (Linear("", "vocab_size", WIDTH, False),)),
        ),
        path="code_predictor",
    ),
)


def sound(f: Fields) -> Tensors:
    """Ever more samples of ever fewer channels."""
    rates = sizes(f, "upsample_rates")
    widths = [f["decoder_dim"] >> i for i in range(len(rates) + 1)]
    if not widths[-1]:
        raise f.refuse("decoder_dim", widths[0], f"at least 2 ** {len(rates)}")
    tensors = list(convolution("decoder.0.conv", widths[0], f[WIDTH], 7))
    for i, rate in enumerate(rates):
        block, outputs = f"decoder.{i + 1}.block", widths[i + 1]
        tensors += snake(f"{block}.0", widths[i])(f)
        tensors += transposed(f"{block}.1.conv", widths[i], outputs, 2 * rate)
        for unit in (f"{block}.{j}" for j in (2, 3, 4)):
            tensors += snake(f"{unit}.act1", outputs)(f)
            tensors += convolution(f"{unit}.conv1.conv", outputs, outputs, 7)
            tensors += snake(f"{unit}.act2", outputs)(f)
            tensors += convolution(f"{unit}.conv2.conv", outputs, outputs, 1)
    last = len(rates) + 1
    tensors += snake(f"decoder.{last}", widths[-1])(f)
    return (*tensors, *convolution(f"decoder.{last + 1}.conv", 1, widths[-1], 7))


def convnext(name: str) -> Part:
    return Under(
        name,
        Convolution("dwconv.conv", WIDTH, 1, (7,)),
        Norm("norm"),
        Linear("pwconv1", "4*hidden_size", WIDTH),
        Linear("pwconv2", WIDTH, "4*hidden_size"),
        Parameter("gamma", (WIDTH,)),
    )


def upsampling(f: Fields) -> Tensors:
    tensors: list[Any] = []
    for i, factor in enumerate(sizes(f, "upsampling_ratios")):
        tensors += transposed(f"upsample.{i}.0.conv", f[WIDTH], f[WIDTH], factor)
        tensors += convnext(f"upsample.{i}.1")(f)
    return tuple(tensors)


CODES_TO_SOUND = Assembly(
    At(
        "pre_transformer",
        uniform(
            Attention(bias="attention_bias"),
            GatedMLP(),
            extras=(Parameter("self_attn_layer_scale.scale", (WIDTH,)), Parameter("mlp_layer_scale.scale", (WIDTH,))),
            embed="",
            vocab="codebook_size",
            name="code2wav",
            role="audio",
        ),
    ),
    Rest(Embedding("code_embedding", "codebook_size*num_quantizers"), upsampling, sound),
)
QWEN3_OMNI = Adjusted(
    Assembly(
        THINKS,
        Only(talks, In("talker_config", TALKER, path="talker"), In("code2wav_config", CODES_TO_SOUND, path="code2wav")),
    ),
    completed,
)


TALKER2_BODY = uniform(
    Attention(bias=True, out_bias=False, dim="head_dim"), GatedMLP(), embed_width="embedding_size", name="talker"
)
CODE_PREDICTOR = Assembly(
    uniform(NORMED_ATTENTION, GatedMLP(), embed="", name="code_predictor"),
    Rest(Each("codec_embedding", levels, (Embedding("", "vocab_size"),))),
)


def whole(prefix: str, build: BodyBuilder) -> Family:
    return Family(prefix, {GENERATE: build}, GENERATE, GENERATE)


FIRST_NAME = "Model"
"""Of the class of Qwen2.5-Omni, which Qwen/Qwen2.5-Omni-7B still says."""


OMNI: Mapping[str, Family] = {
    "qwen2_5_omni": Family(
        "Qwen2_5Omni",
        dict.fromkeys((GENERATE, FIRST_NAME), QWEN2_5_OMNI),
        GENERATE,
        GENERATE,
        (f"Qwen2_5Omni{FIRST_NAME}",),
    ),
    "qwen3_omni_moe": whole("Qwen3OmniMoe", QWEN3_OMNI),
    "qwen2_5_omni_talker": Family("Qwen2_5OmniTalker", {"Model": TALKER2_BODY, GENERATE: TALKER2}, GENERATE),
    "qwen2_5_omni_token2wav": Family("Qwen2_5OmniToken2Wav", {"Model": TOKEN2WAV}),
    "qwen2_5_omni_dit": Family("Qwen2_5OmniToken2WavDiT", {"Model": DIT}),
    "qwen2_5_omni_bigvgan": Family("Qwen2_5OmniToken2WavBigVGAN", {"Model": Rest(bigvgan)}),
    "qwen3_omni_moe_talker_text": Family("Qwen3OmniMoeTalker", {"Model": TALKER_TEXT}),
    "qwen3_omni_moe_talker_code_predictor": Family(
        "Qwen3OmniMoeTalkerCodePredictor",
        {
            "Model": CODE_PREDICTOR,
            f"Model{GENERATE}": Assembly(
                At("model", CODE_PREDICTOR), Rest(Each("lm_head", levels, (Linear("", "vocab_size", WIDTH, False),)))
            ),
        },
        f"Model{GENERATE}",
    ),
}
