"""From parts to stacks: a body is a model without its task head (the `LlamaModel` of a `LlamaForCausalLM`)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from fastewq.architecture import Block, FeedForward, Layout, Mixer, Outside, Stack, Tensor
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import GatedMLP, embedding, head_dim, join, kv_heads, norm

Part = Callable[[Fields], tuple[Tensor, ...]]
Schedule = Callable[[Fields, int], Sequence[tuple[str, str]]]
"""(fields, number of layers) -> the (mixer, feed-forward) names of each layer."""


@dataclass(frozen=True)
class Body:
    """Stacks and the parameter groups outside them, with full module paths."""

    stacks: tuple[Stack, ...]
    outside: tuple[Outside, ...]
    warnings: tuple[str, ...] = ()


BodyBuilder = Callable[[Fields, str], Body]
"""(fields, module path of the body, "" at the root) -> Body."""


def blocks(path: str, keys: Sequence[Hashable], layout: Callable[[Hashable], Layout]) -> tuple[Block, ...]:
    """One block per key at `path.0`, `path.1`, ...; equal keys share one layout."""
    layouts = {key: layout(key) for key in dict.fromkeys(keys)}
    return tuple(Block(i, f"{path}.{i}", layouts[key]) for i, key in enumerate(keys))


@dataclass(frozen=True)
class Decoder:
    """A decoder-only body: token embedding, blocks of one mixer and one feed-forward each, final norm.

    `mixers` and `feed_forwards` name the parts a layer may have; `schedule` says which layer has which. Without a
    schedule every layer has the first of each.
    """

    mixers: Mapping[Mixer, Part]
    feed_forwards: Mapping[FeedForward, Part] = field(default_factory=lambda: {"dense": GatedMLP()})
    schedule: Schedule | None = None
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    norm_bias: bool = False
    layers: str = "layers"
    embed: str = "embed_tokens"
    final_norm: str = "norm"
    ffn_width: str = "intermediate_size"

    def __call__(self, f: Fields, path: str) -> Body:
        count, width = f.layers(), f.size("hidden_size")
        default = (next(iter(self.mixers)), next(iter(self.feed_forwards)))
        keys = [default] * count if self.schedule is None else self.schedule(f, count)
        norms = tuple(t for name in self.norms for t in norm(name, width, self.norm_bias))

        def layout(key: Hashable) -> Layout:
            mixer, feed_forward = key  # type: ignore[misc]
            return Layout(mixer, feed_forward, (*self.mixers[mixer](f), *self.feed_forwards[feed_forward](f), *norms))

        stack = Stack(
            name="decoder",
            role="decoder",
            blocks=blocks(join(path, self.layers), keys, layout),
            width=width,
            heads=f.size("num_attention_heads"),
            kv_heads=kv_heads(f),
            head_dim=head_dim(f),
            ffn_width=f.count(self.ffn_width, 0),
            norm="layer" if self.norm_bias else "rms",
        )
        outside = (
            Outside(join(path, self.embed), embedding("", f.size("vocab_size"), width)),
            Outside(join(path, self.final_norm), norm("", width, self.norm_bias)),
        )
        return Body((stack,), outside)
