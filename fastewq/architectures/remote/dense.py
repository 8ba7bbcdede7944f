"""Dense decoders that the transformers library does not have: their code lies in the model's repository.

That code is never run; each entry follows its published definition, which the comment above it names. Where such a
config leaves out `tie_word_embeddings`, the library's version 4 default, true, applies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fastewq.architecture import FeedForward as FeedForwardKind
from fastewq.architectures.assembly import Adjusted, Assembly, Only
from fastewq.architectures.body import Decoder, Overrides
from fastewq.architectures.decoders.dense import (
    H_4H,
    HEADS,
    LLAMA,
    LLAMA_ATTENTION,
    LLAMA_MLP,
    gpt2_attention,
    uniform,
    whole_head_dim,
)
from fastewq.architectures.decoders.linear_attention import half_inner
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import NEVER_TIED, Classifier, LMHead, Model, decoder, heads_with
from fastewq.architectures.parts import (
    LAYER_NORM,
    MLP,
    NO_NORM,
    Attention,
    FeedForwardPart,
    GatedMLP,
    MixtureOfExperts,
    Norm,
    Tensors,
    conv1d_linear,
    embedding,
    field_or,
    head_dim,
    hidden_per_head,
    kv_heads,
    linear,
    norm,
    parameter,
    prefixed,
    present,
    unless,
)
from fastewq.architectures.remote.glm_4v import glm_eyes
from fastewq.architectures.remote.heads import TIED_BY_DEFAULT, UNTIED_BY_DEFAULT, tied_by_default
from fastewq.architectures.remote.qwen_vl import qwen_eyes

GPT2_SPELLINGS = {
    "n_embd": "hidden_size",
    "n_head": HEADS,
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
}

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


# -- Phi, first code: microsoft/phi-1_5, and experts made of several: mlabonne/phixtral-4x2_8; modeling_phi.py ---------


def phi_head(f: Fields, body: Any) -> Tensors:
    return (
        *norm("lm_head.ln", f["n_embd"], bias=True),
        *linear("lm_head.linear", body.vocab_size, f["n_embd"], True),
    )


def phi_layers(f: Fields, layers: int) -> Sequence[str]:
    return ["sparse" if f.has("num_local_experts") else "dense"] * layers


PHI_INNER = field_or("n_inner", "4*n_embd")
PHI = decoder(
    Decoder(
        mixers={
            "attention": Attention(
                prefix="mixer",
                fused="Wqkv",
                names=("", "", "", "out_proj"),
                bias=True,
                hidden="n_embd",
                heads="n_head",
                kv_heads=field_or("n_head_kv", "n_head"),
                dim=lambda f: f.divided("n_embd", "n_head"),
            )
        },
        feed_forwards={
            "dense": MLP(hidden="n_embd", inner=PHI_INNER),
            "sparse": MixtureOfExperts(
                experts="num_local_experts", hidden="n_embd", inner=PHI_INNER, prefix="moe", gated=False, bias=True
            ),
        },
        feed_forward_schedule=phi_layers,
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
)


# -- ChatGLM: THUDM/chatglm3-6b, modeling_chatglm.py ------------------------------------------------------------------


def chatglm_heads(f: Fields) -> int:
    return f["multi_query_group_num"] if f.flag("multi_query_attention", False) else f[HEADS]


def chatglm_bias(f: Fields) -> bool:
    return f.flag("add_bias_linear", False) or f.flag("add_qkv_bias", False)


FIRST_CHATGLM = present("inner_hidden_size")
"""THUDM/chatglm-6b, whose blocks are GPT-NeoX's; the later ones are of llama's line."""


def chatglm_head(f: Fields, body: Any) -> Tensors:
    """In the later ones the body's output layer; the first one's is tied to the embeddings."""
    return LMHead(tied=tied_by_default)(f, body) if FIRST_CHATGLM(f) else ()


# -- LLaDA: GSAI-ML/LLaDA-8B-Base, modeling_llada.py ------------------------------------------------------------------


def llada_head(f: Fields, body: Any) -> Tensors:
    if f.flag("weight_tying", True):
        return ()
    return linear("model.transformer.ff_out", body.vocab_size, f["d_model"])


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
    if tied_by_default(f):
        return ()
    return linear("lm_head", -(-f["vocab_size"] // 16) * 16, f["hidden_size"])


def exit_gate(f: Fields) -> Tensors:
    return linear("early_exit_gate", 1, f["hidden_size"], True)


# -- Baichuan-M1: baichuan-inc/Baichuan-M1-14B-Base, modeling_baichuan.py. arXiv 2502.12671 ---------------------------


def window_heads(f: Fields, layers: int) -> Sequence[Overrides]:
    """Layers with a window may have another number of heads, and heads of another width."""
    heads, keys = field_or("num_swa_attention_heads", HEADS)(f), field_or("num_swa_key_value_heads", kv_heads)(f)
    windows = f.indices("sliding_window_layers")
    return [((HEADS, heads), ("num_key_value_heads", keys)) if i in windows else () for i in range(layers)]


def short_convolutions(f: Fields) -> Tensors:
    """Weights of a token and those before it, for the keys and the values of each head."""
    shape = (1, 1, kv_heads(f), 1, f["conv_window"])
    return (*parameter("conv_k", *shape), *parameter("conv_v", *shape))


# -- IQuest-Coder Loop: IQuestLab/IQuest-Coder-V1-40B-Loop-Instruct, modeling_iquestloopcoder.py ----------------------


def loop_gates(f: Fields) -> Tensors:
    """A gate per block and head, between what a second run of the blocks sees itself and what the first one saw."""
    heads, dim = f[HEADS], head_dim(f)
    gate = (*parameter("weight", heads, dim), *parameter("bias", heads, role="bias"))
    return tuple(t for i in range(f.layers()) for t in prefixed(f"gate_projections.{i}", gate))


# -- InternLM2 --------------------------------------------------------------------------------------------------------

INTERNLM2_MLP = ("w1", "w3", "w2")


@dataclass(frozen=True, kw_only=True)
class WithVisualExpert(GatedMLP):
    """A feed-forward, and one like it that the tokens of images pass instead."""

    def __call__(self, f: Fields) -> Tensors:
        visual = GatedMLP(prefix=f"{self.prefix}_ve", names=self.names)
        return (*super().__call__(f), *visual(f))


def internlm2(mlp: GatedMLP, *classes: str) -> Model:
    return decoder(
        uniform(
            Attention(prefix="attention", fused="wqkv", names=("", "", "", "wo"), bias="bias"),
            mlp,
            norms=("attention_norm", "ffn_norm"),
            embed="tok_embeddings",
        ),
        heads=heads_with(
            ForCausalLM=LMHead(path="output", tied=tied_by_default), ForRewardModel=Classifier(path="v_head", outputs=1)
        ),
        classes=classes,
    )


# -- OLMo before the library had it: allenai/OLMo-7B; allenai/OLMo, hf_olmo/modeling_olmo.py and olmo/model.py ---------

OLMO_SPELLINGS = {
    "d_model": "hidden_size",
    "n_heads": HEADS,
    "n_kv_heads": "num_key_value_heads",
    "n_layers": "num_hidden_layers",
}
OLMO_SWITCHES = {
    "block_type": "sequential",
    "block_group_size": 1,
    "activation_type": "swiglu",
    "alibi": False,
    "rope": True,
    "include_bias": False,
    "attention_layer_norm": False,
    "embedding_layer_norm": False,
    "layer_norm_with_affine": False,
    "norm_after": False,
}
"""What every published file says of its switches, or its class assumes of the last one."""


def first_olmo(f: Fields) -> Fields:
    """The same under the names of other models, once it proves to be one that was published."""
    for name, value in OLMO_SWITCHES.items():
        f.choice(name, (value,), value)
    fused = f.optional_size("mlp_hidden_size") or f.size("mlp_ratio", 4) * f["d_model"]
    if f.value("multi_query_attention", None):
        f = f.replaced(n_kv_heads=1)
    return f.renamed(OLMO_SPELLINGS).replaced(inner=fused // 2)


def mobile(f: Fields) -> Fields:
    """The same with what MobileLLM's class assumes."""
    return f.replaced(**{name: f.value(name, False) for name in ("attention_bias", "mlp_bias")})


REMOTE_DENSE: Mapping[str, Model] = {
    # facebook/MobileLLM-125M, modeling_mobilellm.py; the weights of blocks that run twice are stored once
    "mobilellm": decoder(
        Adjusted(uniform(LLAMA_ATTENTION, LLAMA_MLP), mobile),
        heads={"ForCausalLM": LMHead(tied=lambda f: f.flag("share_embedding", True))},
        classes=("MobileLLMForCausalLM",),
    ),
    "hf_olmo": decoder(
        Adjusted(
            uniform(
                Attention(prefix="", fused="att_proj", names=("", "", "", "attn_out")),
                GatedMLP(prefix="", fused="ff_proj", names=("", "", "ff_out"), inner="inner"),
                norm=NO_NORM,
                layers="blocks",
                embed="wte",
                vocab="embedding_size",
            ),
            first_olmo,
        ),
        heads={"ForCausalLM": LMHead(path="model.transformer.ff_out", tied="weight_tying")},
        prefix="model.transformer",
        classes=("OLMoForCausalLM",),
    ),
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
        heads=TIED_BY_DEFAULT,
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
        heads=heads_with(LMHeadModel=LMHead(tied=tied_by_default)),
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
        heads=TIED_BY_DEFAULT,
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
        heads=TIED_BY_DEFAULT,
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
    "mimo": decoder(
        uniform(QWEN2_ATTENTION, GatedMLP(), beside=(mimo_prediction,)), classes=("MiMoForCausalLM", "MiMoModel")
    ),
    # stepfun-ai/Step-Audio-Chat, modeling_step1.py
    "step1": decoder(
        uniform(Attention(kv_heads="num_attention_groups", dim=whole_head_dim), GatedMLP()),
        heads=TIED_BY_DEFAULT,
        classes=("Step1ForCausalLM", "Step1Model"),
    ),
    # internlm/internlm2-7b, modeling_internlm2.py
    "internlm2": internlm2(
        GatedMLP(prefix="feed_forward", names=INTERNLM2_MLP),
        "InternLM2ForCausalLM",
        "InternLM2ForRewardModel",
        "InternLM2Model",
    ),
    # OpenGVLab/Mono-InternVL-2B, modeling_internlm2_ve.py
    "internlm2_ve": internlm2(
        WithVisualExpert(prefix="feed_forward", names=INTERNLM2_MLP), "InternLM2VEForCausalLM", "InternLM2VEModel"
    ),
    # internlm/internlm-7b, modeling_internlm.py
    "internlm": decoder(
        uniform(Attention(bias="bias"), GatedMLP()),
        heads=TIED_BY_DEFAULT,
        classes=("InternLMForCausalLM", "InternLMModel"),
    ),
    # baichuan-inc/Baichuan2-7B-Base, modeling_baichuan.py
    "baichuan": decoder(
        uniform(Attention(fused="W_pack", kv_heads=HEADS, dim=whole_head_dim), GatedMLP()),
        heads=NEVER_TIED,
        classes=("BaichuanForCausalLM", "BaiChuanForCausalLM", "BaichuanModel"),
    ),
    "baichuan_m1": decoder(
        uniform(
            Attention(fused="W_pack", dim=whole_head_dim, extras=(short_convolutions,)),
            GatedMLP(),
            per_layer=window_heads,
        ),
        heads=UNTIED_BY_DEFAULT,
        classes=("BaichuanM1ForCausalLM", "BaichuanM1Model"),
    ),
    "iquestloopcoder": decoder(
        uniform(LLAMA_ATTENTION, LLAMA_MLP, beside=(loop_gates,)),
        heads=UNTIED_BY_DEFAULT,
        classes=("IQuestLoopCoderForCausalLM", "IQuestLoopCoderModel"),
    ),
    # Qwen/Qwen-7B, modeling_qwen.py
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
        heads=heads_with(LMHeadModel=LMHead(tied=tied_by_default)),
        default="LMHeadModel",
        prefix="transformer",
        classes=("QWenLMHeadModel", "QWenModel"),
    ),
    "chatglm": decoder(
        Assembly(
            Only(
                FIRST_CHATGLM,
                uniform(
                    Attention(
                        prefix="attention",
                        fused="query_key_value",
                        names=("", "", "", "dense"),
                        bias=True,
                        kv_heads=HEADS,
                    ),
                    MLP(names=H_4H, inner="inner_hidden_size"),
                    count="num_layers",
                    norm=LAYER_NORM,
                    embed="word_embeddings",
                    final_norm="final_layernorm",
                    only={"pre_seq_len": ()},
                ),
            ),
            Only(
                unless(FIRST_CHATGLM),
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
                    },
                ),
            ),
            Only(present("vision_config"), glm_eyes),
        ),
        heads={"Model": chatglm_head, "ForConditionalGeneration": chatglm_head},
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
        heads=TIED_BY_DEFAULT,
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
        heads=TIED_BY_DEFAULT,
        classes=("Phi3SmallForCausalLM", "Phi3SmallModel"),
    ),
    # upstage/solar-pro-preview-instruct, modeling_solar.py: llama's blocks with connections that skip some
    "solar": decoder(
        uniform(LLAMA_ATTENTION, LLAMA_MLP),
        heads=UNTIED_BY_DEFAULT,
        classes=("SolarForCausalLM", "SolarModel"),
    ),
    # openbmb/MiniCPM-2B-sft-bf16 and openbmb/MiniCPM4.1-8B, modeling_minicpm.py; sparse attention averages keys, which
    # takes no weights
    "minicpm": decoder(
        uniform(LLAMA_ATTENTION, GatedMLP(), only={"num_experts": (0,), "mixer_types": ()}),
        heads=TIED_BY_DEFAULT,
        classes=("MiniCPMForCausalLM", "MiniCPMModel"),
    ),
    # OrionStarAI/Orion-14B-Base, modeling_orion.py
    "orion": decoder(
        uniform(LLAMA_ATTENTION, GatedMLP(), norm=LAYER_NORM),
        heads=TIED_BY_DEFAULT,
        classes=("OrionForCausalLM", "OrionModel"),
    ),
    # BAAI/AquilaChat2-7B and xverse/XVERSE-7B: the llama line under other names
    "aquila": decoder(uniform(Attention(), GatedMLP()), heads=TIED_BY_DEFAULT, classes=("AquilaForCausalLM",)),
    # CofeAI/Tele-FLM; vLLM, models/teleflm.py: Llama but for its scales
    "teleflm": decoder(LLAMA, classes=("TeleFLMForCausalLM",)),
    "xverse": decoder(uniform(Attention(), GatedMLP()), heads=TIED_BY_DEFAULT, classes=("XverseForCausalLM",)),
    "phi-msft": PHI,
    "phixtral": PHI,
}
