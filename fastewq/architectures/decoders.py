"""Decoder-only text models. One entry per model_type; the parts say what differs from the llama line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastewq.architectures.body import Decoder
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import Attention, GatedMLP, MixtureOfExperts


def qwen_moe_schedule(f: Fields, layers: int) -> Sequence[str]:
    """Experts in every `decoder_sparse_step`-th layer except those in `mlp_only_layers`."""
    step, dense = f.size("decoder_sparse_step"), set(f.get("mlp_only_layers") or ())
    return ["experts" if i not in dense and (i + 1) % step == 0 else "dense" for i in range(layers)]


DECODERS: Mapping[str, Model] = {
    "llama": decoder(
        Decoder(
            mixers={"attention": Attention(bias="attention_bias")}, feed_forwards={"dense": GatedMLP(bias="mlp_bias")}
        )
    ),
    "mistral": decoder(Decoder(mixers={"attention": Attention()})),
    "mixtral": decoder(
        Decoder(
            mixers={"attention": Attention()},
            feed_forwards={"experts": MixtureOfExperts(experts="num_local_experts", inner="intermediate_size")},
        )
    ),
    "qwen2": decoder(Decoder(mixers={"attention": Attention(bias=True, out_bias=False)})),
    "qwen3": decoder(Decoder(mixers={"attention": Attention(bias="attention_bias", qk_norm="head")})),
    "qwen3_moe": decoder(
        Decoder(
            mixers={"attention": Attention(bias="attention_bias", qk_norm="head")},
            feed_forwards={"dense": GatedMLP(), "experts": MixtureOfExperts()},
            feed_forward_schedule=qwen_moe_schedule,
        )
    ),
}
