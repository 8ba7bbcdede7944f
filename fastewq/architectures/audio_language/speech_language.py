"""Language models that hear: an audio tower, a projector and a text model; with a vision tower in the omni models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    WIDTH,
    Assembly,
    Convolution,
    Each,
    Embedding,
    Family,
    In,
    Layers,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    Variant,
    adjusted,
    key_width,
    length,
    linears,
    plus,
    query_width,
    quotient,
    times,
)
from fastewq.architectures.audio.transcription import TWO_MATRICES
from fastewq.architectures.body import Body, BodyBuilder
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import Model, decoder, labels
from fastewq.architectures.parts import Attention, GatedMLP, Option, Part, head_dim, kv_heads
from fastewq.architectures.vision.clip import vision_layers
from fastewq.architectures.vision.qwen_towers import PATCH_VOLUME, QWEN3_BLOCKS, merged, qwen3_merger
from fastewq.architectures.vision_language.captions import BLIP2_QFORMER
from fastewq.architectures.vision_language.multimodal import MOUTH, OWN_LM_HEAD, speaking, speaks

EAR = "audio_config.hidden_size"


def whisper_tower(
    width: Size, ffn: Size, *around: Part, count: Size, heads: Size, key_bias: Option = False
) -> BodyBuilder:
    """The encoder of Whisper with its fields under other names."""
    return Assembly(
        Rest(*around),
        Layers(
            "layers",
            (
                *linears("self_attn", "q_proj v_proj out_proj", width, width),
                Linear("self_attn.k_proj", width, width, key_bias),
                Norm("self_attn_layer_norm", width),
                Linear("fc1", ffn, width),
                Linear("fc2", width, ffn),
                Norm("final_layer_norm", width),
            ),
            count=count,
            name="audio",
            role="audio",
            width=width,
            heads=heads,
            ffn=ffn,
        ),
    )


def listening(width: Size) -> tuple[Part, ...]:
    """The two convolutions over the spectrogram."""
    return (Convolution("conv1", width, "num_mel_bins", (3,)), Convolution("conv2", width, width, (3,)))


def positions(width: Size) -> Part:
    return Embedding("embed_positions", "max_source_positions", width)


OLD_NAMES: dict[str, Any] = {"count": "encoder_layers", "heads": "encoder_attention_heads"}
NEW_NAMES: dict[str, Any] = {"count": "num_hidden_layers", "heads": HEADS}
QWEN2_AUDIO_TOWER = whisper_tower(
    "d_model",
    "encoder_ffn_dim",
    *listening("d_model"),
    positions("d_model"),
    Norm("layer_norm", "d_model"),
    **OLD_NAMES,
)
VOXTRAL_TOWER = whisper_tower(WIDTH, FFN, *listening(WIDTH), positions(WIDTH), Norm("layer_norm"), **NEW_NAMES)
OMNI2_TOWER = whisper_tower(
    "d_model",
    "encoder_ffn_dim",
    *listening("d_model"),
    Embedding("audio_bos_eos_token", 2, "output_dim"),
    Norm("ln_post", "d_model"),
    Linear("proj", "output_dim", "d_model"),
    **OLD_NAMES,
)


def omni3_features(f: Fields) -> int:
    """Channels times frequencies after three strided convolutions."""
    bins = f["num_mel_bins"]
    for _ in range(3):
        bins = (bins + 1) // 2
    return f["downsample_hidden_size"] * bins


DOWN = "downsample_hidden_size"


def omni3_tower(*more: Part) -> BodyBuilder:
    return whisper_tower(
        "d_model",
        "encoder_ffn_dim",
        Norm("ln_post", "d_model"),
        Convolution("conv2d1", DOWN, 1, (3, 3)),
        Convolution("conv2d2", DOWN, DOWN, (3, 3)),
        Convolution("conv2d3", DOWN, DOWN, (3, 3)),
        Linear("conv_out", "d_model", omni3_features, False),
        *more,
        **OLD_NAMES,
        key_bias=True,
    )


OMNI3_TOWER = omni3_tower(Linear("proj1", "d_model", "d_model"), Linear("proj2", "output_dim", "d_model"))
GLM_ASR_TOWER = Assembly(
    Rest(*listening(WIDTH), Norm("norm")),
    Layers(
        "layers",
        (
            Linear("self_attn.q_proj", query_width, WIDTH),
            Linear("self_attn.k_proj", key_width, WIDTH, False),
            Linear("self_attn.v_proj", key_width, WIDTH),
            Linear("self_attn.o_proj", WIDTH, query_width),
            Linear("mlp.fc1", FFN, WIDTH),
            Linear("mlp.fc2", WIDTH, FFN),
            Norm("input_layernorm"),
            Norm("post_attention_layernorm"),
        ),
        name="audio",
        role="audio",
        kv_heads=kv_heads,
        head_dim=head_dim,
    ),
)

# -- Granite Speech: a conformer and a Q-Former -----------------------------------------------------------------------


def granite_feed_forward(name: str) -> tuple[Part, ...]:
    return (
        Norm(f"{name}.pre_norm", "hidden_dim"),
        Linear(f"{name}.up_proj", "hidden_dim*feedforward_mult", "hidden_dim"),
        Linear(f"{name}.down_proj", "hidden_dim", "hidden_dim*feedforward_mult"),
    )


def granite_dim(f: Fields) -> int:
    return f.optional_size("dim_head") or f["hidden_dim"] // f["num_heads"]


def granite_inner(f: Fields) -> int:
    return f["num_heads"] * granite_dim(f)


EXPANDED = "hidden_dim*conv_expansion_factor"
GRANITE_ENCODER = Assembly(
    Rest(
        Linear("input_linear", "hidden_dim", "input_dim"),
        Linear("out", "output_dim", "hidden_dim"),
        Linear("out_mid", "hidden_dim", "output_dim"),
    ),
    Layers(
        "layers",
        (
            *granite_feed_forward("ff1"),
            Norm("attn.pre_norm", "hidden_dim"),
            Linear("attn.to_q", granite_inner, "hidden_dim", False),
            Linear("attn.to_kv", times(2, granite_inner), "hidden_dim", False),
            Linear("attn.to_out", "hidden_dim", granite_inner),
            Embedding("attn.rel_pos_emb", plus(times(2, "max_pos_emb"), 1), granite_dim),
            Norm("conv.norm", "hidden_dim"),
            Convolution("conv.up_conv", f"2*{EXPANDED}", "hidden_dim", (1,)),
            Convolution("conv.depth_conv.conv", EXPANDED, 1, ("conv_kernel_size",), bias=False),
            Norm("conv.batch_norm", EXPANDED),
            Convolution("conv.down_conv", "hidden_dim", EXPANDED, (1,)),
            *granite_feed_forward("ff2"),
            Norm("post_norm", "hidden_dim"),
        ),
        count="num_layers",
        name="audio",
        role="audio",
        width="hidden_dim",
        heads="num_heads",
        head_dim=granite_dim,
        ffn="hidden_dim*feedforward_mult",
    ),
)

VOXTRAL_REALTIME_TOWER = Assembly(
    Rest(*(Under("embedder", part) for part in listening(WIDTH)), Norm("norm", bias=False)),
    Layers(
        "layers",
        (
            *linears("self_attn", "q_proj v_proj", query_width, WIDTH),
            Linear("self_attn.k_proj", query_width, WIDTH, False),
            Linear("self_attn.o_proj", WIDTH, query_width),
            Norm("self_attn_layer_norm", bias=False),
            Norm("final_layer_norm", bias=False),
            *linears("mlp", "gate_proj up_proj", FFN, WIDTH, False),
            Linear("mlp.down_proj", WIDTH, FFN),
        ),
        name="audio",
        role="audio",
        head_dim=head_dim,
        norm="rms",
    ),
)


def dots_features(f: Fields) -> int:
    """Channels times frequencies after three strided convolutions; files that were saved tell them."""
    return f.optional_size("conv_output_size") or f[DOWN] * ((f["feature_size"] + 7) // 8)


DOTS_SPELLINGS = {
    "whisper_adapter_in_dim": "adapter_input_size",
    "adapter_output_size": "adapter_out_dim",
    "whisper_adapter_out_dim": "adapter_out_dim",
}
WHISPER_SPELLINGS = {
    "d_model": WIDTH,
    "encoder_attention_heads": HEADS,
    "encoder_layers": "num_hidden_layers",
    "encoder_ffn_dim": FFN,
    "num_mel_bins": "feature_size",
}


def dots_tower(f: Fields, path: str) -> Body:
    """Published files have the encoder's sizes in a config of Whisper's."""
    f = f.renamed(DOTS_SPELLINGS)
    if f.has("whisper_config"):
        whisper = f.sub("whisper_config", "")
        f = f.replaced(**{name: whisper[old] for old, name in WHISPER_SPELLINGS.items() if whisper.has(old)})
    return DOTS_TOWER(f, path)


DOTS_TOWER = Assembly(
    Rest(
        Convolution("conv_stem.convs.0", DOWN, 1, (3, 3)),
        Convolution("conv_stem.convs.1", DOWN, DOWN, (3, 3)),
        Convolution("conv_stem.convs.2", DOWN, DOWN, (3, 3)),
        Linear("conv_stem.conv_out", WIDTH, dots_features, False),
        Norm("layer_norm", bias=False),
        Norm("adapter.norm", "adapter_input_size"),
        Linear("adapter.fc1", "adapter_out_dim", "adapter_input_size"),
        Linear("adapter.fc2", "adapter_out_dim", "adapter_out_dim"),
    ),
    Layers(
        "layers",
        (
            *linears("self_attn", "q_proj v_proj o_proj", bias="attention_bias"),
            Linear("self_attn.k_proj", WIDTH, WIDTH, False),
            Linear("mlp.gate_up_proj", f"2*{FFN}", WIDTH),
            Linear("mlp.down_proj", WIDTH, FFN),
            Norm("input_layernorm", bias=False),
            Norm("post_attention_layernorm", bias=False),
        ),
        name="audio",
        role="audio",
        norm="rms",
    ),
)

TOWERS_OF_SOUND: dict[str, Family] = {
    "dots3_note_audio_encoder": Family("Dots3NoteAudio", {"Model": dots_tower}),
    "qwen2_audio_encoder": Family("Qwen2AudioEncoder", {"": QWEN2_AUDIO_TOWER}, "", ""),
    "voxtral_encoder": Family("VoxtralEncoder", {"": VOXTRAL_TOWER}, "", ""),
    "moss_transcribe_diarize_audio": Family("MossTranscribeDiarizeAudio", {"Model": VOXTRAL_TOWER}),
    "voxtral_realtime_encoder": Family("VoxtralRealtimeEncoder", {"": VOXTRAL_REALTIME_TOWER}, "", ""),
    "audioflamingo3_encoder": Family("AudioFlamingo3Encoder", {"": VOXTRAL_TOWER}, "", ""),
    "glmasr_encoder": Family("GlmAsrEncoder", {"": GLM_ASR_TOWER}, "", ""),
    "qwen2_5_omni_audio_encoder": Family("Qwen2_5OmniAudioEncoder", {"": OMNI2_TOWER}, "", ""),
    "qwen3_omni_moe_audio_encoder": Family("Qwen3OmniMoeAudioEncoder", {"": OMNI3_TOWER}, "", ""),
    "qwen3_asr_encoder": Family("Qwen3ASREncoder", {"": omni3_tower()}, "", ""),
    "granite_speech_encoder": Family("GraniteSpeechEncoder", {"": GRANITE_ENCODER}, "", ""),
    "granite_speech_plus_encoder": Family("GraniteSpeechPlusEncoder", {"": GRANITE_ENCODER}, "", ""),
}


def hears(path: str = "audio_tower") -> BodyBuilder:
    return Nested("audio_config", path, TOWERS_OF_SOUND)


QWEN2_AUDIO = (
    hears(),
    Rest(Linear("multi_modal_projector.linear", MOUTH, "audio_config.d_model")),
    speaks("language_model"),
)
VOXTRAL = (
    hears(),
    speaks("language_model"),
    Rest(
        Linear("multi_modal_projector.linear_1", MOUTH, "audio_config.intermediate_size", False),
        Linear("multi_modal_projector.linear_2", MOUTH, MOUTH, False),
    ),
)
DELAY: tuple[Part, ...] = (
    Linear("ada_rms_norm.linear1", 32, WIDTH, False),
    Linear("ada_rms_norm.linear2", WIDTH, 32, False),
)
"""What tells every block how far what is written lags behind what is heard."""
VOXTRAL_REALTIME_TEXT: dict[str, Model] = {
    "voxtral_realtime_text": decoder(uniform(Attention(), GatedMLP(), extras=DELAY))
}
VOXTRAL_REALTIME = (
    hears(),
    Nested("text_config", "language_model", VOXTRAL_REALTIME_TEXT),
    Rest(
        Linear("multi_modal_projector.linear_1", MOUTH, f"{EAR}*downsample_factor", False),
        Linear("multi_modal_projector.linear_2", MOUTH, MOUTH, False),
    ),
)
AUDIO_FLAMINGO = (
    hears(),
    Rest(
        Linear("multi_modal_projector.linear_1", MOUTH, EAR, "projector_bias"),
        Linear("multi_modal_projector.linear_2", MOUTH, MOUTH, "projector_bias"),
    ),
    speaks("language_model"),
)
GLM_ASR = (
    hears(),
    Rest(
        Linear("multi_modal_projector.linear_1", "2*text_config.hidden_size", "audio_config.intermediate_size"),
        Linear("multi_modal_projector.linear_2", MOUTH, "2*text_config.hidden_size"),
    ),
    speaks("language_model"),
)
QWEN3_ASR = (
    hears(),
    speaks("language_model"),
    Rest(
        Linear("multi_modal_projector.linear_1", "audio_config.d_model", "audio_config.d_model"),
        Linear("multi_modal_projector.linear_2", "audio_config.output_dim", "audio_config.d_model"),
    ),
)
GRANITE_SPEECH = (
    Nested("encoder_config", "encoder", TOWERS_OF_SOUND),
    Rest(
        Parameter("projector.query", (1, quotient("window_size", "downsample_rate"), "projector_config.hidden_size")),
        Linear("projector.linear", MOUTH, "projector_config.hidden_size"),
    ),
    In("projector_config", BLIP2_QFORMER, path="projector.qformer"),
    speaks("language_model"),
)

MOSS = (
    hears(),
    Rest(
        Linear("multi_modal_projector.linear_1", MOUTH, f"{EAR}*audio_merge_size", "projector_bias"),
        Linear("multi_modal_projector.linear_2", MOUTH, MOUTH, "projector_bias"),
        Norm("multi_modal_projector.norm", MOUTH),
    ),
    speaks("language_model"),
)

# -- Fun-ASR: attention with a memory, a convolution over the values --------------------------------------------------


def memory_attention(source: Size) -> tuple[Part, ...]:
    return (*linears("self_attn", "q_proj k_proj v_proj", WIDTH, source), Norm("input_layernorm", source))


STACKED = "num_mel_bins*num_stacked_frames"


def fun_schedule(f: Fields, count: int) -> list[str]:
    """The first block reads stacked frames; the last that listens and the last that times have one norm more."""
    ends = {count - f.count("num_timestamp_prediction_layers") - 1, count - 1}
    return [("first" if i == 0 else "later") + (" and last" if i in ends else "") for i in range(count)]


FUN_FIRST, FUN_LATER, FUN_LAST = memory_attention(STACKED), memory_attention(WIDTH), Norm("final_layernorm")
FUN_ENCODER = Layers(
    "layers",
    (
        Linear("self_attn.o_proj", WIDTH, WIDTH),
        Convolution("self_attn.fsmn.conv", WIDTH, 1, ("fsmn_kernel_size",), bias=False),
        *TWO_MATRICES,
        Norm("post_attention_layernorm"),
    ),
    name="audio",
    role="audio",
    variants={
        "first": Variant(FUN_FIRST),
        "first and last": Variant((*FUN_FIRST, FUN_LAST)),
        "later": Variant(FUN_LATER),
        "later and last": Variant((*FUN_LATER, FUN_LAST)),
    },
    schedule=fun_schedule,
)
FUN_ADAPTER: dict[str, Any] = {
    "hidden_size": 1024,
    "num_attention_heads": 8,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "projector_hidden_size": 2048,
}
"""What the class of the adapter assumes; it has no model_type of its own."""


def with_adapter(f: Fields) -> Fields:
    given = f.value("adaptor_config", None)
    if given is not None and not isinstance(given, Mapping):
        raise f.refuse("adaptor_config", given, "an object")
    return f.replaced(adaptor_config={**FUN_ADAPTER, **(given or {})})


FUN_EARS: dict[str, Family] = {
    "fun_asr_nano_encoder": Family("FunAsrNano", {"Encoder": FUN_ENCODER}, "Encoder", "Encoder")
}
FUN = (
    Nested("audio_config", "audio_tower", FUN_EARS),
    In(
        "adaptor_config",
        Layers(
            "layers",
            (
                *linears("self_attn", "q_proj k_proj v_proj o_proj"),
                *TWO_MATRICES,
                Norm("input_layernorm"),
                Norm("post_attention_layernorm"),
            ),
            name="adapter",
            role="audio",
        ),
        path="multi_modal_projector",
    ),
    Rest(
        Linear("multi_modal_projector.linear_1", "adaptor_config.projector_hidden_size", EAR),
        Linear("multi_modal_projector.linear_2", "adaptor_config.hidden_size", "adaptor_config.projector_hidden_size"),
    ),
    speaks("language_model"),
)

# -- omni models: the half that thinks --------------------------------------------------------------------------------

OMNI2_VISION = Assembly(
    Rest(
        Convolution("patch_embed.proj", WIDTH, "in_channels", PATCH_VOLUME, bias=False),
        Norm("merger.ln_q", bias=False),
        Linear("merger.mlp.0", merged(WIDTH), merged(WIDTH)),
        Linear("merger.mlp.2", "out_hidden_size", merged(WIDTH)),
    ),
    vision_layers(
        "blocks",
        Norm("norm1", bias=False),
        Norm("norm2", bias=False),
        *linears("attn", "q k v proj"),
        *linears("mlp", "gate_proj up_proj", FFN, WIDTH),
        Linear("mlp.down_proj", WIDTH, FFN),
        count="depth",
        heads="num_heads",
        norm="rms",
    ),
)


OMNI3_MERGER = ("ln_q", "mlp.0", "mlp.2")
OMNI3_VISION = Assembly(
    QWEN3_BLOCKS,
    Rest(
        Embedding("pos_embed", "num_position_embeddings"),
        Under("merger", *qwen3_merger(WIDTH, OMNI3_MERGER)),
        Each("merger_list", length("deepstack_visual_indexes"), qwen3_merger(merged(WIDTH), OMNI3_MERGER)),
    ),
)


def thinker(vision: BodyBuilder) -> tuple[BodyBuilder, ...]:
    return (hears(), In("vision_config", vision, path="visual"), speaks("language_model"))


def filled(classes: dict[str, BodyBuilder]) -> dict[str, BodyBuilder]:
    """Model classes that fill up a partial `text_config` with their own assumptions, not with those of its type."""
    return adjusted(classes, lambda f: f.completed("text_config"))


def thinking(f: Fields) -> Fields:
    """The same where a file nests both configs once more, as Qwen/Qwen3-ASR-1.7B does."""
    if not f.has("thinker_config"):
        return f
    inner = f.sub("thinker_config", "")
    inner.require("classify_num", ())
    kinds = {"audio_config": "qwen3_asr_encoder", "text_config": "qwen3"}
    return f.replaced(
        **{
            name: {**(inner.value(name, None) or {}), "model_type": kind}
            for name, kind in kinds.items()
            if inner.sub(name, "")
        }
    )


GENERATE = "ForConditionalGeneration"
SPEECH_LANGUAGE: dict[str, Model] = {
    **TOWERS_OF_SOUND,
    "qwen2_audio": Family("Qwen2Audio", speaking(*QWEN2_AUDIO, lm_head=OWN_LM_HEAD), GENERATE),
    "voxtral": Family("Voxtral", filled(speaking(*VOXTRAL, lm_head=OWN_LM_HEAD)), GENERATE),
    **VOXTRAL_REALTIME_TEXT,
    "voxtral_realtime": Family("VoxtralRealtime", filled(speaking(*VOXTRAL_REALTIME)), GENERATE),
    "audioflamingo3": Family("AudioFlamingo3", speaking(*AUDIO_FLAMINGO, lm_head=OWN_LM_HEAD), GENERATE),
    "glmasr": Family("GlmAsr", filled(speaking(*GLM_ASR)), GENERATE),
    "qwen3_asr": Family(
        "Qwen3ASR",
        adjusted(
            speaking(
                *QWEN3_ASR,
                ForTokenClassification=Rest(Linear("score", labels, MOUTH, "token_classification_bias")),
            ),
            thinking,
        ),
        GENERATE,
    ),
    "granite_speech": Family("GraniteSpeech", speaking(*GRANITE_SPEECH), GENERATE),
    "granite_speech_plus": Family("GraniteSpeechPlus", speaking(*GRANITE_SPEECH), GENERATE),
    "moss_transcribe_diarize": Family("MossTranscribeDiarize", filled(speaking(*MOSS)), GENERATE),
    **FUN_EARS,
    "fun_asr_nano": Family("FunAsrNano", filled(adjusted(speaking(Assembly(*FUN)), with_adapter)), GENERATE),
    "musicflamingo": Family("MusicFlamingo", speaking(*AUDIO_FLAMINGO, lm_head=OWN_LM_HEAD), GENERATE),
    "qwen2_5_omni_thinker": Family("Qwen2_5OmniThinker", speaking(*thinker(OMNI2_VISION)), GENERATE),
    "qwen3_omni_moe_thinker": Family("Qwen3OmniMoeThinker", speaking(*thinker(OMNI3_VISION)), GENERATE),
}
