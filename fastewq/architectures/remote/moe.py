"""Mixtures of experts that the transformers library does not have: their code lies in the model's repository.

That code is never run; each entry follows its published definition, which the comment above it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fastewq.architecture import FeedForward as FeedForwardKind
from fastewq.architecture import Mixer as MixerKind
from fastewq.architecture import Tensor
from fastewq.architectures.assembly import assuming
from fastewq.architectures.body import Decoder, every, leading
from fastewq.architectures.decoders.dense import HEADS, LLAMA_ATTENTION, whole_head_dim
from fastewq.architectures.decoders.experts import (
    mimo_experts,
    mimo_layers,
    qwen_schedule,
    several_shared,
    shared,
    shared_if,
    sparse,
    step_experts,
)
from fastewq.architectures.decoders.latent import LATENT_LINE, LatentAttention
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import NEVER_TIED, BodyAndHeads, Model, decoder, no_head
from fastewq.architectures.parts import (
    Attention,
    FeedForwardPart,
    GatedMLP,
    Heads,
    MixerPart,
    MixtureOfExperts,
    Part,
    Tensors,
    chosen,
    embedding,
    field_or,
    linear,
    norm,
    parameter,
    prefixed,
)
from fastewq.architectures.remote.heads import TIED_BY_DEFAULT, UNTIED_BY_DEFAULT

# -- Step-3: stepfun-ai/step3, modeling_step3.py ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FactorizedAttention(MixerPart):
    """Multi-query attention whose queries are made by two matrices with a norm between them. arXiv 2507.19427."""

    kind: ClassVar[MixerKind] = "attention"

    def facts(self, f: Fields) -> Heads:
        return Heads(f["num_attention_heads"], 1, f["head_dim"])

    def __call__(self, f: Fields) -> Tensors:
        hidden, (heads, _, dim) = f["hidden_size"], self.facts(f)
        shared = field_or("share_q_dim", "head_dim")(f)
        return (
            *linear("self_attn.q_proj", shared, hidden),
            *linear("self_attn.k_proj", dim, hidden),
            *linear("self_attn.v_proj", dim, hidden),
            *linear("self_attn.o_proj", hidden, heads * dim),
            *norm("self_attn.inter_norm", shared),
            *linear("self_attn.wq", heads * dim, shared),
        )


@dataclass(frozen=True, kw_only=True)
class StepExperts(FeedForwardPart):
    """Experts stacked in three tensors of shape (experts, outputs, inputs), and a shared one beside them."""

    kind: ClassVar[FeedForwardKind] = "experts"

    def facts(self, f: Fields) -> tuple[int, int]:
        return f["moe_intermediate_size"], f.experts("moe_num_experts")

    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, experts) = f["hidden_size"], self.facts(f)
        return (
            *linear("moe.gate", experts, hidden, role="router"),
            Tensor("moe.gate_proj.weight", (experts, inner, hidden), "experts"),
            Tensor("moe.up_proj.weight", (experts, inner, hidden), "experts"),
            Tensor("moe.down_proj.weight", (experts, hidden, inner), "experts"),
            *GatedMLP(prefix="share_expert", inner="share_expert_dim")(f),
        )


def step3_layers(f: Fields, layers: int) -> Sequence[str]:
    f.text("moe_layers_enum")
    return step_experts(f, layers)


# -- MiMo V2.5: XiaomiMiMo/MiMo-V2.5-Pro; vLLM, models/mimo_v2.py. MiMo V2 Flash with sizes of its own for windows ----


def mimo_sinks(option: str) -> Part:
    return lambda f: parameter("attention_sink_bias", f[HEADS]) if f.flag(option, False) else ()


MIMO_FULL = Attention(
    bias="attention_bias",
    out_bias=False,
    value_dim=field_or("v_head_dim", "head_dim"),
    extras=(mimo_sinks("add_full_attention_sink_bias"),),
)
MIMO_SLIDING = replace(
    MIMO_FULL,
    heads="swa_num_attention_heads",
    kv_heads="swa_num_key_value_heads",
    dim="swa_head_dim",
    value_dim=field_or("swa_v_head_dim", "swa_head_dim"),
    extras=(mimo_sinks("add_swa_attention_sink_bias"),),
)


def correction_bias(f: Fields) -> Tensors:
    return parameter("gate.e_score_correction_bias", f.experts("n_routed_experts"), role="router")


# -- Arctic: Snowflake/snowflake-arctic-instruct, modeling_arctic.py --------------------------------------------------

EXPERT = ("w1", "w3", "w2")
SPARSE = "block_sparse_moe"


@dataclass(frozen=True, kw_only=True)
class ArcticExperts(MixtureOfExperts):
    """Experts beside a dense feed-forward as wide as the hidden size, each with a norm of its own."""

    def __call__(self, f: Fields) -> Tensors:
        tensors = super().__call__(f)
        if not chosen(f, "parallel_attn_mlp_res"):
            return tensors
        residual = GatedMLP(prefix="residual_mlp", names=EXPERT, inner="hidden_size")
        return (*tensors, *norm("residual_layernorm", f["hidden_size"]), *residual(f))


# -- Grok 2: xai-org/grok-2, which has no code of its own; SGLang, srt/models/grok.py ---------------------------------


@dataclass(frozen=True, kw_only=True)
class GrokExperts(MixtureOfExperts):
    """Experts, and by option a dense feed-forward beside them."""

    def __call__(self, f: Fields) -> Tensors:
        return (*super().__call__(f), *(GatedMLP()(f) if f.flag("residual_moe", False) else ()))


# -- Sarvam: sarvamai/sarvam-105b, modeling_sarvam_moe.py; vLLM, models/sarvam.py -------------------------------------


def shared_width(f: Fields) -> int:
    """How wide the shared experts are together."""
    width = field_or("moe_shared_expert_intermediate_size", "moe_intermediate_size")(f)
    return width * f["num_shared_experts"]


def sarvam_layers(f: Fields, layers: int) -> Sequence[str]:
    first, step = f.count("first_k_dense_replace", 1), f.size("moe_layer_freq", 1)
    return ["sparse" if i >= first and (i - first) % step == 0 else "dense" for i in range(layers)]


# -- LongCat-Flash-Lite: meituan-longcat/LongCat-Flash-Lite, modeling_longcat_ngram.py. arXiv 2601.21204 ---------------


@dataclass(frozen=True, kw_only=True)
class IdleExperts(MixtureOfExperts):
    """Experts of which some do nothing: these have a row in the router alone."""

    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, experts) = f["hidden_size"], self.facts(f)
        total = experts + (0 if f.value("zero_expert_num", None) is None else f.count("zero_expert_num"))
        return (
            *linear("mlp.router.classifier", total, hidden, f.flag("router_bias", False), "router"),
            *self.stacked("mlp.experts.gate_up_proj", experts, 2 * inner, hidden, False),
            *self.stacked("mlp.experts.down_proj", experts, hidden, inner, False),
        )


def ngram_tables(f: Fields) -> Tensors:
    """A table of rows for each length of n-grams and each split, and the matrix that widens its rows."""
    lengths, splits = f.count("emb_neighbor_num", low=2, high=16) - 1, f.count("emb_split_num", low=1, high=16)
    rows, tables, hidden = f["ngram_vocab_size_ratio"] * f["vocab_size"], lengths * splits, f["hidden_size"]
    width = hidden // tables
    if not width:
        raise f.refuse("emb_split_num", splits, f"fewer, for {hidden} features to be split in {tables} tables")
    tensors = (
        *(t for i in range(tables) for t in embedding(f"embedders.{i}", rows + 2 * i + 1, width)),
        *(t for i in range(tables) for t in linear(f"post_projs.{i}", hidden, width)),
    )
    return prefixed("ngram_embeddings", tensors)


LONGCAT = LATENT_LINE["longcat_flash"]
assert isinstance(LONGCAT.body, Decoder)

# -- Klear: Kwai-Klear/Klear-46B-A2.5B-Base, modeling_klear.py --------------------------------------------------------


def klear_weighing(f: Fields) -> Tensors:
    """How much the shared experts count against the chosen ones, and what is added to choose them."""
    return (
        *linear("coefficient", 2, f["hidden_size"], True, "router"),
        *parameter("expert_bias", f.experts("num_experts"), role="router"),
    )


def llada_experts(f: Fields, layers: int) -> Sequence[str]:
    """`moe_layer_freq` (1: experts), else experts in every layer."""
    if f.value("moe_layer_freq", None) is None:
        return ["sparse"] * layers
    return ["sparse" if x else "dense" for x in f.per_layer("moe_layer_freq", layers)]


# -- Bailing: inclusionAI/Ling-lite, modeling_bailing_moe.py, and Ling-mini-2.0, modeling_bailing_moe_v2.py ------------

BAILING_SHARED = "num_shared_experts*moe_intermediate_size"
BAILING_ATTENTION = Attention(
    prefix="attention",
    fused="query_key_value",
    names=("", "", "", "dense"),
    bias=lambda f: f.flag("use_qkv_bias", False),
    out_bias=lambda f: f.flag("use_bias", False),
    qk_norm="head",
    qk_norm_if=lambda f: f.flag("use_qk_norm", False),
    norm_names=("query_layernorm", "key_layernorm"),
)


def bailing(*classes: str, beside: Size = BAILING_SHARED) -> Model:
    """A mixture of experts, its first layers dense; `beside` is the inner width of the experts that all tokens pass."""
    return decoder(
        sparse(
            BAILING_ATTENTION,
            MixtureOfExperts(shared=shared_if("num_shared_experts", shared(beside))),
            GatedMLP(),
            leading(field_or("first_k_dense_replace", 0), "dense", "sparse"),
            embed="word_embeddings",
        ),
        heads=UNTIED_BY_DEFAULT,
        classes=classes,
    )


def normed(model: Model, ending: str, *classes: str) -> Model:
    """The same, whose queries and keys have norms unless the config says otherwise; `ending` is its head's."""
    assert isinstance(model, BodyAndHeads)
    return replace(
        model,
        body=assuming(model.body, use_qk_norm=True),
        heads={ending: model.heads["ForCausalLM"], "Model": no_head},
        default=ending,
        classes=classes,
    )


REMOTE_MOE: Mapping[str, Model] = {
    "step3_text": decoder(
        sparse(FactorizedAttention(), StepExperts(), GatedMLP(), step3_layers, only={"num_attention_groups": (1,)}),
        heads=NEVER_TIED,
        classes=("Step3TextForCausalLM", "Step3TextModel"),
    ),
    "arctic": decoder(
        sparse(
            Attention(bias="attention_bias"),
            ArcticExperts(experts="num_local_experts", inner="intermediate_size", prefix=SPARSE),
            GatedMLP(prefix=f"{SPARSE}.mlp", names=EXPERT),
            every("moe_layer_frequency", "sparse", "dense"),
        ),
        heads=UNTIED_BY_DEFAULT,
        classes=("ArcticForCausalLM", "ArcticModel"),
    ),
    "longcat_flash_ngram": decoder(
        replace(
            LONGCAT.body,
            feed_forwards={"sparse": IdleExperts(experts="n_routed_experts", inner="expert_ffn_hidden_size")},
            embed="ngram_embeddings.word_embeddings",
            beside=(ngram_tables,),
        ),
        heads=NEVER_TIED,
        classes=("LongcatFlashNgramForCausalLM", "LongcatFlashNgramModel"),
    ),
    "sarvam_mla": decoder(
        sparse(
            LatentAttention(bias=False),
            MixtureOfExperts(
                shared=shared_if("num_shared_experts", GatedMLP(prefix="shared_experts", inner=shared_width))
            ),
            GatedMLP(),
            sarvam_layers,
        ),
        heads=UNTIED_BY_DEFAULT,
        classes=("SarvamMLAForCausalLM", "SarvamMLAModel"),
    ),
    # PowerInfer/SmallThinker-21BA3B-Instruct, modeling_smallthinker.py
    "smallthinker": decoder(
        sparse(
            Attention(),
            MixtureOfExperts(
                experts="moe_num_primary_experts",
                inner="moe_ffn_hidden_size",
                prefix=SPARSE,
                router="primary_router",
            ),
            only={"moe_layer_layout": (), "moe_enable_secondary_experts": (False,)},
        ),
        heads=TIED_BY_DEFAULT,
        classes=("SmallThinkerForCausalLM", "SmallThinkerModel"),
    ),
    "mimo_v2": decoder(
        Decoder(
            mixers={"full_attention": MIMO_FULL, "sliding_attention": MIMO_SLIDING},
            mixer_schedule=mimo_layers,
            feed_forwards={
                "dense": GatedMLP(),
                "sparse": MixtureOfExperts(experts="n_routed_experts", extras=(correction_bias,)),
            },
            feed_forward_schedule=mimo_experts,
            only={"n_shared_experts": (0,)},
        ),
        heads=UNTIED_BY_DEFAULT,
        classes=("MiMoV2ForCausalLM", "MiMoV2Model"),
    ),
    "Klear": decoder(
        sparse(
            Attention(bias="attention_bias", dim=whole_head_dim, qk_norm="head"),
            MixtureOfExperts(shared=shared("n_shared_experts*moe_intermediate_size"), extras=(klear_weighing,)),
            GatedMLP(),
            qwen_schedule,
        ),
        heads=UNTIED_BY_DEFAULT,
        classes=("KlearMoeForCausalLM", "KlearModel"),
    ),
    "grok": decoder(
        sparse(
            Attention(dim="head_dim"),
            GrokExperts(experts="num_local_experts", prefix=SPARSE),
            norms=("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"),
        ),
        heads=NEVER_TIED,
        classes=("Grok1ForCausalLM",),
    ),
    "bailing_moe": bailing("BailingMoeForCausalLM", "BailingMoeV2ForCausalLM", "BailingMoeModel"),
    "bailing_moe_v2": bailing("BailingMoeV2ForCausalLM", "BailingMoeV2Model"),
    # bharatgenai/Param2-17B-A2.4B-Thinking; vLLM, models/param2moe.py
    "param2moe": bailing(
        "Param2MoEForCausalLM", beside=field_or("moe_shared_expert_intermediate_size", BAILING_SHARED)
    ),
    # sarvamai/sarvam-30b; vLLM, models/sarvam.py, has the same blocks for it
    "sarvam_moe": normed(bailing(), "ForCausalLM", "SarvamMoEForCausalLM", "SarvamMoEModel"),
    # inclusionAI/LLaDA2.0-mini, modeling_llada2_moe.py
    "llada2_moe": normed(bailing(), "", "LLaDA2MoeModelLM", "LLaDA2MoeModel"),
    # inclusionAI/LLaDA-MoE-7B-A1B-Base, modeling_lladamoe.py; its config says "llada"
    "lladamoe": decoder(
        sparse(
            Attention(
                bias=lambda f: f.flag("attention_bias", False),
                dim=whole_head_dim,
                qk_norm="head",
                qk_norm_if=lambda f: f.flag("qk_layernorm", False),
            ),
            MixtureOfExperts(inner="expert_intermediate_size"),
            GatedMLP(inner="dense_intermediate_size"),
            llada_experts,
            only={"shared_expert_intermediate_size": (None,), "moe_router_enable_expert_bias": (False, None)},
        ),
        heads={"": UNTIED_BY_DEFAULT["ForCausalLM"], "Model": no_head},
        default="",
        classes=("LLaDAMoEModelLM", "LLaDAMoEModel"),
    ),
    # deepseek-ai/deepseek-moe-16b-base, modeling_deepseek.py
    "deepseek": decoder(
        sparse(
            LLAMA_ATTENTION,
            MixtureOfExperts(experts="n_routed_experts", shared=several_shared()),
            GatedMLP(),
            leading(field_or("first_k_dense_replace", 0), "dense", "sparse"),
            only={"moe_layer_freq": (1,)},
        ),
        heads=TIED_BY_DEFAULT,
        classes=("DeepseekForCausalLM", "DeepseekModel"),
    ),
}
