"""Language models of codes of sound: CSM, Dia, Moshi, Kyutai's speech to text and Higgs, most with Mimi for a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    TEXT_HEAD,
    WIDTH,
    Assembly,
    At,
    Each,
    Embedding,
    Family,
    In,
    Layers,
    Linear,
    Named,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    key_width,
    linears,
    plus,
    query_width,
    quotient,
    times,
)
from fastewq.architectures.audio.codecs import AUDIO_CODECS
from fastewq.architectures.body import Body
from fastewq.architectures.decoders.dense import LLAMA_ATTENTION, LLAMA_MLP, uniform
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Attention, GatedMLP, Part, head_dim, kv_heads, unless

CODECS: Mapping[str, Family] = {"mimi": AUDIO_CODECS["mimi"]}

# -- CSM: a decoder of frames, and one of the codes of a frame --------------------------------------------------------

CSM_BODY = uniform(LLAMA_ATTENTION, LLAMA_MLP, embed="")
CSM_DEPTH = Assembly(
    CSM_BODY,
    Rest(
        Embedding("embed_tokens", "num_codebooks*vocab_size", "backbone_hidden_size"),
        Linear("inputs_embeds_projector", WIDTH, "backbone_hidden_size", False),
    ),
)


def codes_but_one(f: Fields) -> int:
    return f["num_codebooks"] - 1


CSM_DEPTH_LM = Assembly(
    At("model", CSM_DEPTH),
    Rest(Parameter("codebooks_head.weight", (codes_but_one, WIDTH, "vocab_size"), "linear")),
)
CSM_CODES = Embedding("embed_tokens.embed_audio_tokens", "num_codebooks*vocab_size")
CSM_BACKBONE = Assembly(CSM_BODY, Rest(CSM_CODES))
CSM = Assembly(
    At("backbone_model", CSM_BODY, Rest(When(unless("tie_codebooks_embeddings"), CSM_CODES))),
    Rest(Linear("lm_head", "vocab_size", WIDTH, False), Embedding("embed_text_tokens", "text_vocab_size")),
    Named("depth", In("depth_decoder_config", CSM_DEPTH_LM, path="depth_decoder")),
    Named("codec", Nested("codec_config", "codec_model", CODECS)),
)

# -- Dia: text in, codes of all channels out --------------------------------------------------------------------------

DIA_ATTENTION = Attention(prefix="self_attention")
DIA_MLP = GatedMLP(fused="gate_up_proj")
CROSS_WIDTH = "cross_num_attention_heads*cross_head_dim"
DIA_CROSS = Under(
    "cross_attention",
    Linear("q_proj", CROSS_WIDTH, WIDTH, False),
    *linears("", "k_proj v_proj", "cross_num_key_value_heads*cross_head_dim", "cross_hidden_size", False),
    Linear("o_proj", WIDTH, CROSS_WIDTH, False),
)
DIA_ENCODER = uniform(
    DIA_ATTENTION, DIA_MLP, norms=("pre_sa_norm", "post_sa_norm"), embed="embedding", name="encoder", role="encoder"
)
DIA_DECODER = uniform(
    DIA_ATTENTION,
    DIA_MLP,
    norms=("pre_sa_norm", "pre_ca_norm", "pre_mlp_norm"),
    extras=(DIA_CROSS,),
    embed="embeddings.embed",
    vocab="num_channels*vocab_size",
)
DIA = Assembly(
    In("encoder_config", DIA_ENCODER, path="encoder"),
    In("decoder_config", DIA_DECODER, path="decoder"),
)
CHANNELS = "decoder_config.num_channels*decoder_config.vocab_size"
DIA_LM = Assembly(At("model", DIA), Rest(Linear("logits_dense", CHANNELS, "decoder_config.hidden_size", False)))

# -- Moshi and Kyutai -------------------------------------------------------------------------------------------------

MOSHI_BLOCKS: dict[str, Any] = {
    "mixer": Attention(names=("q_proj.linear", "k_proj.linear", "v_proj.linear", "o_proj.linear")),
    "feed_forward": GatedMLP(fused="fc1", names=("gate", "up", "fc2"), inner=quotient("ffn_dim", 2)),
}


def matrices(name: str, rows: Size, columns: Size) -> Part:
    """One for each code of a frame, in a module that no tool quantizes."""
    return Parameter(f"{name}.weight", ("num_codebooks", rows, columns))


DEPTH = Assembly(
    Rest(
        Embedding("text_embed_tokens", plus("vocab_size", 1)),
        Each("embed_tokens", codes_but_one, (Embedding("", plus("audio_vocab_size", 1)),)),
        matrices("input_projections", WIDTH, "input_size"),
        matrices("lm_heads", "audio_vocab_size", WIDTH),
    ),
    Layers(
        "layers",
        (
            matrices("self_attn.q_proj.linear", query_width, WIDTH),
            matrices("self_attn.k_proj.linear", key_width, WIDTH),
            matrices("self_attn.v_proj.linear", key_width, WIDTH),
            matrices("self_attn.o_proj.linear", WIDTH, query_width),
            When(
                lambda f: f["num_codebooks"] > 1,
                matrices("mlp.fc1", "ffn_dim", WIDTH),
                matrices("mlp.fc2", WIDTH, quotient("ffn_dim", 2)),
            ),
            When(
                lambda f: f["num_codebooks"] == 1,
                Linear("mlp.fc1", "ffn_dim", WIDTH, False),
                Linear("mlp.fc2", WIDTH, quotient("ffn_dim", 2), False),
            ),
            Norm("input_layernorm", bias=False),
            Norm("post_attention_layernorm", bias=False),
        ),
        name="depth",
        role="decoder",
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn="ffn_dim",
        norm="rms",
    ),
)


def heard_codes(f: Fields) -> int:
    return f.optional_size("audio_vocab_size") or f.sub("audio_encoder_config").size("codebook_size", 2048)


def depth(f: Fields, path: str) -> Body:
    """Of its sizes, the outer config decides those that both share, if it has a config of the decoder at all."""
    given: dict[str, Size] = {
        "audio_vocab_size": heard_codes,
        "input_size": WIDTH,
        "vocab_size": "vocab_size",
        "num_codebooks": "num_codebooks",
    }
    shared = given if f.has("depth_decoder_config") else {}
    return In("depth_decoder_config", DEPTH, path="depth_decoder", **shared)(f, path)


MOSHI = uniform(**MOSHI_BLOCKS, vocab=plus("vocab_size", 1))
MOSHI_LM = Assembly(At("model", MOSHI), Rest(Linear("lm_head", "vocab_size", WIDTH, False)))
MOSHI_SPEAKS = Assembly(
    At("decoder", MOSHI_LM),
    Rest(Each("embed_tokens", times(2, "num_codebooks"), (Embedding("", plus(heard_codes, 1)),))),
    depth,
    Named("codec", Nested("audio_encoder_config", "audio_encoder", CODECS)),
)


def words_and_codes(f: Fields) -> int:
    return f["vocab_size"] + f["num_codebooks"] * f["codebook_vocab_size"] + 1


KYUTAI = uniform(**MOSHI_BLOCKS, embed="embed_tokens.embed_tokens", vocab=words_and_codes)
KYUTAI_LM = Assembly(
    At("model", KYUTAI),
    TEXT_HEAD,
    Named("codec", Nested("codec_config", "codec_model", CODECS)),
)

# -- Higgs Audio: a second feed-forward and norms of its own for sound ------------------------------------------------

HIGGS = Assembly(
    uniform(
        LLAMA_ATTENTION,
        LLAMA_MLP,
        norms=(
            "input_layernorm",
            "post_attention_layernorm",
            "audio_input_layernorm",
            "audio_post_attention_layernorm",
        ),
        extras=(GatedMLP(prefix="audio_mlp", bias="mlp_bias"),),
    ),
    Rest(Embedding("embed_audio_tokens.embed_audio_tokens", "num_codebooks*codebook_size")),
)
HIGGS_LM = Assembly(At("model", HIGGS), Rest(Linear("audio_lm_head", "num_codebooks*codebook_size", WIDTH, False)))

GENERATES = "ForConditionalGeneration"
SPEECH_CODES: Mapping[str, Family] = {
    **AUDIO_CODECS,
    "csm": Family("Csm", {"BackboneModel": CSM_BACKBONE, GENERATES: CSM}, GENERATES, "BackboneModel"),
    "csm_depth_decoder_model": Family(
        "CsmDepthDecoder", {"Model": CSM_DEPTH, "ForCausalLM": CSM_DEPTH_LM}, "ForCausalLM"
    ),
    "higgs_audio_v2": Family("HiggsAudioV2", {"Model": HIGGS, GENERATES: HIGGS_LM}, GENERATES),
    "moshi_depth": Family("MoshiDepthDecoder", {"ForCausalLM": DEPTH}, "ForCausalLM", "ForCausalLM"),
    "dia_encoder": Family("DiaEncoder", {"": DIA_ENCODER}, "", ""),
    "dia_decoder": Family("DiaDecoder", {"": DIA_DECODER}, "", ""),
    "dia": Family("Dia", {"Model": DIA, GENERATES: DIA_LM}, GENERATES),
    "moshi": Family("Moshi", {"Model": MOSHI, "ForCausalLM": MOSHI_LM, GENERATES: MOSHI_SPEAKS}, GENERATES),
    "kyutai_speech_to_text": Family("KyutaiSpeechToText", {"Model": KYUTAI, GENERATES: KYUTAI_LM}, GENERATES),
}
