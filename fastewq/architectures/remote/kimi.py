"""Kimi K3, whose code lies in its repository (moonshotai/Kimi-K3) and is never run.

Text: modeling_kimi_linear.py, Kimi Linear with experts in a narrower space, gates of full rank and attention over the
outputs of earlier layers. Its config calls itself `kimi_linear`, as that of Kimi Linear does, which the transformers
library has without these. Images: modeling_kimi_k3.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastewq.architecture import Mixer as MixerKind
from fastewq.architectures.assembly import (
    Adjusted,
    Assembly,
    Convolution,
    Expect,
    In,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    sizes,
)
from fastewq.architectures.body import Body, Decoder
from fastewq.architectures.decoders.dense import HEADS
from fastewq.architectures.decoders.experts import several_shared
from fastewq.architectures.decoders.latent import LatentAttention, axk_schedule
from fastewq.architectures.decoders.linear_attention import LINEAR, kimi_layers
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import NEVER_TIED, BodyAndHeads, Model, decoder
from fastewq.architectures.parts import (
    GatedMLP,
    MixerPart,
    MixtureOfExperts,
    Tensors,
    convolution,
    linear,
    norm,
    parameter,
    prefixed,
)
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.vision.clip import vision_layers

NEW_IN_K3 = ("attn_res_block_size", "routed_expert_hidden_size", "mla_use_output_gate")
"""Fields that Kimi Linear's own code does not know."""


@dataclass(frozen=True, kw_only=True)
class DeltaAttention(MixerPart):
    """Kimi's delta attention with a convolution for each of q, k and v. arXiv 2510.26692."""

    kind: ClassVar[MixerKind] = "linear_attention"

    def __call__(self, f: Fields) -> Tensors:
        own, hidden = f.sub("linear_attn_config", ""), f["hidden_size"]
        heads, dim, kernel = own["num_heads"], own["head_dim"], own["short_conv_kernel_size"]
        width = heads * dim
        if own.flag("use_full_rank_gate", False):
            gate = linear("g_proj", width, hidden)
        else:
            gate = (*linear("g_a_proj", dim, hidden), *linear("g_b_proj", width, dim))
        tensors = (
            *(t for letter in "qkv" for t in linear(f"{letter}_proj", width, hidden)),
            *(t for letter in "qkv" for t in convolution(f"{letter}_conv1d", width, 1, kernel, bias=False)),
            *parameter("A_log", heads),
            *parameter("dt_bias", width, role="bias"),
            *linear("f_a_proj", dim, hidden),
            *linear("f_b_proj", width, dim),
            *linear("b_proj", heads, hidden),
            *gate,
            *norm("o_norm", dim),
            *linear("o_proj", hidden, width),
        )
        return prefixed("self_attn", tensors)


def output_gate(f: Fields) -> Tensors:
    return (
        linear("g_proj", f[HEADS] * f["v_head_dim"], f["hidden_size"]) if f.flag("mla_use_output_gate", False) else ()
    )


def expert_width(f: Fields) -> int:
    """The width that experts read and write: the hidden size, or a narrower one."""
    return f.optional_size("routed_expert_hidden_size") or f["hidden_size"]


@dataclass(frozen=True, kw_only=True)
class LatentExperts(MixtureOfExperts):
    """Experts between two matrices that all of them share; the router reads the hidden state."""

    def __call__(self, f: Fields) -> Tensors:
        hidden, (inner, experts), narrow = f["hidden_size"], self.facts(f), expert_width(f)
        at = self.prefix
        if f.optional_size("routed_expert_hidden_size") is None:
            around: Tensors = ()
        else:
            around = (
                *linear(f"{at}.routed_expert_down_proj", narrow, hidden),
                *linear(f"{at}.routed_expert_up_proj", hidden, narrow),
                *(norm(f"{at}.routed_expert_norm", narrow) if f.flag("latent_moe_use_norm", False) else ()),
            )
        return (
            *linear(f"{at}.gate", experts, hidden, role="router"),
            *parameter(f"{at}.gate.e_score_correction_bias", experts, role="bias"),
            *self.stacked(f"{at}.experts.gate_up_proj", experts, 2 * inner, narrow, False),
            *self.stacked(f"{at}.experts.down_proj", experts, narrow, inner, False),
            *around,
            *prefixed(at, self.shared(f)),
        )


def attends_to_layers(f: Fields) -> bool:
    return f.value("attn_res_block_size", None) is not None


def residual(f: Fields, *names: str) -> Tensors:
    """What weighs the outputs of earlier layers: a norm and one score per layer."""
    if not attends_to_layers(f):
        return ()
    width = f["hidden_size"]
    return tuple(t for name in names for t in (*norm(f"{name}_norm", width), *linear(f"{name}_proj", 1, width)))


K3_TEXT = decoder(
    Decoder(
        mixers={
            "full_attention": LatentAttention(bias=False, extras=(output_gate,)),
            "linear_attention": DeltaAttention(),
        },
        mixer_schedule=kimi_layers,
        feed_forwards={
            "dense": GatedMLP(),
            "sparse": LatentExperts(
                experts="num_local_experts",
                prefix="block_sparse_moe",
                shared=several_shared(),
            ),
        },
        feed_forward_schedule=axk_schedule,
        extras=(lambda f: residual(f, "self_attention_res", "mlp_res"),),
        beside=(lambda f: residual(f, "output_attn_res"),),
    ),
    heads=NEVER_TIED,
)


def linear_or_k3(f: Fields, path: str) -> Body:
    """Kimi Linear, or the text model of Kimi K3 where a field says that it is one."""
    is_k3 = any(f.value(name, None) not in (None, False) for name in NEW_IN_K3)
    plain = LINEAR["kimi_linear"]
    assert isinstance(plain, BodyAndHeads)
    return (K3_TEXT if is_k3 else plain).body(f, path)


# -- MoonViT-3D: the time of a video has no learned positions ---------------------------------------------------------


def attended(f: Fields) -> int:
    return f.optional_size("qkv_hidden_size") or f["vt_hidden_size"]


def layer_norms(f: Fields) -> bool:
    return bool(f.value("norm_type", "layernorm") == "layernorm")


def merged(f: Fields) -> int:
    rows, columns = sizes(f, "merge_kernel_size", 2)[:2]
    return f["mm_hidden_size"] * rows * columns


def attention_bias(f: Fields) -> bool:
    return f.flag("attn_bias", True)


def linear_bias(f: Fields) -> bool:
    return f.flag("linear_bias", True)


def patch_bias(f: Fields) -> bool:
    return f.flag("patch_embed_proj_bias", True)


SEES = "vt_hidden_size"
MOON_VIT_3D = Assembly(
    Expect("mlp_type", "mlp2"),
    Expect("norm_type", "layernorm", "rmsnorm"),
    Expect("pos_emb_type", "divided_fixed"),
    Rest(
        Convolution("patch_embed.proj", SEES, 3, ("patch_size", "patch_size"), patch_bias),
        Parameter("patch_embed.pos_emb.weight", ("init_pos_emb_height", "init_pos_emb_width", SEES), "embedding"),
        Norm("encoder.final_layernorm", SEES, layer_norms),
    ),
    vision_layers(
        "encoder.blocks",
        Norm("norm0", SEES, layer_norms),
        Norm("norm1", SEES, layer_norms),
        Linear("mlp.fc0", "vt_intermediate_size", SEES, linear_bias),
        Linear("mlp.fc1", SEES, "vt_intermediate_size", linear_bias),
        Linear("wqkv", lambda f: 3 * attended(f), SEES, attention_bias),
        Linear("wo", SEES, attended, attention_bias),
        count="vt_num_hidden_layers",
        width=SEES,
        heads="vt_num_attention_heads",
        head_dim=lambda f: attended(f) // f["vt_num_attention_heads"],
        ffn="vt_intermediate_size",
    ),
)
PROJECTOR = Assembly(
    Expect("mm_projector_type", "patchmergerv2"),
    Rest(
        Linear("proj.0", merged, merged, False),
        Linear("proj.2", "text_hidden_size", merged, False),
        Norm("post_norm", "text_hidden_size", False),
    ),
)


def with_tower(f: Fields) -> Fields:
    """The same once its `vision_config`, which names no model_type, counts as read."""
    f.sub("vision_config", "moonvit3d")
    return f


K3 = Adjusted(
    Assembly(
        In("vision_config", MOON_VIT_3D, path="vision_tower"),
        In("vision_config", PROJECTOR, path="mm_projector"),
        Nested("text_config", "language_model", {"kimi_linear": K3_TEXT}, "ForCausalLM"),
    ),
    with_tower,
)

KIMI_LINEAR: Mapping[str, Model] = {"kimi_linear": decoder(linear_or_k3, heads=NEVER_TIED)}
REMOTE_KIMI: Mapping[str, Model] = {
    "kimi_k3": one_class("KimiK3", "ForConditionalGeneration", K3),
}
