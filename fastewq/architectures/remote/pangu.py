"""openPangu, dense and with experts: the transformers library does not have them, their code lies in the repositories.

That code is never run; each entry follows its published definition, which the comment beside it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastewq.architectures.body import Body
from fastewq.architectures.decoders.dense import uniform
from fastewq.architectures.decoders.experts import FIRST_DENSE, several_shared, shared, shared_if, sparse
from fastewq.architectures.decoders.latent import LatentAttention
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import (
    Attention,
    GatedMLP,
    MixtureOfExperts,
    Tensors,
    hidden_per_head,
    parameter,
)
from fastewq.architectures.remote.heads import TIED_BY_DEFAULT


def biased(f: Fields) -> bool:
    return f.flag("bias", True)


def router_scale(f: Fields) -> Tensors:
    return parameter("router_scale", 1, f.experts("num_experts"))


def except_dense(f: Fields, layers: int) -> Sequence[str]:
    dense = f.indices("mlp_only_layers")
    return ["dense" if i in dense else "sparse" for i in range(layers)]


PRO_EXPERTS = MixtureOfExperts(
    shared=shared_if(
        "shared_expert_intermediate_size", shared("shared_expert_intermediate_size", prefix="shared_expert")
    ),
    extras=(router_scale,),
)

ULTRA_NAMES = {
    "attention_q_lora_dim": "q_lora_rank",
    "attention_kv_lora_dim": "kv_lora_rank",
    "attention_qk_dim": "qk_nope_head_dim",
    "attention_qk_rope_dim": "qk_rope_head_dim",
    "attention_v_dim": "v_head_dim",
    "num_dense_layers": "first_k_dense_replace",
    "num_routed_experts": "n_routed_experts",
    "num_shared_experts": "n_shared_experts",
}
"""The names of the first version's files -> those of version 1.1."""
LATER = ("param_sink_number", "use_mome", "use_mhc", "index_topk", "block_post_layernorm_idx")
LATER_PARTS = dict.fromkeys(LATER, (0, False))
"""What openPangu 2 adds under the same names."""


def expert_bias(f: Fields) -> Tensors:
    if not f.flag("router_enable_expert_bias", False):
        return ()
    return parameter("e_score_correction_bias", f.experts("n_routed_experts"), role="bias")


NORMS = ("input_layernorm", "post_attention_layernorm")
SANDWICH = (*NORMS, "pre_mlp_layernorm", "post_mlp_layernorm")
ULTRA = {
    norms: sparse(
        LatentAttention(bias=False),
        MixtureOfExperts(
            experts="n_routed_experts",
            shared=several_shared(),
            extras=(expert_bias,),
        ),
        GatedMLP(),
        FIRST_DENSE,
        norms=norms,
        renamed=ULTRA_NAMES,
        only=LATER_PARTS,
    )
    for norms in (NORMS, SANDWICH)
}


def ultra(f: Fields, path: str) -> Body:
    return ULTRA[SANDWICH if f.flag("sandwich_norm", False) else NORMS](f, path)


REMOTE_PANGU: Mapping[str, Model] = {
    # openPangu-Embedded-7B, modeling_openpangu_dense.py
    "PanguEmbedded": decoder(
        uniform(Attention(bias=biased), GatedMLP()),
        heads=TIED_BY_DEFAULT,
        classes=("PanguEmbeddedForCausalLM", "PanguEmbeddedModel"),
    ),
    # openPangu-Pro-MoE-72B; vLLM-Ascend, models/pangu_moe.py
    "PanguProMoE": decoder(
        sparse(
            Attention(bias=True, dim=hidden_per_head),
            PRO_EXPERTS,
            GatedMLP(),
            except_dense,
            only={
                **LATER_PARTS,
                **dict.fromkeys(("sandwich_norm", "qk_nope_dim", "router_enable_expert_bias"), (False,)),
            },
        ),
        heads=TIED_BY_DEFAULT,
        classes=("PanguProMoEForCausalLM", "PanguProMoEModel"),
    ),
    # openPangu-Ultra-MoE-718B, modeling_openpangu_moe.py; vLLM, models/openpangu.py
    "pangu_ultra_moe": decoder(
        ultra,
        heads=TIED_BY_DEFAULT,
        classes=("PanguUltraMoEForCausalLM", "PanguUltraMoEModel"),
    ),
}
