"""Fish Audio S2: Qwen3 that writes text and a first code of sound, and a small decoder of the codes below it.

After the names of the tensors in fishaudio/s2-pro, model.safetensors.index.json, and fishaudio/fish-speech,
models/text2semantic/llama.py, which is never run.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import Adjusted, Assembly, Embedding, Expect, Family, In, Linear, Named, Rest, tied
from fastewq.architectures.body import Decoder
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Attention, GatedMLP, unless

WRITER = Assembly(
    Expect("use_moe", False),
    Decoder(
        mixers={
            "attention": Attention(
                prefix="attention",
                fused="wqkv",
                names=("", "", "", "wo"),
                heads="n_head",
                kv_heads="n_local_heads",
                dim="head_dim",
                hidden="dim",
                bias="attention_qkv_bias",
                out_bias="attention_o_bias",
                qk_norm="head",
                qk_norm_if="attention_qk_norm",
            )
        },
        feed_forwards={"dense": GatedMLP(prefix="feed_forward", names=("w1", "w3", "w2"), hidden="dim")},
        norms=("attention_norm", "ffn_norm"),
        count="n_layer",
        hidden="dim",
        embed="embeddings",
        embed_width="dim",
    ),
)


def all_codes(f: Fields) -> int:
    return f["num_codebooks"] * f["vocab_size"]


def one_width(f: Fields) -> Fields:
    """The same where both decoders are as wide; else a matrix lies between them."""
    lower = f.sub("audio_decoder_config", "")
    if lower["text_dim"] != lower["dim"]:
        raise lower.refuse("text_dim", lower["text_dim"], f"dim = {lower['dim']}")
    return f


FISH_AUDIO = Assembly(
    In(
        "text_config",
        WRITER,
        Rest(Linear("output", "vocab_size", "dim", False, unless(tied))),
        path="text_model.model",
    ),
    In(
        "audio_decoder_config",
        Named("codes", WRITER),
        Rest(Embedding("codebook_embeddings", all_codes, "text_dim"), Linear("output", "vocab_size", "dim", False)),
        path="audio_decoder",
    ),
)
FISH: Mapping[str, Model] = {
    "fish_qwen3_omni": Family(
        "FishQwen3Omni",
        {"ForCausalLM": Adjusted(FISH_AUDIO, one_width)},
        "ForCausalLM",
        "ForCausalLM",
        ("FishQwen3OmniForCausalLM",),
        tied=lambda f: tied(f.sub("text_config")),
    )
}
