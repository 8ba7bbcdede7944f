"""Jet-Nemotron: Qwen2 in most of whose layers a delta rule stands for attention, behind convolutions made of the input.

Follows NVlabs/Jet-Nemotron, jetai/modeling/hf/modeling_jet_nemotron.py, jet_block.py and dynamic_conv.py. They are
never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastewq.architecture import Mixer as MixerKind
from fastewq.architectures.body import Decoder, always, listed
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import Attention, GatedMLP, MixerPart, Tensors, linear, norm, parameter, prefixed
from fastewq.architectures.remote.heads import TIED_BY_DEFAULT

EFFICIENT = "efficient_attention_config"


@dataclass(frozen=True, kw_only=True)
class JetBlock(MixerPart):
    """The gated delta rule, whose values pass a convolution with a kernel for each token."""

    kind: ClassVar[MixerKind] = "linear_attention"

    def __call__(self, f: Fields) -> Tensors:
        if not f.has(EFFICIENT) or not f.sub(EFFICIENT, "").has("jet"):
            raise f.refuse(
                EFFICIENT, f.value(EFFICIENT, None), "an object with the sizes of `jet`, as layer_types has it"
            )
        jet = f.sub(EFFICIENT, "").sub("jet", "")
        width, heads, dim = f["hidden_size"], jet.size("num_heads", 6), jet.size("head_dim", 256)
        wider = jet.number("expand_v", 2.0)
        keys, value_dim = heads * dim, int(dim * wider)
        values = int(keys * wider)
        narrow = values // jet.size("dconv_generator_reduction", 8)
        tensors = (
            *linear("q_proj", keys, width),
            *linear("k_proj", keys, width),
            *linear("v_proj", values, width),
            *linear("b_proj", heads, width),
            *linear("a_proj", heads, width),
            *parameter("A_log", heads),
            *parameter("dt_bias", heads, role="bias"),
            *linear("dynamic_conv1d.kernel_generator.w1", narrow, width),
            *linear("dynamic_conv1d.kernel_generator.w2", values * jet.size("conv_size", 4), narrow, True),
            *linear("g_proj", values, width),
            *norm("o_norm", value_dim),
            *linear("o_proj", width, values),
        )
        return prefixed("self_attn", tensors)


ATTENTION = Attention(bias=True, out_bias=False)
JET: Mapping[str, Model] = {
    "jet_nemotron": decoder(
        Decoder(
            mixers={"attn": ATTENTION, "swa": ATTENTION, "jet": JetBlock()},
            mixer_schedule=listed("layer_types", always("attn")),
            feed_forwards={"dense": GatedMLP()},
        ),
        heads=TIED_BY_DEFAULT,
        classes=("JetNemotronForCausalLM", "JetNemotronModel"),
    ),
}
