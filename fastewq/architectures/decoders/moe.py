"""Decoder-only text models with mixtures of experts and ordinary attention."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.body import Decoder, always, leading, listed, per_layer_config
from fastewq.architectures.decoders.dense import (
    GEMMA2_NORMS,
    HEADS,
    LLAMA_ATTENTION,
    LLAMA_MLP,
    POST_NORMS,
    QA_TRANSFORMER,
    square_head_dim,
    uniform,
)
from fastewq.architectures.decoders.experts import (
    EXPERTS,
    FIRST_DENSE,
    GPT_OSS,
    GPT_OSS_ATTENTION,
    GRANITE_EXPERTS,
    LLAMA4_MLP,
    MLP_TYPES,
    QWEN_SHARED,
    DbrxAttention,
    DbrxExperts,
    DogeExperts,
    JetMoeAttention,
    JetMoeExperts,
    OneShared,
    beam_gate,
    doge_experts,
    doge_residuals,
    dynamic_mask,
    ernie_schedule,
    flint_schedule,
    granite_shared,
    laguna_gate,
    laguna_heads,
    llama4_schedule,
    m3_experts,
    m3_indexer,
    m3_layers,
    mimo_attention,
    mimo_experts,
    mimo_layers,
    privacy_labels,
    qwen_schedule,
    several_shared,
    shared,
    shared_gate,
    sinks,
    sparse,
    step_experts,
    step_heads,
)
from fastewq.architectures.heads import BodyAndHeads, Classifier, LMHead, decoder, heads_with, no_head
from fastewq.architectures.parts import (
    LAYER_NORM,
    Attention,
    GatedMLP,
    MixtureOfExperts,
    Norm,
    field_or,
    linear,
    parameter,
)

MOE: Mapping[str, BodyAndHeads] = {
    "mixtral": decoder(sparse(Attention(), MixtureOfExperts(experts="num_local_experts", inner="intermediate_size"))),
    "qwen2_moe": decoder(
        sparse(
            Attention(bias="qkv_bias", out_bias=False),
            MixtureOfExperts(shared=QWEN_SHARED, extras=(shared_gate,)),
            GatedMLP(),
            qwen_schedule,
        )
    ),
    "qwen3_moe": decoder(
        sparse(Attention(bias="attention_bias", qk_norm="head"), MixtureOfExperts(), GatedMLP(), qwen_schedule),
        prefixes=QA_TRANSFORMER,
    ),
    "mellum": decoder(
        sparse(
            Attention(bias="attention_bias", qk_norm="head"),
            MixtureOfExperts(),
            GatedMLP(),
            listed("mlp_layer_types", always("sparse")),
        )
    ),
    "olmoe": decoder(
        sparse(
            Attention(bias="attention_bias", qk_norm="full", dim=square_head_dim),
            MixtureOfExperts(inner="intermediate_size"),
        )
    ),
    "flex_olmo": decoder(
        sparse(
            Attention(bias="attention_bias", qk_norm="full"),
            MixtureOfExperts(inner="intermediate_size"),
            norms=POST_NORMS,
        )
    ),
    "minimax_m2": decoder(
        sparse(
            Attention(qk_norm="full"),
            MixtureOfExperts(experts="num_local_experts", inner="intermediate_size"),
            only={"use_qk_norm": (True,), "qk_norm_type": ("per_layer",), "shared_intermediate_size": (0,)},
        )
    ),
    "phimoe": decoder(
        sparse(
            LLAMA_ATTENTION,
            MixtureOfExperts(experts="num_local_experts", inner="intermediate_size", router="router"),
            norm=LAYER_NORM,
        ),
        heads=heads_with(ForCausalLM=LMHead(bias="lm_head_bias")),
    ),
    "gpt_oss": decoder(GPT_OSS),
    "openai_privacy_filter": decoder(
        GPT_OSS,
        heads={"ForTokenClassification": Classifier(bias=True, outputs=privacy_labels), "Model": no_head},
        default="ForTokenClassification",
    ),
    "flint": decoder(
        sparse(
            Attention(bias="attention_bias", qk_norm="head", extras=(sinks,)),
            MixtureOfExperts(shared=QWEN_SHARED),
            GatedMLP(),
            flint_schedule,
        )
    ),
    "beam": decoder(
        sparse(
            Attention(bias="attention_bias", qk_norm="head", extras=(beam_gate,)),
            MixtureOfExperts(),
            GatedMLP(),
            listed("mlp_layer_types", leading(3, "dense", "sparse")),
            norms=GEMMA2_NORMS,
        )
    ),
    "doge": decoder(
        sparse(
            Attention(bias="attention_bias", qk_norm="head", extras=(dynamic_mask,)),
            DogeExperts(),
            LLAMA_MLP,
            doge_experts,
            extras=(doge_residuals,),
        )
    ),
    "granitemoe": decoder(sparse(LLAMA_ATTENTION, GRANITE_EXPERTS)),
    "granitemoeshared": decoder(sparse(LLAMA_ATTENTION, GRANITE_EXPERTS, extras=(granite_shared,))),
    "granitemoe_swa": decoder(sparse(GPT_OSS_ATTENTION, GRANITE_EXPERTS, extras=(granite_shared,))),
    "granite_swa": decoder(uniform(GPT_OSS_ATTENTION, LLAMA_MLP)),
    "jetmoe": decoder(sparse(JetMoeAttention(), JetMoeExperts(experts="num_local_experts", inner="intermediate_size"))),
    "ernie4_5_moe": decoder(
        sparse(
            Attention(bias="use_bias"),
            MixtureOfExperts(
                experts="moe_num_experts",
                shared=several_shared("moe_num_shared_experts", bias="use_bias"),
                extras=(
                    lambda f: parameter(
                        "gate.moe_statics.e_score_correction_bias", 1, f.experts("moe_num_experts"), role="router"
                    ),
                ),
            ),
            GatedMLP(bias="use_bias"),
            ernie_schedule,
        ),
        heads=heads_with(ForCausalLM=LMHead(bias="use_bias")),
    ),
    "hunyuan_v1_moe": decoder(
        sparse(
            Attention(bias="attention_bias", qk_norm="head", norm_names=("query_layernorm", "key_layernorm")),
            MixtureOfExperts(
                inner="intermediate_size", router="gate.wg", shared=shared("intermediate_size", "shared_mlp")
            ),
            only={"use_qk_norm": (True,)},
        )
    ),
    "hy_v3": decoder(
        sparse(
            Attention(bias="attention_bias", qk_norm="head"),
            MixtureOfExperts(shared=several_shared("num_shared_experts", bias="mlp_bias")),
            LLAMA_MLP,
            MLP_TYPES,
        )
    ),
    "exaone_moe": decoder(
        sparse(
            Attention(qk_norm="head"),
            MixtureOfExperts(shared=several_shared("num_shared_experts")),
            GatedMLP(),
            listed("mlp_layer_types", FIRST_DENSE),
        )
    ),
    "dots1": decoder(sparse(Attention(bias="attention_bias", qk_norm="head"), EXPERTS, GatedMLP(), FIRST_DENSE)),
    "glm4_moe": decoder(
        sparse(
            Attention(bias="attention_bias", out_bias=False, qk_norm="head", qk_norm_if="use_qk_norm"),
            EXPERTS,
            GatedMLP(),
            FIRST_DENSE,
        )
    ),
    "solar_open": decoder(sparse(Attention(bias="attention_bias", out_bias=False), EXPERTS)),
    "kolibri1": decoder(
        sparse(
            Attention(qk_norm="head"),
            MixtureOfExperts(shared=OneShared()),
            norms=(
                "input_layernorm",
                "post_attention_layernorm",
                "post_self_attn_layernorm",
                "post_mlp_layernorm",
            ),
        )
    ),
    "afmoe": decoder(
        sparse(
            Attention(
                bias="attention_bias",
                qk_norm="head",
                extras=(lambda f: linear("gate_proj", f[HEADS] * f["head_dim"], f["hidden_size"]),),
            ),
            MixtureOfExperts(
                router="router.gate",
                shared=several_shared("num_shared_experts"),
                extras=(lambda f: parameter("expert_bias", f.experts("num_experts"), role="router"),),
            ),
            GatedMLP(),
            leading("num_dense_layers", "dense", "sparse"),
            norms=("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"),
        )
    ),
    "cohere2_moe": decoder(
        sparse(
            LLAMA_ATTENTION,
            MixtureOfExperts(
                inner="intermediate_size",
                shared=several_shared("num_shared_experts", "intermediate_size"),
            ),
            GatedMLP(inner=field_or("prefix_dense_intermediate_size", "intermediate_size")),
            listed("mlp_layer_types", leading(field_or("first_k_dense_replace", 0), "dense", "sparse")),
            norm=Norm("layer"),
            norms=("input_layernorm",),
        )
    ),
    "llama4_text": decoder(
        sparse(
            LLAMA_ATTENTION,
            MixtureOfExperts(
                experts="num_local_experts",
                inner="intermediate_size",
                prefix="feed_forward",
                router="router",
                transposed=True,
                shared=shared("intermediate_size", "shared_expert"),
            ),
            LLAMA4_MLP,
            llama4_schedule,
        )
    ),
    "mimo_v2_flash": decoder(
        Decoder(
            mixers={"full_attention": mimo_attention(False), "sliding_attention": mimo_attention(True)},
            mixer_schedule=listed("layer_types", mimo_layers),
            feed_forwards={"dense": GatedMLP(), "sparse": MixtureOfExperts(experts="n_routed_experts")},
            feed_forward_schedule=listed("mlp_layer_types", mimo_experts),
            only={"add_swa_attention_sink_bias": (True,), "add_full_attention_sink_bias": (False,)},
        )
    ),
    "laguna": decoder(
        sparse(
            Attention(
                bias="attention_bias",
                qk_norm="head",
                extras=(laguna_gate,),
            ),
            MixtureOfExperts(
                shared=OneShared(),
                extras=(lambda f: parameter("gate.e_score_correction_bias", f.experts("num_experts"), role="router"),),
            ),
            GatedMLP(),
            MLP_TYPES,
            per_layer=laguna_heads,
        )
    ),
    "minimax_m3_vl_text": decoder(
        Decoder(
            mixers={
                "full_attention": Attention(qk_norm="head"),
                "minimax_m3_sparse": Attention(qk_norm="head", extras=(m3_indexer,)),
            },
            mixer_schedule=listed("layer_types", m3_layers),
            feed_forwards={
                "dense": GatedMLP(fused="gate_up_proj", inner="dense_intermediate_size"),
                "sparse": MixtureOfExperts(
                    experts="num_local_experts",
                    inner="intermediate_size",
                    shared=shared("shared_intermediate_size", fused="gate_up_proj"),
                ),
            },
            feed_forward_schedule=listed("mlp_layer_types", m3_experts),
            only={"attention_output_gate": (False,), "use_qk_norm": (True,), "qk_norm_type": ("per_head",)},
        )
    ),
    "step3p5": decoder(
        sparse(
            Attention(
                bias="attention_bias",
                qk_norm="head",
                extras=(lambda f: linear("g_proj", f[HEADS], f["hidden_size"]),),
            ),
            MixtureOfExperts(experts="n_routed_experts", shared=shared("share_expert_dim", bias="mlp_bias")),
            LLAMA_MLP,
            listed("mlp_layer_types", step_experts),
            per_layer=per_layer_config(step_heads),
        ),
        default="Model",
    ),
    "dbrx": decoder(
        Decoder(
            mixers={"attention": DbrxAttention()},
            feed_forwards={"experts": DbrxExperts()},
            norms=(),
            layers="blocks",
            embed="wte",
            final_norm="norm_f",
            norm=Norm("layer"),
        ),
        prefix="transformer",
    ),
}
