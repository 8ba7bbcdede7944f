"""The text halves of multimodal models: config types that exist only inside another config."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    TEXT_HEAD,
    WIDTH,
    Assembly,
    At,
    Embedding,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Variant,
    linears,
    plus,
    quotient,
)
from fastewq.architectures.decoders.dense import LLAMA_ATTENTION, uniform, whole_head_dim
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import Attention, GatedMLP, MixtureOfExperts, Part

TWINS = {
    "glm4v_moe_text": "glm4_moe",
    "paddleocr_vl_text": "ernie4_5",
    "qwen2_5_omni_text": "qwen2",
    "qwen3_omni_moe_text": "qwen3_moe",
    "qwen3_vl_moe_text": "qwen3_moe",
    "qwen3_vl_text": "qwen3",
}
"""Half of a model -> the model_type with the same tensors."""

QWEN2_VL_ATTENTION = Attention(bias=True, out_bias=False, dim=whole_head_dim)
GLM4_NORMS = ("input_layernorm", "post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm")


def shared_width(f: Fields) -> int:
    return f["intermediate_size"] * f["moe_num_shared_experts"]


ARIA_EXPERTS = MixtureOfExperts(
    experts="moe_num_experts",
    inner="intermediate_size",
    router="router",
    transposed=True,
    shared=GatedMLP(prefix="shared_experts", bias="mlp_bias", inner=shared_width),
)

# -- Mllama: some blocks attend to the image instead of the text ----------------------------------------------------


def mllama_attention(name: str) -> tuple[Part, ...]:
    return (
        *linears(name, "q_proj o_proj", bias=False),
        *linears(name, "k_proj v_proj", mllama_keys, WIDTH, False),
    )


def mllama_keys(f: Fields) -> int:
    return f["num_key_value_heads"] * (f[WIDTH] // f[HEADS])


def mllama_schedule(f: Fields, count: int) -> list[str]:
    crossing = f.value("cross_attention_layers", None)
    if crossing is None:
        crossing = range(3, 40, 5)
    elif not isinstance(crossing, list | tuple) or not all(type(i) is int for i in crossing):
        raise f.refuse("cross_attention_layers", crossing, "a list of layer indices")
    return ["cross" if i in set(crossing) else "self" for i in range(count)]


MLLAMA_TEXT = Assembly(
    Rest(Embedding("embed_tokens", plus("vocab_size", 8)), Norm("norm", bias=False)),
    Layers(
        "layers",
        (
            *linears("mlp", "gate_proj up_proj", FFN, WIDTH, False),
            Linear("mlp.down_proj", WIDTH, FFN, False),
            Norm("input_layernorm", bias=False),
            Norm("post_attention_layernorm", bias=False),
        ),
        name="decoder",
        role="decoder",
        kv_heads="num_key_value_heads",
        norm="rms",
        variants={
            "self": Variant(mllama_attention("self_attn")),
            "cross": Variant(
                (
                    *mllama_attention("cross_attn"),
                    Norm("cross_attn.q_norm", quotient(WIDTH, HEADS), False),
                    Norm("cross_attn.k_norm", quotient(WIDTH, HEADS), False),
                    Parameter("cross_attn_attn_gate", (1,)),
                    Parameter("cross_attn_mlp_gate", (1,)),
                )
            ),
        },
        schedule=mllama_schedule,
    ),
)


def halves(alone: Mapping[str, Model]) -> dict[str, Model]:
    """model_type -> Model, given the models that also exist on their own."""
    return {
        **{half: alone[twin] for half, twin in TWINS.items()},
        **dict.fromkeys(("qwen2_vl_text", "qwen2_5_vl_text"), decoder(uniform(QWEN2_VL_ATTENTION, GatedMLP()))),
        "aria_text": decoder(uniform(LLAMA_ATTENTION, ARIA_EXPERTS)),
        "glm4v_text": decoder(
            uniform(
                Attention(bias=True, out_bias=False, dim=whole_head_dim),
                GatedMLP(fused="gate_up_proj"),
                norms=GLM4_NORMS,
            )
        ),
        "glm_ocr_text": decoder(uniform(Attention(bias=False), GatedMLP(fused="gate_up_proj"), norms=GLM4_NORMS)),
        "mllama_text_model": Family(
            "MllamaText",
            {"Model": MLLAMA_TEXT, "ForCausalLM": Assembly(At("model", MLLAMA_TEXT), TEXT_HEAD)},
        ),
    }
