"""Higgs Audio 2 as its authors publish it: bosonai/higgs-audio-v2-generation-3B-base, whose code is that of
boson-ai/higgs-audio, boson_multimodal/model/higgs_audio/modeling_higgs_audio.py. It is never run. What the library
reads itself is `higgs_audio_v2`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastewq.architectures.assembly import Adjusted, Assembly, Embedding, Expect, In, Linear, Rest, When
from fastewq.architectures.body import Decoder
from fastewq.architectures.decoders.dense import LLAMA_ATTENTION, LLAMA_MLP
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import GatedMLP, Tensors, norm
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import nested
from fastewq.errors import UnsupportedArchitecture
from fastewq.shown import shown

DUAL: Final = "audio_dual_ffn_layers"
WIDTH: Final = "text_config.hidden_size"


@dataclass(frozen=True, kw_only=True)
class DualMLP(GatedMLP):
    """A second feed-forward, with norms of its own, for tokens of sound."""

    def __call__(self, f: Fields) -> Tensors:
        norms = ("audio_input_layernorm", "audio_post_attention_layernorm")
        heard = GatedMLP(prefix="audio_mlp", bias=self.bias)(f)
        return (*super().__call__(f), *heard, *(t for name in norms for t in norm(name, f[self.hidden])))


def dual(f: Fields, layers: int) -> Sequence[str]:
    chosen = f.indices(DUAL)
    return ["dual" if i in chosen else "dense" for i in range(layers)]


BODY = Decoder(
    mixers={"attention": LLAMA_ATTENTION},
    feed_forwards={"dense": LLAMA_MLP, "dual": DualMLP(bias="mlp_bias")},
    feed_forward_schedule=dual,
)


def codes(f: Fields) -> int:
    """Of all codebooks, each with a beginning and an end."""
    return f.size("audio_num_codebooks", 8) * (f.size("audio_codebook_size", 1024) + 2)


def typed(f: Fields) -> Fields:
    f.choice("audio_adapter_type", ("dual_ffn", "dual_ffn_fast_forward"), "stack")
    if not isinstance(f.value(DUAL, None), list | tuple):
        raise f.refuse(DUAL, f.value(DUAL, None), "a list of layer numbers")
    if not f.flag("skip_audio_tower", False):
        raise UnsupportedArchitecture(f"{f.where('skip_audio_tower')} is not true; the tower is not described")
    spoken = nested(f, "text_config")
    if spoken.get("model_type", "llama") != "llama":
        raise UnsupportedArchitecture(f"{f.where('text_config')} is of type {shown(spoken['model_type'])}, not llama")
    return f.replaced(text_config={"model_type": "llama", **spoken, DUAL: sorted(f.indices(DUAL))})


def projected(f: Fields) -> bool:
    return f.flag("use_audio_out_embed_projector", False)


HIGGS_AUDIO = Adjusted(
    Assembly(
        Expect("use_audio_out_self_attention", False),
        Expect("audio_decoder_proj_num_layers", 0),
        In("text_config", BODY, path=""),
        Rest(
            When(projected, Linear("audio_out_embed_projector", WIDTH, WIDTH, False)),
            Embedding("audio_codebook_embeddings", codes, WIDTH),
            Linear("audio_decoder_proj.text_lm_head", "text_config.vocab_size", WIDTH, False),
            Linear("audio_decoder_proj.audio_lm_head", codes, WIDTH, False),
        ),
    ),
    typed,
)
HIGGS: Mapping[str, Model] = {"higgs_audio": one_class("HiggsAudio", "Model", HIGGS_AUDIO)}
