"""Small language models of continuous sound: every next latent is drawn by a flow, as in Kyutai's Pocket TTS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastewq.architectures.assembly import (
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Each,
    Embedding,
    Family,
    In,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Variant,
    tensors,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.fields import MAX_LAYERS, Fields, Size
from fastewq.architectures.parts import LAYER_NORM, MLP, Attention, Part, Tensors

LATENT = "latent_dim"
BODY = uniform(Attention(bias="attention_bias", out_bias="attention_bias"), MLP(bias=False), norm=LAYER_NORM)
FLOW: Final[Mapping[str, Any]] = {
    "hidden_size": 512,
    "num_hidden_layers": 6,
    "latent_dim": 32,
    "frequency_embedding_size": 256,
    "flow_type": "lsd",
    "loss_weighting_hidden_size": 32,
    "loss_weighting_num_layers": 3,
}
"""What the class of the flow assumes; it has no model_type of its own."""


def moments(f: Fields) -> int:
    """Times that the flow is told: where a step begins and where it ends, or none."""
    return 2 if f.choice("flow_type", ("lsd", "drifting")) == "lsd" else 0


FLOW_HEAD = Assembly(
    Rest(
        Linear("input_proj", WIDTH, LATENT),
        Linear("cond_proj", WIDTH, "condition_dim"),
        Each(
            "timestep_embeddings",
            moments,
            (
                Linear("fc1", WIDTH, "frequency_embedding_size"),
                Linear("fc2", WIDTH, WIDTH),
                Norm("norm", bias=False),
            ),
        ),
        Linear("final_layer.adaln_proj", f"2*{WIDTH}", WIDTH),
        Linear("final_layer.proj", LATENT, WIDTH),
    ),
    Layers(
        "layers",
        (
            Norm("norm"),
            Linear("fc1", WIDTH, WIDTH),
            Linear("fc2", WIDTH, WIDTH),
            Linear("adaln_proj", f"3*{WIDTH}", WIDTH),
        ),
        name="flow",
        role="audio",
        heads=0,
        ffn=WIDTH,
        variants={"": Variant(mixer="none")},
    ),
)


def loss_layers(f: Fields) -> Tensors:
    """What weighs the terms of the loss in training, which published files leave out and the class has."""
    count, width = f.count("loss_weighting_num_layers", low=1, high=MAX_LAYERS), "loss_weighting_hidden_size"
    parts = [Linear(f"layers.{i}", width, width if i else 2) for i in range(count)]
    return tensors(f, (*parts, Linear("proj", 1, width)))


def completed(f: Fields) -> Fields:
    """The same with what the class of the flow assumes: to read a width of the model, and its latents."""
    given = f.value("flow_head_config", None)
    if given is not None and not isinstance(given, Mapping):
        raise f.refuse("flow_head_config", given, "an object")
    flow = {**FLOW, "condition_dim": f[WIDTH], "latent_dim": f[LATENT], **(given or {})}
    return f.replaced(flow_head_config=flow)


def speaks(*around: Part) -> dict[str, BodyBuilder]:
    body = Assembly(BODY, Rest(Parameter("bos_latent", (LATENT,)), *around))
    return {
        "Model": body,
        "ForConditionalGeneration": Adjusted(
            Assembly(
                In("flow_head_config", FLOW_HEAD, path="flow_head"),
                Rest(Linear("eos_head", 1, WIDTH)),
                In("flow_head_config", Rest(loss_layers), path="loss_weighting"),
                At("model", body),
            ),
            completed,
        ),
    }


def prompts(width: Size) -> tuple[Part, ...]:
    return (Linear("audio_prompt_proj", WIDTH, width, False), Linear("audio_latent_proj", WIDTH, LATENT, False))


PHONON: tuple[Part, ...] = (
    *prompts("audio_prompt_dim"),
    Embedding("num_speakers_embed", "num_speakers_vocab_size", "num_speakers_embedding_dim"),
    Linear("num_speakers_proj", WIDTH, "num_speakers_embedding_dim", False),
    Linear("duration_delta_proj", WIDTH, "duration_delta_embedding_dim", False),
)
GENERATES = "ForConditionalGeneration"
FLOW_SPEECH: Mapping[str, Family] = {
    "pocket_tts": Family("PocketTTS", speaks(*prompts(LATENT)), GENERATES),
    "gradium_phonon_tts": Family("GradiumPhononTTS", speaks(*PHONON), GENERATES),
}
