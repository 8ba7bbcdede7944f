"""Models that guess what a large one will say: EAGLE, EAGLE-3, P-EAGLE, DFlash, Domino and DSpark.

Follows SafeAILab/EAGLE, model/cnets1.py and cnets.py, sgl-project/SpecForge, modeling/draft, and
vllm-project/speculators, models/eagle3. They are never run. Their configs say `llama` or `qwen3`, the class tells, of
some of EAGLE a field; those of speculators have `speculators_model_type`. Embeddings that a file leaves out, since they
are those of the large model, are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastewq.architectures.assembly import (
    WIDTH,
    Adjusted,
    Assembly,
    Each,
    Embedding,
    Expect,
    Family,
    In,
    Linear,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    When,
    length,
    times,
)
from fastewq.architectures.body import BodyBuilder, Decoder, Schedule, leading
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Attention, GatedMLP, Option, Tensors, field_or, norm
from fastewq.errors import UnsupportedArchitecture
from fastewq.shown import shown

FEATURES: Final = 3
"""Layers of the large model whose outputs are read, one early, one in the middle, one late."""


@dataclass(frozen=True, kw_only=True)
class TwofoldAttention(Attention):
    """Reads a token and, beside it, what the large model makes of it, which has a norm of its own."""

    def __call__(self, f: Fields) -> Tensors:
        read = {f"{path}.weight" for path in self.paths[:3]}
        tensors = [t._replace(shape=(t.shape[0], 2 * t.shape[1])) if t.name in read else t for t in super().__call__(f)]
        return (*tensors, *norm("hidden_norm", f[self.hidden]))


FIRST_IS_TWOFOLD: Schedule = leading(lambda _: 1, "twofold", "attention")


def eagle(kind: Mapping[str, Any], feed_forward: GatedMLP, **options: Any) -> Decoder:
    mixers = {"twofold": TwofoldAttention(**kind), "attention": Attention(**kind)}
    feed_forwards = {"dense": feed_forward}
    return Decoder(mixers=mixers, feed_forwards=feed_forwards, mixer_schedule=FIRST_IS_TWOFOLD, **options)


def one_class(name: str, builder: BodyBuilder, *others: str) -> Model:
    names = (name, *others)
    return Family("", dict.fromkeys(names, builder), name, name, names, tied=False)


# -- EAGLE: yuhuili/EAGLE-LLaMA3-Instruct-8B. The head is the large model's -------------------------------------------

EAGLE = Assembly(
    Expect("model", None),
    Expect("num_hidden_layers", 1),
    Expect("attention_bias", False),
    Expect("mlp_bias", False),
    Decoder(
        mixers={"attention": Attention(bias=lambda f: f.flag("qkv_bias", False), out_bias=False)},
        norms=("post_attention_layernorm",),
        final_norm="",
    ),
    Rest(Linear("fc", WIDTH, "2*hidden_size", bias=lambda f: f.flag("bias", True))),
)

# -- EAGLE-3: yuhuili/EAGLE3-LLaMA3.1-Instruct-8B. Its code names the only block `midlayer`; here as vLLM does ---------

PLAIN = Assembly(Expect("attention_bias", False), Expect("mlp_bias", False), eagle({}, GatedMLP()))
TARGET = field_or("target_hidden_size", WIDTH)
FUSED = times(FEATURES, TARGET)
EAGLE3 = Assembly(
    Expect("num_hidden_layers", 1),
    PLAIN,
    Rest(
        Linear("fc", WIDTH, FUSED, False),
        When("fc_norm", Each("fc_norm", lambda _: FEATURES, (Norm("", TARGET, False),))),
        Linear("lm_head", "draft_vocab_size", WIDTH, False),
    ),
)
PEAGLE = Assembly(
    PLAIN,
    Rest(
        Linear("fc", WIDTH, FUSED, False),
        Parameter("mask_hidden", (1, 1, FUSED)),
        Linear("lm_head", field_or("draft_vocab_size", "vocab_size"), WIDTH, False),
    ),
)

# -- EAGLE-3 of speculators: RedHatAI/Llama-3.1-8B-Instruct-speculator.eagle3 ------------------------------------------

LAYERS = "transformer_layer_config"
INNER_WIDTH = f"{LAYERS}.{WIDTH}"


def features(f: Fields) -> int:
    read = "eagle_aux_hidden_state_layer_ids"
    return f[length(read)] if f.value(read, None) else FEATURES


def all_features(f: Fields) -> int:
    return features(f) * f[INNER_WIDTH]


def speculator(f: Fields) -> Fields:
    given = f.value(LAYERS, None)
    if not isinstance(given, Mapping):
        raise f.refuse(LAYERS, given, "an object")
    kind = given.get("model_type", "qwen3")
    if kind not in ("llama", "qwen3"):
        raise UnsupportedArchitecture(f"{LAYERS}.model_type is {shown(kind)}; known are llama, qwen3")
    return f.replaced(**{LAYERS: {**given, "model_type": kind}})


SPECULATOR = Adjusted(
    Assembly(
        In(
            LAYERS,
            Only(
                lambda f: f.model_type == "llama",
                eagle({"bias": "attention_bias"}, GatedMLP(bias="mlp_bias")),
            ),
            Only(lambda f: f.model_type == "qwen3", eagle({"bias": "attention_bias", "qk_norm": "head"}, GatedMLP())),
            path="",
        ),
        Rest(
            Linear("fc", INNER_WIDTH, all_features, False),
            When("norm_before_fc", Norm("input_norm", all_features, False)),
            When("fc_norm", Each("fc_norm", features, (Norm("", INNER_WIDTH, False),))),
            Linear("lm_head", lambda f: f.size("draft_vocab_size", 32000), INNER_WIDTH, False),
        ),
    ),
    speculator,
)

# -- DFlash: z-lab/Qwen3-8B-DFlash-b16, dflash.py. Blocks of Qwen3 that guess several tokens at once ------------------


def guesses(f: Fields) -> Fields:
    return f.sub("dflash_config", "")


def read_layers(f: Fields) -> int:
    """Layers of the large model whose outputs are read: by default as many as there are blocks."""
    listed = f.has("dflash_config") and guesses(f).has("target_layer_ids")
    return guesses(f)[length("target_layer_ids")] if listed else f["num_hidden_layers"]


def guessed(name: str) -> Size:
    return lambda f: guesses(f)[name]


DFLASH = Assembly(
    Decoder(
        mixers={"attention": Attention(bias="attention_bias", qk_norm="head")},
        feed_forwards={"dense": GatedMLP()},
        embed="",
    ),
    Rest(Linear("fc", WIDTH, lambda f: read_layers(f) * f[WIDTH], False), Norm("hidden_norm", bias=False)),
)

# -- Domino: DFlash, corrected by a recurrent network ------------------------------------------------------------------

STATE = guessed("gru_hidden_dim")
NARROW = guessed("emb_dim")
DOMINO = Assembly(
    DFLASH,
    Rest(
        Parameter("prefix_gru.weight_ih_l0", (times(3, STATE), WIDTH), "linear"),
        Parameter("prefix_gru.weight_hh_l0", (times(3, STATE), STATE), "linear"),
        Linear("embed_proj.0", NARROW, lambda f: f[WIDTH] + f[STATE], False),
        Linear("embed_proj.2", "vocab_size", NARROW, False),
    ),
)

# -- DSpark: DFlash, corrected by the token before -------------------------------------------------------------------

RANK = guessed("markov_rank")


def corrected(f: Fields) -> bool:
    return f.has("dflash_config") and bool(guesses(f).count("markov_rank", 0))


def markov(kind: str) -> Option:
    return lambda f: guesses(f).choice("markov_head_type", ("vanilla", "gated", "rnn"), "vanilla") == kind


def confident(f: Fields) -> bool:
    if not f.has("dflash_config"):
        return False
    level = guesses(f)
    return level.flag("enable_confidence_head", level.number("confidence_head_alpha", 0.0) > 0)


def judged(f: Fields) -> int:
    return f[WIDTH] + (f[RANK] if guesses(f).flag("confidence_head_with_markov", False) else 0)


DSPARK = Assembly(
    DFLASH,
    Rest(
        When(
            corrected,
            Under(
                "markov_head",
                Embedding("markov_w1", "vocab_size", RANK),
                Linear("markov_w2", "vocab_size", RANK, False),
                When(markov("gated"), Linear("gate_proj", RANK, lambda f: f[WIDTH] + f[RANK])),
                When(markov("rnn"), Linear("joint_proj", times(3, RANK), lambda f: f[WIDTH] + 2 * f[RANK])),
            ),
        ),
        When(confident, Linear("confidence_head.proj", 1, judged)),
    ),
)

DRAFTERS: Mapping[str, Model] = {
    "eagle": one_class("LlamaForCausalLMEagle", EAGLE, "LlamaForCausalLM", "EagleLlamaForCausalLM"),
    "eagle3": one_class("LlamaForCausalLMEagle3", EAGLE3, "LlamaForCausalLM", "Eagle3LlamaForCausalLM"),
    "peagle": one_class("PEagleDraftModel", PEAGLE),
    "speculators_eagle3": one_class("Eagle3DraftModel", SPECULATOR, "Eagle3Speculator"),
    "dflash": one_class("DFlashDraftModel", DFLASH),
    "domino": one_class("DominoDraftModel", DOMINO),
    "dspark": one_class("DSparkDraftModel", DSPARK),
}
