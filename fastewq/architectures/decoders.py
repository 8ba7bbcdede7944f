"""Decoder-only text models. One entry per model_type; the parts say what differs from the llama line."""

from __future__ import annotations

from collections.abc import Sequence

from fastewq.architecture import FeedForward, Mixer
from fastewq.architectures.body import BodyBuilder, Decoder
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import Attention, GatedMLP, MixtureOfExperts


def qwen_moe_schedule(f: Fields, layers: int) -> Sequence[tuple[Mixer, FeedForward]]:
    """Experts in every `decoder_sparse_step`-th layer except those in `mlp_only_layers`."""
    step, dense = f.size("decoder_sparse_step"), set(f.get("mlp_only_layers") or ())
    return [("attention", "experts" if i not in dense and (i + 1) % step == 0 else "dense") for i in range(layers)]


DECODERS: dict[str, BodyBuilder] = {
    "llama": Decoder(
        {"attention": Attention(bias="attention_bias", out_bias="attention_bias")}, {"dense": GatedMLP("mlp_bias")}
    ),
    "mistral": Decoder({"attention": Attention()}),
    "mixtral": Decoder(
        {"attention": Attention()}, {"experts": MixtureOfExperts("num_local_experts", "intermediate_size")}
    ),
    "qwen2": Decoder({"attention": Attention(bias=True)}),
    "qwen3": Decoder(
        {"attention": Attention(bias="attention_bias", out_bias="attention_bias", qk_norm="head")},
    ),
    "qwen3_moe": Decoder(
        {"attention": Attention(bias="attention_bias", out_bias="attention_bias", qk_norm="head")},
        {"dense": GatedMLP(), "experts": MixtureOfExperts()},
        schedule=qwen_moe_schedule,
    ),
}
