"""Models that hear, of which the transformers library has no class: their code lies in the model's repository.

That code is never run; each entry follows its published definition, which the comment above it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    MAX_ENTRIES,
    WIDTH,
    Adjusted,
    Assembly,
    Convolution,
    Each,
    Embedding,
    Expect,
    Family,
    In,
    Layers,
    Linear,
    Named,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    When,
    pair,
    patch_columns,
    patch_rows,
    quotient,
    scaled,
    times,
)
from fastewq.architectures.audio.speech import WHISPER_ENCODER
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.fields import MAX_LAYERS, Fields, Size
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import GatedMLP, Option, Part, Tensors, chosen, unless
from fastewq.architectures.remote.dense import QWEN2_ATTENTION
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import MINICPM_EYES, minicpm_sees, minicpm_speaks, nested, numbered
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision_language.multimodal import MOUTH
from fastewq.errors import UnsupportedArchitecture
from fastewq.shown import shown

HEARD = "audio_config.d_model"


def whisper(f: Fields) -> dict[str, Any]:
    """The audio config with a model_type, which the class assumes to be Whisper's."""
    return {"model_type": "whisper", **nested(f, "audio_config")}


def hears_as_whisper(path: str) -> In:
    return In("audio_config", Expect("model_type", "whisper"), Named("audio", WHISPER_ENCODER), path=path)


# -- Ultravox: fixie-ai/ultravox, ultravox_model.py and ultravox_config.py --------------------------------------------


def ultravox(f: Fields) -> Fields:
    """Refuses a file that names the models it is made of by their repositories alone, and adapters beside weights."""
    f.require("llm_only_training", (False,))
    for side in ("text", "audio"):
        if not f.has(f"{side}_config"):
            raise UnsupportedArchitecture(
                f"{side}_config is missing; the {side} model is that of another repository, {side}_model_id "
                f"{shown(f.value(f'{side}_model_id', None))}, whose config.json is expected as {side}_config"
            )
        if f.has(f"{side}_model_lora_config"):
            f.sub(f"{side}_model_lora_config", "").require("r", (0,))
    return f.replaced(audio_config=whisper(f), text_config={"model_type": "llama", **nested(f, "text_config")})


def stacked(f: Fields) -> int:
    """Features of the frames that become one token."""
    return f[HEARD] * f.size("stack_factor", 8)


def projected(f: Fields) -> int:
    return f.size(WIDTH, 4096)


def activated(f: Fields) -> int:
    """Features after the activation: a gated one halves them."""
    return projected(f) // 2 if f.text("projector_act", "swiglu") == "swiglu" else projected(f)


def norm_between(f: Fields) -> bool:
    return f.flag("projector_ln_mid", False)


ULTRAVOX = Adjusted(
    Assembly(
        hears_as_whisper("audio_tower"),
        Rest(
            Under(
                "multi_modal_projector",
                Norm("ln_pre", stacked, False),
                Linear("linear_1", projected, stacked, False),
                When(norm_between, Norm("ln_mid", activated, False)),
                Linear("linear_2", MOUTH, activated, False),
                When(unless(norm_between), Norm("ln_post", MOUTH, False)),
            )
        ),
        Nested("text_config", "language_model", TEXT, "ForCausalLM"),
    ),
    ultravox,
)

# -- MiniCPM-o: openbmb/MiniCPM-o-2_6 and openbmb/MiniCPM-o-4_5, modeling_minicpmo.py ---------------------------------

MINICPM_O_SPEAKS = {"2.6": "qwen2", "4.5": "qwen3"}
VOICE = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 20}
VOICES: Mapping[str, Mapping[str, Any]] = {
    "2.6": {"llm_dim": 2560, "num_audio_tokens": 626, "num_text_tokens": 21_178, "num_vq": 4, "use_mlp": True},
    "4.5": {
        "llm_dim": 2560,
        "num_audio_tokens": 4097,
        "num_text_tokens": 21_178,
        "num_vq": 1,
        "num_key_value_heads": 12,
        "projector_type": "mlp",
        "backbone_model": "llama",
    },
}
"""What the class of the model that speaks assumes."""
VOICE_VOCABULARY = 32_000
"""It is a Llama of that class's own vocabulary, which nothing reads."""


def initialized(name: str) -> Option:
    return lambda f: f.flag(name, True)


SEES, HEARS, SPEAKS = map(initialized, ("init_vision", "init_audio", "init_tts"))


def minicpmo(f: Fields) -> Fields:
    """The same with a nested config for each side that the model has; the text model's fields are at the top."""
    version = numbered(f)
    if version not in VOICES:
        raise UnsupportedArchitecture(f"version is {version}; of minicpmo, {list(VOICES)} are known")
    sides: dict[str, Any] = {}
    if chosen(f, SEES):
        sides["vision_config"] = minicpm_sees(f, f.flag("drop_vision_last_layer", True))
    if chosen(f, HEARS):
        sides["audio_config"] = whisper(f)
    if chosen(f, SPEAKS):
        voice = {**VOICE, **VOICES[version], **nested(f, "tts_config")}
        heads = voice["num_key_value_heads"] if version == "4.5" else voice["num_attention_heads"]
        llama = {name: voice[name] for name in VOICE} | {"num_key_value_heads": heads, "vocab_size": VOICE_VOCABULARY}
        sides["tts_config"] = {**voice, "model_type": f"voice {version}"}
        sides["voice_config"] = {"model_type": "llama", **llama}
    return minicpm_speaks(f, MINICPM_O_SPEAKS[version]).replaced(**sides)


def two_layers(name: str, inputs: Size, outputs: Size) -> Part:
    return Under(name, Linear("linear1", outputs, inputs), Linear("linear2", outputs, outputs))


def convnext(width: int) -> tuple[Part, ...]:
    return (
        Convolution("dwconv", width, 1, (7,)),
        Norm("norm", width),
        Linear("pwconv1", 4 * width, width),
        Linear("pwconv2", width, 4 * width),
        Parameter("coef", (width,)),
    )


def coder(name: str, outputs: int) -> Part:
    return Under(
        name,
        Convolution("conv_in.0", 128, 512, (3,)),
        Convolution("conv_in.2", 256, 128, (3,)),
        Each("decoder_block", 12, convnext(256)),
        Convolution("conv_out", outputs, 256, (1,), bias=False),
    )


CHAT_TTS = Rest(
    When("use_mlp", two_layers("projector", "llm_dim", WIDTH)),
    When(unless("use_mlp"), Linear("projector", WIDTH, "llm_dim", False)),
    Under(
        "dvae",  # a coder of spectra, whose sizes are fixed
        Parameter("coef", (1, 100, 1)),
        Convolution("downsample_conv.0", 512, 100, (3,)),
        Convolution("downsample_conv.2", 512, 512, (4,)),
        coder("encoder", 1024),
        coder("decoder", 512),
        Convolution("out_conv", 100, 512, (3,), bias=False),
        Each("vq_layer.quantizer.rvqs", 2, (Linear("project_in", 4, 512), Linear("project_out", 512, 4))),
    ),
)
VOICE_4_5 = Assembly(
    Expect("projector_type", "mlp"),
    Expect("backbone_model", "llama"),
    Rest(two_layers("projector_spk", "llm_dim", WIDTH), two_layers("projector_semantic", "llm_dim", WIDTH)),
)
CODE_HEAD: tuple[Part, ...] = (
    Parameter("original0", ("num_audio_tokens", 1)),
    Parameter("original1", ("num_audio_tokens", WIDTH), "linear"),
)
CODES = Rest(
    Embedding("emb_text", "num_text_tokens"),
    lambda f: tuple(t for i in range(f.count("num_vq", high=MAX_ENTRIES)) for t in codes(f, i)),
)


def codes(f: Fields, i: int) -> Tensors:
    """The embedding and the head of one codebook; a norm splits the latter's weight."""
    return (
        *Embedding(f"emb_code.{i}", "num_audio_tokens")(f),
        *Under(f"head_code.{i}.parametrizations.weight", *CODE_HEAD)(f),
    )


def is_voice(version: str) -> Option:
    return lambda f: f.model_type == f"voice {version}"


MINICPM_O = Adjusted(
    Assembly(
        Only(SEES, MINICPM_EYES),
        Only(
            HEARS,
            hears_as_whisper("apm"),
            Rest(two_layers("audio_projection_layer", quotient("audio_config.encoder_ffn_dim", 4), MOUTH)),
        ),
        Nested("text_config", "llm", TEXT, "ForCausalLM"),
        Only(
            SPEAKS,
            In("tts_config", CODES, Only(is_voice("2.6"), CHAT_TTS), Only(is_voice("4.5"), VOICE_4_5), path="tts"),
            Nested("voice_config", "tts.model", {"llama": TEXT["llama"]}, name="voice"),
        ),
    ),
    minicpmo,
)

# -- Kimi-Audio: moonshotai/Kimi-Audio-7B, modeling_moonshot_kimia.py. Qwen2 with further blocks for words of sound ---


def kimi_audio(f: Fields) -> Fields:
    f.require("tie_word_embeddings", (False,))
    return f.replaced(model_type="qwen2").unflattened("text_config")


def hears(f: Fields) -> bool:
    return f.flag("use_whisper_feature", True)


KIMI_AUDIO = Adjusted(
    Assembly(
        Nested("text_config", "", TEXT, "ForCausalLM"),
        Named(
            "voice",
            In(
                "text_config",
                uniform(
                    QWEN2_ATTENTION,
                    GatedMLP(),
                    count=lambda f: f.count("kimia_mimo_layers", 6, high=MAX_LAYERS),
                    layers="mimo_layers",
                    embed="",
                    final_norm="mimo_norm",
                ),
                path="model",
            ),
        ),
        Rest(
            Linear("mimo_output", "text_config.vocab_size", MOUTH, False),
            When(
                hears,
                Under(
                    "model.vq_adaptor.layers",
                    Linear("0", MOUTH, lambda f: f.size("kimia_adaptor_input_dim", 5120)),
                    Linear("3", MOUTH, MOUTH),
                    Norm("4", MOUTH),
                ),
            ),
        ),
    ),
    kimi_audio,
)

# -- Step-Audio 2: stepfun-ai/Step-Audio-2-mini, modeling_step_audio_2.py. Whisper's encoder in other words, Qwen2 -----

STATE = "n_audio_state"
STEP_EARS = Assembly(
    Rest(
        Convolution("conv1", STATE, "n_mels", (3,)),
        Convolution("conv2", STATE, STATE, (3,)),
        Embedding("positional_embedding", "n_audio_ctx", STATE),
        Norm("after_norm", STATE),
    ),
    Layers(
        "blocks",
        (
            Linear("attn.query", STATE, STATE),
            Linear("attn.key", STATE, STATE, False),
            Linear("attn.value", STATE, STATE),
            Linear("attn.out", STATE, STATE),
            Norm("attn_ln", STATE),
            Linear("mlp.0", times(4, STATE), STATE),
            Linear("mlp.2", STATE, times(4, STATE)),
            Norm("mlp_ln", STATE),
        ),
        count="n_audio_layer",
        name="audio",
        role="audio",
        width=STATE,
        heads="n_audio_head",
        ffn=times(4, STATE),
    ),
)


def step_audio(f: Fields) -> Fields:
    """The same with Qwen2's type for the text model, whose head is its own."""
    speaks = {**nested(f, "text_config"), "model_type": "qwen2", "tie_word_embeddings": False}
    return f.replaced(text_config=speaks, audio_encoder_config={**nested(f, "audio_encoder_config"), "model_type": ""})


STEP_AUDIO = Adjusted(
    Assembly(
        In("audio_encoder_config", STEP_EARS, path="encoder"),
        In(
            "audio_encoder_config",
            Rest(
                When(lambda f: f.value("adapter_stride") != -1, Convolution("conv", STATE, STATE, ("kernel_size",))),
                Linear("linear1", 2048, STATE),
                Linear("linear2", "llm_dim", 2048),
            ),
            path="adapter",
        ),
        Nested("text_config", "", TEXT, "ForCausalLM"),
    ),
    step_audio,
)

# -- MiDashengLM: mispeech/midashenglm-7b; vLLM, models/midashenglm.py. Dasheng's encoder of spectra before Qwen2 -----


def mel_rows(f: Fields) -> int:
    return f["n_mels"] // pair(f, "patch_stride")[0]


def frames(f: Fields) -> int:
    return f["target_length"] // pair(f, "patch_stride")[1]


def scales_layers(f: Fields) -> bool:
    return f.value("init_values", None) is not None and f.number("init_values") > 0


DASHENG = Assembly(
    Rest(
        Norm("init_bn", "n_mels"),
        Convolution("patch_embed.proj", "embed_dim", "input_channels", (patch_rows, patch_columns)),
        Parameter("time_pos_embed", (1, "embed_dim", 1, frames), "embedding"),
        Parameter("freq_pos_embed", (1, "embed_dim", mel_rows, 1), "embedding"),
        Norm("norm", "embed_dim"),
    ),
    Layers(
        "blocks",
        (
            Norm("norm1", "embed_dim"),
            Linear("attn.qkv", "3*embed_dim", "embed_dim", "qkv_bias"),
            Linear("attn.proj", "embed_dim", "embed_dim"),
            Norm("norm2", "embed_dim"),
            Linear("mlp.fc1", scaled("embed_dim", "mlp_ratio"), "embed_dim"),
            Linear("mlp.fc2", "embed_dim", scaled("embed_dim", "mlp_ratio")),
            When(scales_layers, Parameter("ls1.gamma", ("embed_dim",)), Parameter("ls2.gamma", ("embed_dim",))),
        ),
        count="depth",
        name="audio",
        role="audio",
        width="embed_dim",
        heads="num_heads",
        ffn=scaled("embed_dim", "mlp_ratio"),
    ),
)
DASHENG_EARS: Mapping[str, Model] = {"dasheng": Family("Dasheng", {"Model": DASHENG})}


def midashenglm(f: Fields) -> Fields:
    return f.replaced(audio_encoder_config={**nested(f, "audio_encoder_config"), "model_type": "dasheng"})


MIDASHENGLM = Adjusted(
    Assembly(
        Nested("audio_encoder_config", "audio_encoder", DASHENG_EARS),
        Rest(
            Linear("audio_projector.net.0", MOUTH, "audio_encoder_config.embed_dim*subsample_factor"),
            Linear("audio_projector.net.2", MOUTH, MOUTH),
        ),
        Nested("text_config", "decoder", TEXT, "ForCausalLM"),
    ),
    midashenglm,
)

REMOTE_OMNI: Mapping[str, Model] = {
    "midashenglm": one_class("MiDashengLM", "Model", MIDASHENGLM),
    "step_audio_2": one_class("StepAudio2", "ForCausalLM", STEP_AUDIO),
    "kimi_audio": one_class("MoonshotKimia", "ForCausalLM", KIMI_AUDIO),
    "ultravox": one_class("Ultravox", "Model", ULTRAVOX, "UltravoxForConditionalGeneration"),
    "minicpmo": one_class("MiniCPMO", "", MINICPM_O),
}
