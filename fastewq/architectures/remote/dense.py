"""More dense decoders that the transformers library does not have: their code lies in the model's repository.

That code is never run; each entry follows its published definition, which the comment above it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastewq.architecture import FeedForward as FeedForwardKind
from fastewq.architectures.decoders.dense import HEADS, gpt2_attention, uniform, whole_head_dim
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import LMHead, Model, decoder, heads_with
from fastewq.architectures.parts import (
    LAYER_NORM,
    MLP,
    Attention,
    FeedForwardPart,
    GatedMLP,
    Tensors,
    conv1d_linear,
    embedding,
    field_or,
    hidden_per_head,
    linear,
    norm,
    parameter,
    prefixed,
)
from fastewq.architectures.remote.decoders import TIED_HEADS, tied

UNTIED_BY_DEFAULT = heads_with(ForCausalLM=LMHead(tied=lambda f: f.flag("tie_word_embeddings", False)))
GPT2_SPELLINGS = {
    "n_embd": "hidden_size",
    "n_head": HEADS,
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
}

# -- TeleChat: Tele-AI/telechat-7B, and Tele-AI/TeleChat2-7B; modeling_telechat.py, modeling_telechat2.py -------------

TELECHAT_SPELLINGS = {"n_head": HEADS, "n_layer": "num_hidden_layers", "ffn_hidden_size": "intermediate_size"}


@dataclass(frozen=True, kw_only=True)
class TelechatAttention(Attention):
    """Keys and values come from one matrix; only the output has a bias."""

    def __call__(self, f: Fields) -> Tensors:
        hidden, (heads, keys, dim) = f["hidden_size"], self.facts(f)
        tensors = (
            *linear("query", heads * dim, hidden),
            *linear("key_value", 2 * keys * dim, hidden),
            *linear("dense", hidden, heads * dim, True),
        )
        return prefixed("self_attention", tensors)


@dataclass(frozen=True, kw_only=True)
class TelechatMLP(GatedMLP):
    """Only the last matrix has a bias."""

    def __call__(self, f: Fields) -> Tensors:
        hidden, inner = f["hidden_size"], f["intermediate_size"]
        return (
            *linear("mlp.gate_proj", inner, hidden),
            *linear("mlp.up_proj", inner, hidden),
            *linear("mlp.down_proj", hidden, inner, True),
        )


# -- Jais: inceptionai/jais-13b, modeling_jais.py. GPT-2 with ALiBi and a gate ----------------------------------------


@dataclass(frozen=True, kw_only=True)
class JaisMLP(FeedForwardPart):
    """GPT-2's feed-forward, with a third matrix where its activation is gated."""

    kind: ClassVar[FeedForwardKind] = "dense"

    def facts(self, f: Fields) -> tuple[int, int]:
        return f[field_or("n_inner", "4*hidden_size")], 0

    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, _) = f["hidden_size"], self.facts(f)
        gated = f.text("activation_function", "gelu_new") == "swiglu"
        return (
            *conv1d_linear("mlp.c_fc", inner, hidden),
            *(conv1d_linear("mlp.c_fc2", inner, hidden) if gated else ()),
            *conv1d_linear("mlp.c_proj", hidden, inner),
        )


def jais_positions(f: Fields) -> Tensors:
    if f.text("position_embedding_type", "learned") == "alibi":
        return ()
    return embedding("wpe", f["max_position_embeddings"], f["hidden_size"])


# -- CodeShell: WisdomShell/CodeShell-7B, modeling_codeshell.py -------------------------------------------------------


def codeshell_keys(f: Fields) -> int:
    return f["num_query_groups"] if f.flag("group_query_attention", True) else f[HEADS]


# -- Motif: Motif-Technologies/Motif-2.6B, modeling_motif.py. Differential attention ----------------------------------


def differences(f: Fields) -> Tensors:
    dim = hidden_per_head(f)
    vectors = (t for name in ("q1", "k1", "q2", "k2") for t in parameter(f"lambda_{name}", dim))
    return (*vectors, *norm("subln", 2 * dim))


def poly_norm(f: Fields) -> Tensors:
    """What Motif's activation learns: three weights and a bias."""
    f.choice("hidden_act", ("poly_norm",), "poly_norm")
    return (*parameter("mlp.act_fn.weight", 3), *parameter("mlp.act_fn.bias", 1, role="bias"))


# -- PLaMo: pfnet/plamo-13b, modeling_plamo.py, and pfnet/plamo-3-nict-2b-base, modeling_plamo.py ----------------------


def shared_heads(f: Fields) -> int:
    """One key-value head for every `n_shared_head` heads."""
    return -(-f[HEADS] // f.size("n_shared_head", 8))


def padded_head(f: Fields, body: object) -> Tensors:  # noqa: ARG001
    """PLaMo 3's head predicts a multiple of 16 tokens."""
    if f.flag("tie_word_embeddings", True):
        return ()
    return linear("lm_head", -(-f["vocab_size"] // 16) * 16, f["hidden_size"])


def exit_gate(f: Fields) -> Tensors:
    return linear("early_exit_gate", 1, f["hidden_size"], True)


REMOTE_DENSE: Mapping[str, Model] = {
    "telechat": decoder(
        uniform(
            TelechatAttention(dim=whole_head_dim),
            TelechatMLP(),
            layers="h",
            embed="word_embeddings",
            final_norm="ln_f",
            renamed=TELECHAT_SPELLINGS,
            only={"embed_layernorm": (False,)},
        ),
        heads=TIED_HEADS,
        prefix="transformer",
        classes=("TelechatForCausalLM", "TeleChatForCausalLM", "TeleChat2ForCausalLM", "TelechatModel"),
    ),
    # Tele-AI/TeleChat3-36B-Thinking, modeling_telechat3.py: the llama line
    "telechat3": decoder(
        uniform(Attention(bias="attention_bias"), GatedMLP(bias="mlp_bias")),
        heads=UNTIED_BY_DEFAULT,
        classes=("TeleChat3ForCausalLM", "Telechat3ForCausalLM"),
    ),
    "jais": decoder(
        uniform(
            gpt2_attention(),
            JaisMLP(),
            norms=("ln_1", "ln_2"),
            norm=LAYER_NORM,
            layers="h",
            embed="wte",
            final_norm="ln_f",
            beside=(jais_positions,),
            renamed=GPT2_SPELLINGS,
            only={"add_cross_attention": (False,)},
        ),
        heads=heads_with(LMHeadModel=LMHead(tied=tied)),
        default="LMHeadModel",
        prefix="transformer",
        classes=("JAISLMHeadModel", "JAISModel"),
    ),
    "codeshell": decoder(
        uniform(
            gpt2_attention(linear, codeshell_keys),
            MLP(names=("c_fc", "c_proj"), inner=field_or("n_inner", "4*hidden_size")),
            norms=("ln_1", "ln_2"),
            norm=LAYER_NORM,
            layers="h",
            embed="wte",
            final_norm="ln_f",
            renamed=GPT2_SPELLINGS,
            only={"position_embedding_type": ("rope",)},
        ),
        heads=TIED_HEADS,
        prefix="transformer",
        classes=("CodeShellForCausalLM", "CodeShellModel"),
    ),
    # ByteDance/Ouro-1.4B, modeling_ouro.py: the blocks are run several times
    "ouro": decoder(
        uniform(
            Attention(),
            GatedMLP(),
            norms=(
                "input_layernorm",
                "input_layernorm_2",
                "post_attention_layernorm",
                "post_attention_layernorm_2",
            ),
            beside=(exit_gate,),
        ),
        heads=UNTIED_BY_DEFAULT,
        classes=("OuroForCausalLM", "OuroModel"),
    ),
    "Motif": decoder(
        uniform(
            Attention(bias=lambda f: f.flag("use_bias", False), dim=hidden_per_head, extras=(differences,)),
            GatedMLP(bias=lambda f: f.flag("use_bias", False)),
            extras=(poly_norm,),
        ),
        heads=TIED_HEADS,
        classes=("MotifForCausalLM", "MotifModel"),
    ),
    "plamo": decoder(
        uniform(
            Attention(kv_heads=shared_heads, dim=whole_head_dim),
            GatedMLP(),
            norms=("norm",),
            layers="layers.layers",
        ),
        heads=UNTIED_BY_DEFAULT,
        classes=("PlamoForCausalLM", "PlamoModel"),
    ),
    "plamo3": decoder(
        uniform(
            Attention(prefix="mixer", fused="qkv_proj", kv_heads="num_key_value_heads", dim="head_dim", qk_norm="head"),
            GatedMLP(fused="gate_up_proj"),
            norms=("pre_mixer_norm", "post_mixer_norm", "pre_mlp_norm", "post_mlp_norm"),
            layers="layers.layers",
        ),
        heads=heads_with(ForCausalLM=padded_head),
        classes=("Plamo3ForCausalLM", "Plamo3Model"),
    ),
}
