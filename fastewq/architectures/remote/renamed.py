"""Models whose blocks the transformers library has under another name, or with other names for some fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fastewq.architectures.assembly import Adjusted, Family
from fastewq.architectures.body import Body
from fastewq.architectures.decoders.dense import FALCON, HEADS, LLAMA, LLAMA_LINE, uniform
from fastewq.architectures.decoders.latent import LATENT_LINE
from fastewq.architectures.decoders.linear_attention import MINIMAX
from fastewq.architectures.decoders.moe import MOE
from fastewq.architectures.encoders.bert_relatives import ENCODERS
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import BodyAndHeads, LMHead, Model, decoder
from fastewq.architectures.parts import Attention, GatedMLP, Tensors, linear


def reading(model: BodyAndHeads, change: Callable[[Fields], Fields], *classes: str) -> BodyAndHeads:
    """A described model whose files say some things in other words."""
    return replace(model, body=Adjusted(model.body, change), classes=classes)


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


# -- MiniMax before the library had it: MiniMaxAI/MiniMax-Text-01, modeling_minimax_text_01.py ------------------------


def minimax_layers(f: Fields, layers: int) -> Sequence[str]:
    return ["full_attention" if kind else "linear_attention" for kind in f.per_layer("attn_type_list", layers)]


MINIMAX_01 = replace(MINIMAX, mixer_schedule=minimax_layers, only={"shared_intermediate_size": (0,)})


def ranks(f: Fields, body: Body) -> Tensors:
    """What makes vectors of the marks after documents and query."""
    half = body.width // 2
    return (*linear("projector.0", half, body.width), *linear("projector.2", f["embedding_size"], half))


NEW_TASKS = ("MaskedLM", "SequenceClassification", "TokenClassification")

RENAMED: Mapping[str, Model] = {
    "RefinedWebModel": reading(FALCON, refined, "RWForCausalLM", "RWModel"),
    "RefinedWeb": reading(FALCON, refined_with_groups, "RWForCausalLM", "RWModel"),
    "hunyuan": reading(MOE["hunyuan_v1_moe"], hunyuan, "HunYuanMoEV1ForCausalLM", "HunYuanForCausalLM"),
    # nvidia/llama-nemotron-embed-1b-v2, llama_bidirectional_model.py: every token sees every other
    "llama_bidirec": replace(
        LLAMA_LINE["llama"],
        default="Model",
        classes=("LlamaBidirectionalModel", "LlamaBidirectionalForSequenceClassification"),
    ),
    # perplexity-ai/pplx-embed-v1-0.6b, modeling.py: Qwen3 whose tokens all see each other
    "bidirectional_pplx_qwen3": replace(LLAMA_LINE["qwen3"], default="Model", classes=("PPLXQwen3Model",)),
    # tencent/Youtu-LLM-2B under its first name
    "youtu_llm": LATENT_LINE["youtu"],
    # Dream-org/Dream-v0-Base-7B, modeling_dream.py: Qwen2 with another name for the head's class
    "Dream": decoder(
        uniform(Attention(bias=True, out_bias=False), GatedMLP()),
        heads={"Model": LMHead()},
        default="Model",
        classes=("DreamModel",),
    ),
    # nvidia/Nemotron-Labs-Diffusion-8B, modeling_nemotron_labs_diffusion.py: Ministral 3
    "nemotron_labs_diffusion": decoder(
        LLAMA,
        heads={"Model": LMHead(path="diffusion_head")},
        default="Model",
        prefix="encoder",
        classes=("NemotronLabsDiffusionModel",),
    ),
    # jinaai/jina-reranker-v3, modeling.py; vLLM, models/jina.py: its config says qwen3
    "jina_ranking": replace(
        LLAMA_LINE["qwen3"], heads={"ForRanking": ranks}, default="ForRanking", classes=("JinaForRanking",)
    ),
    # Efficient-Large-Model/Fast_dLLM_v2_7B, modeling.py: Qwen2
    "Fast_dLLM_Qwen": replace(LLAMA_LINE["qwen2"], classes=("Fast_dLLM_QwenForCausalLM", "Fast_dLLM_QwenModel")),
    # JetLM/SDAR-8B-Chat and JetLM/SDAR-30B-A3B-Chat, modeling_sdar.py and modeling_sdar_moe.py: Qwen3
    "sdar": replace(LLAMA_LINE["qwen3"], classes=("SDARForCausalLM",)),
    "sdar_moe": replace(MOE["qwen3_moe"], classes=("SDARMoeForCausalLM",)),
    # Alibaba-NLP/gte-multilingual-base before the library had it
    "new": Family("New", ENCODERS["gte"].builders, classes=("NewModel", *(f"NewFor{task}" for task in NEW_TASKS))),
    # moonshotai/Kimi-K2-Instruct: its modeling_deepseek.py is DeepSeek V3
    "kimi_k2": replace(LATENT_LINE["deepseek_v3"], classes=("DeepseekV3ForCausalLM", "KimiK2ForCausalLM")),
    # the text half of minimax_m3_vl, published alone
    "minimax_m3": replace(MOE["minimax_m3_vl_text"], classes=("MiniMaxM3ForCausalLM", "MiniMaxM3SparseForCausalLM")),
    "minimax_text_01": decoder(MINIMAX_01, classes=("MiniMaxText01ForCausalLM", "MiniMaxForCausalLM")),
    "minimax_m1": decoder(MINIMAX_01, classes=("MiniMaxM1ForCausalLM",)),
    # stabilityai/stablelm-3b-4e1t before the library had it
    "stablelm_epoch": replace(LLAMA_LINE["stablelm"], classes=("StableLMEpochForCausalLM",)),
}
