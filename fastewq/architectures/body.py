"""From parts to stacks: a body is a model without its task head (the `LlamaModel` of a `LlamaForCausalLM`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeVar

from fastewq.architecture import (
    USUAL_TENSORS,
    Blocks,
    FeedForward,
    Layout,
    Mixer,
    Outside,
    Stack,
    Tensor,
    new_outside,
    new_tensor,
)
from fastewq.architectures.fields import MAX_LAYOUTS, Fields, Size
from fastewq.architectures.parts import (
    RMS_NORM,
    FeedForwardPart,
    GatedMLP,
    Heads,
    MixerPart,
    Norm,
    Part,
    Tensors,
    embedding,
    join,
)
from fastewq.errors import InvalidConfig

Schedule = Callable[[Fields, int], Sequence[str]]
"""(fields, number of layers) -> the name of each layer's mixer, feed-forward or variant."""
Overrides = tuple[tuple[str, Any], ...]
PerLayer = Callable[[Fields, int], Sequence[Overrides]]
"""(fields, number of layers) -> the config fields that each layer changes, as (name, value) pairs."""

K = TypeVar("K", bound=Hashable)
P = TypeVar("P")


class Body(NamedTuple):
    """Stacks and the parameter groups outside them, with full module paths.

    `width` and `vocab_size` are what a language-model head reads and predicts; 0 where there is none.
    """

    stacks: tuple[Stack, ...]
    outside: tuple[Outside, ...]
    warnings: tuple[str, ...] = ()
    width: int = 0
    vocab_size: int = 0


BodyBuilder = Callable[[Fields, str], Body]
"""(fields, module path of the body, "" at the root) -> Body."""


@lru_cache(256)
def numbered(path: str, count: int) -> tuple[str, ...]:
    """The module paths `path.0`, `path.1`, ... of a list of blocks."""
    return tuple([f"{path}.{i}" for i in range(count)])


def outside(path: str, tensors: Tensors) -> tuple[Outside, ...]:
    """Tensors named relative to `path`, grouped by the module that holds them."""
    groups: dict[str, list[Tensor]] = {}
    above = f"{path}." if path else ""
    for name, shape, role, _, _ in tensors:
        module, _, last = (above + name).rpartition(".")
        groups.setdefault(module, []).append(new_tensor((last, shape, role, False, None)))
    return tuple([new_outside((module, tuple(group))) for module, group in groups.items()])


def of_each(layouts: Mapping[K, Layout], keys: Sequence[K]) -> tuple[Layout, ...]:
    """The layout of each block by its key. Most stacks have one."""
    return tuple(map(layouts.__getitem__, keys)) if len(layouts) > 1 else (*layouts.values(),) * len(keys)


def most_frequent(counted: Sequence[tuple[int, P, Fields]]) -> tuple[int, P, Fields]:
    """The entry with the highest count; the first of them on a tie."""
    return max(counted, key=itemgetter(0))


def shared_layout(mixer: Mixer, feed_forward: FeedForward, tensors: Tensors) -> Layout:
    """The layout of these tensors. Models share blocks, so the latest of usual size are kept, with what they weigh."""
    if len(tensors) > USUAL_TENSORS:
        return Layout(mixer, feed_forward, tensors)
    return _kept_layout(mixer, feed_forward, tensors)


_kept_layout = lru_cache(1024)(Layout)


@dataclass(frozen=True, kw_only=True)
class BlockStack:
    """Equal or alternating blocks with one mixer and one feed-forward each.

    `mixers` and `feed_forwards` name the parts a layer may have; the schedules say which layer has which, without
    one every layer has the first. `per_layer` gives config fields that differ from layer to layer. `norms` are
    as wide as the hidden size; a norm inside a part belongs to the part. `only` are options whose other values build
    a structure that is not described here.
    """

    mixers: Mapping[str, MixerPart]
    feed_forwards: Mapping[str, FeedForwardPart] = field(default_factory=lambda: {"dense": GatedMLP()})
    mixer_schedule: Schedule | None = None
    feed_forward_schedule: Schedule | None = None
    per_layer: PerLayer | None = None
    norms: tuple[str, ...] | Callable[[Fields], tuple[str, ...]] = ("input_layernorm", "post_attention_layernorm")
    norm: Norm = RMS_NORM
    extras: tuple[Part, ...] = ()
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    layers: str = "layers"
    count: str | Callable[[Fields], int] = "num_hidden_layers"
    hidden: Size = "hidden_size"
    name: str = "decoder"
    role: Literal["decoder", "encoder", "vision", "audio"] = "decoder"

    def kinds(self, f: Fields) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """The mixer, the feed-forward and the overrides of each layer."""
        count = f.layers(self.count) if isinstance(self.count, str) else self.count(f)
        return (
            scheduled(f, count, self.mixer_schedule, self.mixers, "mixer"),
            scheduled(f, count, self.feed_forward_schedule, self.feed_forwards, "feed-forward"),
            self.per_layer(f, count) if self.per_layer else [()] * count,
        )

    def layout(self, f: Fields, mixer: MixerPart, feed_forward: FeedForwardPart) -> Layout:
        width = f[self.hidden]
        tensors = [*f.once(mixer), *f.once(feed_forward)]
        for name in self.norms(f) if callable(self.norms) else self.norms:
            tensors += self.norm(f, name, width)
        for extra in self.extras:
            tensors += extra(f)
        return shared_layout(mixer.kind, feed_forward.kind, tuple(tensors))

    def stack(self, f: Fields, path: str) -> Stack:
        for name, allowed in self.only.items():
            f.require(name, allowed)
        if self.per_layer is None:
            f.require("per_layer_config", ({},))
        kinds = mixers, feed_forwards, overrides = self.kinds(f)
        keys, places = told_apart(kinds)
        if len(places) > MAX_LAYOUTS:
            raise InvalidConfig(
                f"{f.where(self.name)} has {len(places)} different blocks; expected at most {MAX_LAYOUTS}"
            )
        counts = Counter(keys) if len(places) > 1 else places
        layouts: dict[Hashable, Layout] = {}
        mixing: list[tuple[int, MixerPart, Fields]] = []
        feeding: list[tuple[int, FeedForwardPart, Fields]] = []
        for key, place in places.items():
            changes = overrides[place]
            level = f.replaced(**dict(changes)) if changes else f
            mixer, feed_forward = self.mixers[mixers[place]], self.feed_forwards[feed_forwards[place]]
            layouts[key] = self.layout(level, mixer, feed_forward)
            if mixer.kind in ("attention", "hybrid"):
                mixing.append((counts[key], mixer, level))
            if feed_forward.kind != "none":
                feeding.append((counts[key], feed_forward, level))
        heads, ffn_width, experts = Heads(), 0, 0
        if mixing:
            _, mixer, level = most_frequent(mixing)
            heads = mixer.facts(level)
        if feeding:
            _, feed_forward, level = most_frequent(feeding)
            ffn_width, experts = feed_forward.facts(level)
        return Stack(
            name=self.name,
            role=self.role,
            blocks=Blocks(numbered(join(path, self.layers), len(keys)), of_each(layouts, keys)),
            width=f[self.hidden],
            heads=heads.heads,
            kv_heads=heads.kv_heads,
            head_dim=heads.dim,
            ffn_width=ffn_width,
            experts=experts,
            norm=self.norm.kind,
        )


def told_apart(kinds: Sequence[Sequence[Hashable]]) -> tuple[Sequence[Hashable], dict[Hashable, int]]:
    """A key per layer, made of what varies and so equal for layers that are alike; key -> one of its layers."""
    varying: list[Sequence[Hashable]] = []
    for values in kinds:
        # One schedule may name mixers and feed-forwards.
        if values and values.count(values[0]) < len(values) and values not in varying:
            varying.append(values)
    keys = list(zip(*varying, strict=True)) if len(varying) > 1 else varying[0] if varying else kinds[0]
    return keys, dict(zip(keys, range(len(keys)), strict=True)) if varying else dict.fromkeys(keys[:1], 0)


LEGACY_LAYER_TYPES = {
    "mamba": "linear_attention",
    "attention": "full_attention",
    "deepseek_sparse_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
}


def listed(name: str, otherwise: Schedule) -> Schedule:
    """The names in a per-layer list of the config, such as `layer_types`; another schedule where it is null."""

    def schedule(f: Fields, layers: int) -> Sequence[str]:
        if f.value(name, None) is None:
            return otherwise(f, layers)
        names = f.per_layer(name, layers)
        if not all(map(isinstance, names, repeat(str))):
            raise f.refuse(name, names, "a list of strings")
        if LEGACY_LAYER_TYPES.keys().isdisjoint(names):
            return names
        return [LEGACY_LAYER_TYPES.get(n, n) for n in names]

    return schedule


def always(part: str) -> Schedule:
    return lambda _, layers: [part] * layers


def leading(count: Size, first: str, rest: str) -> Schedule:
    """One part in the first layers and another in the rest; `count` may be 0."""

    def schedule(f: Fields, layers: int) -> Sequence[str]:
        n = min(f.count(count) if isinstance(count, str) else f.amount(count), layers)
        return [first] * n + [rest] * (layers - n)

    return schedule


def every(interval: Size, hit: str, other: str) -> Schedule:
    """One part in every `interval`-th layer (the last of each group) and another in the others."""

    def schedule(f: Fields, layers: int) -> Sequence[str]:
        step = f[interval]
        names = [other] * layers
        names[step - 1 :: step] = [hit] * (layers // step)
        return names

    return schedule


def per_layer_config(otherwise: PerLayer) -> PerLayer:
    """What the library's `per_layer_config` (layer -> fields) changes, where a config has one."""

    def changes(f: Fields, layers: int) -> Sequence[Overrides]:
        given = f.value("per_layer_config", None)
        if given is None:
            return otherwise(f, layers)
        if not isinstance(given, Mapping) or not all(isinstance(v, Mapping) for v in given.values()):
            raise f.refuse("per_layer_config", given, "an object of objects, one per layer")
        numbered = {int(k): v for k, v in given.items() if isinstance(k, str) and k.isdecimal() and len(k) < 9}
        return [tuple(sorted(sizes_in(numbered.get(i, {})).items())) for i in range(layers)]

    return changes


def sizes_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that a shape can depend on; they can be compared and hashed."""
    return {str(k): v for k, v in values.items() if isinstance(v, int | str | None)}


def scheduled(f: Fields, count: int, schedule: Schedule | None, parts: Mapping[str, Any], what: str) -> Sequence[str]:
    """The part name of each layer, all of them known."""
    if schedule is None:
        return [next(iter(parts))] * count
    names = schedule(f, count)
    for name in dict.fromkeys(names):
        if name not in parts:
            raise f.refuse(f"the {what} of a layer", name, "one of " + ", ".join(parts))
    return names


@dataclass(frozen=True, kw_only=True)
class Decoder(BlockStack):
    """A decoder-only body: token embedding, blocks, final norm.

    `beside` are further tensors outside the blocks, `head_width` what a head reads where that is not the hidden size,
    `renamed` spellings of old configs.
    """

    embed: str = "embed_tokens"
    embed_width: Size = "hidden_size"
    vocab: Size = "vocab_size"
    final_norm: str = "norm"
    beside: tuple[Part, ...] = ()
    head_width: Size | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, f: Fields, path: str) -> Body:
        f = f.renamed(self.renamed)
        width, vocab = f[self.hidden], f[self.vocab]
        tensors = (
            *(embedding(self.embed, vocab, f[self.embed_width]) if self.embed else ()),
            *(self.norm(f, self.final_norm, width) if self.final_norm else ()),
            *(t for part in self.beside for t in part(f)),
        )
        head_width = width if self.head_width is None else f[self.head_width]
        return Body((self.stack(f, path),), outside(path, tensors), width=head_width, vocab_size=vocab)
