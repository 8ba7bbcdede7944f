"""Decoder-only text models that the transformers library does not have: their code lies in the model's repository.

That code is never run; each entry follows its published definition, which the comment above it names. Where such a
config leaves out `tie_word_embeddings`, the library's version 4 default, true, applies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastewq.architectures.assembly import Adjusted, Assembly, Family, Only, assuming, present
from fastewq.architectures.body import Decoder, Overrides, leading
from fastewq.architectures.decoders.dense import (
    FALCON,
    H_4H,
    HEADS,
    LLAMA_ATTENTION,
    LLAMA_LINE,
    LLAMA_MLP,
    uniform,
    whole_head_dim,
)
from fastewq.architectures.decoders.experts import shared, shared_if, sparse
from fastewq.architectures.decoders.latent import LATENT_LINE
from fastewq.architectures.decoders.linear_attention import MINIMAX
from fastewq.architectures.decoders.moe import MOE
from fastewq.architectures.encoders.bert_relatives import ENCODERS
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import BodyAndHeads, Classifier, LMHead, Model, decoder, heads_with, no_head
from fastewq.architectures.parts import (
    LAYER_NORM,
    MLP,
    NO_FEED_FORWARD,
    NO_MIXER,
    Attention,
    FeedForwardPart,
    GatedMLP,
    MixerPart,
    MixtureOfExperts,
    Norm,
    Tensors,
    field_or,
    linear,
    norm,
    prefixed,
    unless,
)
from fastewq.architectures.remote.qwen_vl import qwen_eyes
from fastewq.errors import UnsupportedArchitecture


def tied(f: Fields) -> bool:
    return f.flag("tie_word_embeddings", True)


NEW_TASKS = ("MaskedLM", "SequenceClassification", "TokenClassification")
TIED_HEADS = heads_with(ForCausalLM=LMHead(tied=tied))

# -- MiMo: XiaomiMiMo/MiMo-7B-RL, modeling_mimo.py --------------------------------------------------------------------

QWEN2_ATTENTION = Attention(bias=True, out_bias=False)


def mimo_prediction(f: Fields) -> Tensors:
    """Layers that predict further tokens. The model holds them, but its forward pass does not run them."""
    hidden = f["hidden_size"]
    names = (
        "input_layernorm",
        "post_attention_layernorm",
        "token_layernorm",
        "hidden_layernorm",
        "final_layernorm",
    )
    layer = (
        *(t for name in names for t in norm(name, hidden)),
        *linear("input_proj", hidden, 2 * hidden),
        *QWEN2_ATTENTION(f),
        *GatedMLP()(f),
    )
    layers = f.count("num_nextn_predict_layers", 0, high=64)
    return tuple(t for i in range(layers) for t in prefixed(f"mtp_layers.{i}", layer))


# -- DeciLM: nvidia/Llama-3_3-Nemotron-Super-49B-v1, modeling_decilm.py and block_config.py ---------------------------


def deci_inner(f: Fields) -> int:
    """Two thirds of a multiple of the hidden size, rounded up to a multiple of 256; newer configs give the width."""
    if f.value("intermediate_size", None) is not None:
        return f["intermediate_size"]
    inner = int(2 * f.number("ffn_mult", high=1e3) * f["hidden_size"] / 3)
    return max(-(-inner // 256) * 256, 256)


def deci_part(f: Fields, layer: Any, name: str, options: Sequence[str]) -> dict[str, Any]:
    """One half of a layer's block config, refused where it asks for a structure not described here."""
    half = layer.get(name) if isinstance(layer, dict) else None
    if not isinstance(half, dict):
        raise f.refuse("block_configs", layer, f"objects with an object named {name}")
    if not half.keys().isdisjoint(options):
        for option in options:
            if half.get(option):
                raise UnsupportedArchitecture(f"block_configs.{name}.{option} is set; no layout is known for it")
    return half


def deci_attention(f: Fields, layer: Any) -> tuple[str, Overrides]:
    half = deci_part(f, layer, "attention", ("is_mamba", "mamba", "llama4"))
    if half.get("no_op"):
        return "none", ()
    if half.get("replace_with_linear"):
        return "linear", ()
    group, keys = half.get("n_heads_in_group"), half.get("num_key_value_heads")
    if type(keys) is int:
        return "attention", (("num_key_value_heads", keys),)
    heads = f[HEADS]
    if type(group) is not int or group < 1 or heads % group:
        raise f.refuse("block_configs.attention.n_heads_in_group", group, f"a divisor of the {heads} attention heads")
    return "attention", (("num_key_value_heads", heads // group),)


def deci_feed_forward(f: Fields, layer: Any) -> tuple[str, Overrides]:
    half = deci_part(f, layer, "ffn", ("moe",))
    if half.get("no_op"):
        return "none", ()
    if half.get("replace_with_linear"):
        return "linear", ()
    widths = (("intermediate_size", half.get("intermediate_size")), ("ffn_mult", half.get("ffn_mult")))
    return "dense", tuple([(name, value) for name, value in widths if value is None or type(value) in (int, float)])


@dataclass(frozen=True, kw_only=True)
class DeciDecoder(Decoder):
    """`block_configs` says all about each layer."""

    def kinds(self, f: Fields) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        layers = f.per_layer("block_configs", f.layers())
        mixers = [deci_attention(f, layer) for layer in layers]
        feeds = [deci_feed_forward(f, layer) for layer in layers]
        changes = [mixer[1] + feed[1] for mixer, feed in zip(mixers, feeds, strict=True)]
        return [name for name, _ in mixers], [name for name, _ in feeds], changes


@dataclass(frozen=True, kw_only=True)
class NormedAttention(Attention):
    def __call__(self, f: Fields) -> Tensors:
        return (*norm("input_layernorm", f["hidden_size"]), *super().__call__(f))


@dataclass(frozen=True, kw_only=True)
class NormedMLP(GatedMLP):
    def __call__(self, f: Fields) -> Tensors:
        return (*norm("post_attention_layernorm", f["hidden_size"]), *super().__call__(f))


@dataclass(frozen=True, kw_only=True)
class LinearMixer(MixerPart):
    """One matrix in the place of attention."""

    def __call__(self, f: Fields) -> Tensors:
        hidden = f["hidden_size"]
        return (*norm("input_layernorm", hidden), *linear("self_attn.linear_attn", hidden, hidden))


@dataclass(frozen=True, kw_only=True)
class LinearFeedForward(FeedForwardPart):
    """One matrix in the place of the feed-forward."""

    def __call__(self, f: Fields) -> Tensors:
        hidden = f["hidden_size"]
        return (*norm("post_attention_layernorm", hidden), *linear("mlp.linear_mlp", hidden, hidden))


DECI = DeciDecoder(
    mixers={"attention": NormedAttention(bias="attention_bias"), "linear": LinearMixer(), "none": NO_MIXER},
    feed_forwards={
        "dense": NormedMLP(bias="mlp_bias", inner=deci_inner),
        "linear": LinearFeedForward(),
        "none": NO_FEED_FORWARD,
    },
    norms=(),
)


def deci_7b_heads(f: Fields, layers: int) -> Sequence[Overrides]:
    return [(("num_key_value_heads", n),) for n in f.sizes("num_key_value_heads_per_layer", layers)]


# -- OpenELM: apple/OpenELM-270M, modeling_openelm.py -----------------------------------------------------------------


def divisible(value: float, divisor: int) -> int:
    """`make_divisible` of the repository: to the nearest multiple, but at most a tenth below the value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def openelm_layers(f: Fields, layers: int) -> Sequence[Overrides]:
    heads, keys = f.sizes("num_query_heads", layers), f.sizes("num_kv_heads", layers)
    factors, divisor = f.per_layer("ffn_multipliers", layers), f["ffn_dim_divisor"]
    width = f["model_dim"]
    if not all(type(x) in (int, float) and 0 < x < 1000 for x in factors):
        raise f.refuse("ffn_multipliers", factors, "a list of numbers")
    return [
        ((HEADS, h), ("num_key_value_heads", k), ("intermediate_size", divisible(x * width, divisor)))
        for h, k, x in zip(heads, keys, factors, strict=True)
    ]


# -- Qwen, first generation: Qwen/Qwen-7B, modeling_qwen.py -----------------------------------------------------------


def half_inner(f: Fields) -> int:
    return f.count("intermediate_size", low=2) // 2


# -- Phi, first code: microsoft/phi-1_5, modeling_phi.py --------------------------------------------------------------


def phi_head(f: Fields, body: Any) -> Tensors:
    return (
        *norm("lm_head.ln", f["n_embd"], bias=True),
        *linear("lm_head.linear", body.vocab_size, f["n_embd"], True),
    )


def minimax_layers(f: Fields, layers: int) -> Sequence[str]:
    return ["full_attention" if kind else "linear_attention" for kind in f.per_layer("attn_type_list", layers)]


def chatglm_heads(f: Fields) -> int:
    return f["multi_query_group_num"] if f.flag("multi_query_attention", False) else f[HEADS]


def chatglm_bias(f: Fields) -> bool:
    return f.flag("add_bias_linear", False) or f.flag("add_qkv_bias", False)


def inside_body(f: Fields, body: Any) -> Tensors:  # noqa: ARG001
    """ChatGLM's head is the body's output layer."""
    return ()


INTERNLM2_ATTENTION = Attention(prefix="attention", fused="wqkv", names=("", "", "", "wo"), bias="bias")

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


def bailing(*classes: str) -> Model:
    """A mixture of experts, its first layers dense."""
    return decoder(
        sparse(
            BAILING_ATTENTION,
            MixtureOfExperts(shared=shared_if("num_shared_experts", shared(BAILING_SHARED))),
            GatedMLP(),
            leading(field_or("first_k_dense_replace", 0), "dense", "sparse"),
            embed="word_embeddings",
        ),
        heads=heads_with(ForCausalLM=LMHead(tied=lambda f: f.flag("tie_word_embeddings", False))),
        classes=classes,
    )


BAILING_SHARED = "num_shared_experts*moe_intermediate_size"


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


def llada_head(f: Fields, body: Any) -> Tensors:
    if f.flag("weight_tying", True):
        return ()
    return linear("model.transformer.ff_out", body.vocab_size, f["d_model"])


# -- Falcon before the library had it: tiiuae/falcon-7b and tiiuae/falcon-40b, modeling_RW.py -------------------------

REFINED = {"n_head": HEADS, "n_head_kv": "num_kv_heads", "n_layer": "num_hidden_layers"}


def refined(f: Fields) -> Fields:
    return f.renamed(REFINED)


def refined_with_groups(f: Fields) -> Fields:
    return refined(f).replaced(new_decoder_architecture=True)


# -- Hunyuan before the library had it: tencent/Hunyuan-A13B-Instruct, modeling_hunyuan.py ----------------------------


def hunyuan(f: Fields) -> Fields:
    """The same fields once lists with a value per layer prove to hold one value."""
    f.require("use_cla", (False,))
    f.require("use_mla", (False,))
    same = {"moe_intermediate_size": f["intermediate_size"], "num_shared_expert": 1}
    for name, value in same.items():
        listed = f.value(name, value)
        if any(one != value for one in (listed if isinstance(listed, list) else [listed])):
            raise f.refuse(name, listed, f"{value} in every layer")
    return f


def reading(model: BodyAndHeads, change: Callable[[Fields], Fields], *classes: str) -> BodyAndHeads:
    """A described model whose files say some things in other words."""
    return replace(model, body=Adjusted(model.body, change), classes=classes)


REMOTE: Mapping[str, Model] = {
    "RefinedWebModel": reading(FALCON, refined, "RWForCausalLM", "RWModel"),
    "RefinedWeb": reading(FALCON, refined_with_groups, "RWForCausalLM", "RWModel"),
    "hunyuan": reading(MOE["hunyuan_v1_moe"], hunyuan, "HunYuanMoEV1ForCausalLM", "HunYuanForCausalLM"),
    # nvidia/llama-nemotron-embed-1b-v2, llama_bidirectional_model.py: every token sees every other
    "llama_bidirec": replace(
        LLAMA_LINE["llama"],
        default="Model",
        classes=("LlamaBidirectionalModel", "LlamaBidirectionalForSequenceClassification"),
    ),
    # tencent/Youtu-LLM-2B under its first name
    "youtu_llm": LATENT_LINE["youtu"],
    # inclusionAI/Ling-lite, modeling_bailing_moe.py, and inclusionAI/Ling-mini-2.0, modeling_bailing_moe_v2.py
    "bailing_moe": bailing("BailingMoeForCausalLM", "BailingMoeV2ForCausalLM", "BailingMoeModel"),
    "bailing_moe_v2": bailing("BailingMoeV2ForCausalLM", "BailingMoeV2Model"),
    # sarvamai/sarvam-30b; vLLM, models/sarvam.py, has the same blocks for it
    "sarvam_moe": normed(bailing(), "ForCausalLM", "SarvamMoEForCausalLM", "SarvamMoEModel"),
    # inclusionAI/LLaDA2.0-mini, modeling_llada2_moe.py
    "llada2_moe": normed(bailing(), "", "LLaDA2MoeModelLM", "LLaDA2MoeModel"),
    # GSAI-ML/LLaDA-8B-Base, modeling_llada.py
    "llada": decoder(
        uniform(
            Attention(
                prefix="",
                names=("q_proj", "k_proj", "v_proj", "attn_out"),
                bias=lambda f: f.flag("include_bias", False) or f.flag("include_qkv_bias", False),
                out_bias=lambda f: f.flag("include_bias", False),
                hidden="d_model",
                heads="n_heads",
                kv_heads=field_or("n_kv_heads", "n_heads"),
                dim=lambda f: f.divided("d_model", "n_heads"),
            ),
            GatedMLP(
                prefix="",
                names=("ff_proj", "up_proj", "ff_out"),
                hidden="d_model",
                inner="mlp_hidden_size",
                bias=lambda f: f.flag("include_bias", False),
            ),
            count="n_layers",
            hidden="d_model",
            embed_width="d_model",
            vocab="embedding_size",
            norms=("attn_norm", "ff_norm"),
            layers="transformer.blocks",
            embed="transformer.wte",
            final_norm="transformer.ln_f",
            only={"block_type": ("llama",), "alibi": (False,), "rope": (True,), "layer_norm_type": ("rms",)},
        ),
        heads={"": llada_head},
        default="",
        classes=("LLaDAModelLM",),
    ),
    # Dream-org/Dream-v0-Base-7B, modeling_dream.py: Qwen2 with another name for the head's class
    "Dream": decoder(
        uniform(QWEN2_ATTENTION, GatedMLP()), heads={"Model": LMHead()}, default="Model", classes=("DreamModel",)
    ),
    # JetLM/SDAR-8B-Chat and JetLM/SDAR-30B-A3B-Chat, modeling_sdar.py and modeling_sdar_moe.py: Qwen3
    "sdar": replace(LLAMA_LINE["qwen3"], classes=("SDARForCausalLM",)),
    "sdar_moe": replace(MOE["qwen3_moe"], classes=("SDARMoeForCausalLM",)),
    # Alibaba-NLP/gte-multilingual-base before the library had it
    "new": Family("New", ENCODERS["gte"].builders, classes=("NewModel", *(f"NewFor{task}" for task in NEW_TASKS))),
    # moonshotai/Kimi-K2-Instruct: its modeling_deepseek.py is DeepSeek V3
    "kimi_k2": replace(LATENT_LINE["deepseek_v3"], classes=("DeepseekV3ForCausalLM", "KimiK2ForCausalLM")),
    "mimo": decoder(
        uniform(QWEN2_ATTENTION, GatedMLP(), beside=(mimo_prediction,)), classes=("MiMoForCausalLM", "MiMoModel")
    ),
    # the text half of minimax_m3_vl, published alone
    "minimax_m3": replace(MOE["minimax_m3_vl_text"], classes=("MiniMaxM3ForCausalLM", "MiniMaxM3SparseForCausalLM")),
    "nemotron-nas": decoder(DECI, classes=("DeciLMForCausalLM", "DeciLMModel")),
    # Deci/DeciLM-7B, modeling_decilm.py
    "deci": decoder(uniform(LLAMA_ATTENTION, LLAMA_MLP, per_layer=deci_7b_heads), classes=("DeciLMForCausalLM",)),
    # MiniMaxAI/MiniMax-Text-01, modeling_minimax_text_01.py: `attn_type_list` has 0 for linear attention
    "minimax_text_01": decoder(
        replace(MINIMAX, mixer_schedule=minimax_layers, only={"shared_intermediate_size": (0,)}),
        classes=("MiniMaxText01ForCausalLM", "MiniMaxForCausalLM"),
    ),
    "minimax_m1": decoder(
        replace(MINIMAX, mixer_schedule=minimax_layers, only={"shared_intermediate_size": (0,)}),
        classes=("MiniMaxM1ForCausalLM",),
    ),
    # stabilityai/stablelm-3b-4e1t before the library had it
    "stablelm_epoch": replace(LLAMA_LINE["stablelm"], classes=("StableLMEpochForCausalLM",)),
    # internlm/internlm2-7b, modeling_internlm2.py
    "internlm2": decoder(
        uniform(
            INTERNLM2_ATTENTION,
            GatedMLP(prefix="feed_forward", names=("w1", "w3", "w2")),
            norms=("attention_norm", "ffn_norm"),
            embed="tok_embeddings",
        ),
        heads=heads_with(
            ForCausalLM=LMHead(path="output", tied=tied), ForRewardModel=Classifier(path="v_head", outputs=1)
        ),
        classes=("InternLM2ForCausalLM", "InternLM2ForRewardModel", "InternLM2Model"),
    ),
    # internlm/internlm-7b, modeling_internlm.py
    "internlm": decoder(
        uniform(Attention(bias="bias"), GatedMLP()),
        heads=TIED_HEADS,
        classes=("InternLMForCausalLM", "InternLMModel"),
    ),
    # baichuan-inc/Baichuan2-7B-Base, modeling_baichuan.py
    "baichuan": decoder(
        uniform(Attention(fused="W_pack", kv_heads=HEADS, dim=whole_head_dim), GatedMLP()),
        heads=heads_with(ForCausalLM=LMHead(tied=False)),
        classes=("BaichuanForCausalLM", "BaiChuanForCausalLM", "BaichuanModel"),
    ),
    "qwen": decoder(
        Assembly(
            uniform(
                Attention(
                    prefix="attn",
                    fused="c_attn",
                    names=("", "", "", "c_proj"),
                    bias=True,
                    out_bias=unless("no_bias"),
                    kv_heads=HEADS,
                    dim="kv_channels",
                ),
                GatedMLP(names=("w1", "w2", "c_proj"), inner=half_inner, bias=unless("no_bias")),
                norms=("ln_1", "ln_2"),
                layers="h",
                embed="wte",
                final_norm="ln_f",
            ),
            Only(present("visual"), qwen_eyes),
        ),
        heads=heads_with(LMHeadModel=LMHead(tied=tied)),
        default="LMHeadModel",
        prefix="transformer",
        classes=("QWenLMHeadModel", "QWenModel"),
    ),
    # THUDM/chatglm3-6b, modeling_chatglm.py: the output layer belongs to the body
    "chatglm": decoder(
        uniform(
            Attention(
                prefix="self_attention",
                fused="query_key_value",
                names=("", "", "", "dense"),
                bias=chatglm_bias,
                out_bias="add_bias_linear",
                kv_heads=chatglm_heads,
                dim="kv_channels",
            ),
            GatedMLP(fused=H_4H[0], names=("", "", H_4H[1]), inner="ffn_hidden_size", bias="add_bias_linear"),
            count="num_layers",
            vocab="padded_vocab_size",
            norm=Norm(),
            layers="encoder.layers",
            embed="embedding.word_embeddings",
            final_norm="encoder.final_layernorm",
            beside=(lambda f: linear("output_layer", f["padded_vocab_size"], f["hidden_size"]),),
            only={
                "rmsnorm": (True,),
                "post_layer_norm": (True,),
                "tie_word_embeddings": (False,),
                "pre_seq_len": (),
                "inner_hidden_size": (),
            },
        ),
        heads={"Model": no_head, "ForConditionalGeneration": inside_body},
        default="ForConditionalGeneration",
        prefix="transformer",
        classes=("ChatGLMModel", "ChatGLMForConditionalGeneration"),
    ),
    # LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct, modeling_exaone.py
    "exaone": decoder(
        uniform(
            Attention(prefix="attn.attention", names=("q_proj", "k_proj", "v_proj", "out_proj")),
            GatedMLP(names=("c_fc_0", "c_fc_1", "c_proj")),
            count=lambda f: f.layers("num_hidden_layers" if f.has("num_hidden_layers") else "num_layers"),
            norms=("ln_1", "ln_2"),
            layers="h",
            embed="wte",
            final_norm="ln_f",
        ),
        heads=TIED_HEADS,
        prefix="transformer",
        classes=("ExaoneForCausalLM", "ExaoneModel"),
    ),
    "openelm": decoder(
        uniform(
            Attention(
                prefix="attn",
                fused="qkv_proj",
                names=("", "", "", "out_proj"),
                hidden="model_dim",
                qk_norm="head",
                qk_norm_if="normalize_qk_projections",
            ),
            GatedMLP(prefix="ffn", fused="proj_1", names=("", "", "proj_2"), hidden="model_dim"),
            per_layer=openelm_layers,
            count="num_transformer_layers",
            hidden="model_dim",
            embed_width="model_dim",
            norms=("ffn_norm", "attn_norm"),
            embed="token_embeddings",
            only={"ffn_with_glu": (True,)},
        ),
        heads=heads_with(ForCausalLM=LMHead(tied="share_input_output_layers")),
        prefix="transformer",
        classes=("OpenELMForCausalLM", "OpenELMModel"),
    ),
    # microsoft/Phi-3-small-8k-instruct, modeling_phi3_small.py: gate and up lie side by side in one matrix
    "phi3small": decoder(
        uniform(
            Attention(fused="query_key_value", names=("", "", "", "dense"), bias=True, dim=whole_head_dim),
            GatedMLP(
                fused="up_proj",
                names=("", "", "down_proj"),
                bias=True,
                inner=field_or("ff_intermediate_size", lambda f: f["ff_dim_multiplier"] * f["hidden_size"]),
            ),
            norm=LAYER_NORM,
            final_norm="final_layernorm",
            only={"hidden_act": ("gegelu",)},
        ),
        heads=TIED_HEADS,
        classes=("Phi3SmallForCausalLM", "Phi3SmallModel"),
    ),
    # upstage/solar-pro-preview-instruct, modeling_solar.py: llama's blocks with connections that skip some
    "solar": decoder(
        uniform(LLAMA_ATTENTION, LLAMA_MLP),
        heads=heads_with(ForCausalLM=LMHead(tied=lambda f: f.flag("tie_word_embeddings", False))),
        classes=("SolarForCausalLM", "SolarModel"),
    ),
    # openbmb/MiniCPM-2B-sft-bf16 and openbmb/MiniCPM4.1-8B, modeling_minicpm.py; sparse attention averages keys, which
    # takes no weights
    "minicpm": decoder(
        uniform(LLAMA_ATTENTION, GatedMLP(), only={"num_experts": (0,), "mixer_types": ()}),
        heads=TIED_HEADS,
        classes=("MiniCPMForCausalLM", "MiniCPMModel"),
    ),
    # deepseek-ai/deepseek-moe-16b-base, modeling_deepseek.py
    "deepseek": decoder(
        sparse(
            LLAMA_ATTENTION,
            MixtureOfExperts(experts="n_routed_experts", shared=shared("n_shared_experts*moe_intermediate_size")),
            GatedMLP(),
            leading(field_or("first_k_dense_replace", 0), "dense", "sparse"),
            only={"moe_layer_freq": (1,)},
        ),
        heads=TIED_HEADS,
        classes=("DeepseekForCausalLM", "DeepseekModel"),
    ),
    # OrionStarAI/Orion-14B-Base, modeling_orion.py
    "orion": decoder(
        uniform(LLAMA_ATTENTION, GatedMLP(), norm=LAYER_NORM),
        heads=TIED_HEADS,
        classes=("OrionForCausalLM", "OrionModel"),
    ),
    # BAAI/AquilaChat2-7B and xverse/XVERSE-7B: the llama line under other names
    "aquila": decoder(uniform(Attention(), GatedMLP()), heads=TIED_HEADS, classes=("AquilaForCausalLM",)),
    "xverse": decoder(uniform(Attention(), GatedMLP()), heads=TIED_HEADS, classes=("XverseForCausalLM",)),
    "phi-msft": decoder(
        uniform(
            Attention(
                prefix="mixer",
                fused="Wqkv",
                names=("", "", "", "out_proj"),
                bias=True,
                hidden="n_embd",
                heads="n_head",
                kv_heads=field_or("n_head_kv", "n_head"),
                dim=lambda f: f.divided("n_embd", "n_head"),
            ),
            MLP(hidden="n_embd", inner=field_or("n_inner", "4*n_embd")),
            count="n_layer",
            hidden="n_embd",
            embed_width="n_embd",
            norm=LAYER_NORM,
            norms=("ln",),
            layers="h",
            embed="embd.wte",
            final_norm="",
        ),
        heads=heads_with(ForCausalLM=phi_head),
        prefix="transformer",
        classes=("PhiForCausalLM", "MixFormerSequentialForCausalLM"),
    ),
}
