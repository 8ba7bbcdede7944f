"""The vocabulary in which encoders, encoder-decoders, towers and multimodal models are declared.

Sizes are numbers, names of config fields ("text_config.hidden_size" for a nested one), or products of them
("3*hidden_size"); options are True, False or the name of a boolean field. Either may be a function of the fields.

    Linear, Norm, Embedding, Convolution, Parameter   one tensor and its bias
    When, Under                                       parts that depend on an option; parts below a prefix
    Layers, Rest, Nested, At, Only, Assembly          builders of stacks, of what surrounds them, and of whole models
    Family                                            the model classes of one model_type

Every part maps `Fields` to tensors; every builder maps `Fields` and a module path to a `Body`, so builders nest freely.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Literal

from fastewq.architecture import Blocks, FeedForward, Layout, Mixer, Outside, Role, Stack, Tensor
from fastewq.architectures.body import Body, BodyBuilder, Schedule, numbered, of_each, outside
from fastewq.architectures.fields import MAX_LAYERS, MAX_SIZE, Fields, Size
from fastewq.architectures.heads import Model, ending
from fastewq.architectures.parts import (
    Option,
    Part,
    Tensors,
    chosen,
    convolution,
    embedding,
    head_dim,
    join,
    kv_heads,
    linear,
    norm,
    parameter,
    prefixed,
    unless,
)
from fastewq.errors import InvalidConfig, UnsupportedArchitecture

StackRole = Literal["decoder", "encoder", "vision", "audio"]

WIDTH = "hidden_size"
HEADS = "num_attention_heads"
FFN = "intermediate_size"

MAX_ENTRIES = 128
"""No list of widths of a real model is longer."""


# -- options and sizes ----------------------------------------------------------------------------------------------


def positive(name: str) -> Option:
    """The option that an integer field is above zero (null counts as zero)."""
    return lambda f: f.value(name, None) is not None and f.count(name) > 0


def both(*options: Option) -> Option:
    return lambda f: all(chosen(f, option) for option in options)


def equals(name: str, *values: object) -> Option:
    return lambda f: f.value(name, None) in values


def plus(size: Size, added: Size) -> Size:
    return lambda f: f.amount(size) + f.amount(added)


def times(factor: int, size: Size) -> Size:
    return lambda f: factor * f[size]


def length(name: str) -> Size:
    """Entries of a list."""

    def entries(f: Fields) -> int:
        values = f.value(name)
        if not isinstance(values, list | tuple) or len(values) > MAX_ENTRIES:
            raise f.refuse(name, values, f"a list of at most {MAX_ENTRIES} entries")
        return len(values)

    return entries


def quotient(size: Size, divisor: Size) -> Size:
    """Whole quotient, rounded down."""
    return lambda f: f[size] // f[divisor]


def sizes(f: Fields, name: str, entries: int = 1) -> tuple[int, ...]:
    """A list of positive integers: one width or kernel per layer of a small stack. `entries` is the length it needs."""
    values = f.value(name)
    if not isinstance(values, list | tuple) or not entries <= len(values) <= MAX_ENTRIES:
        raise f.refuse(name, values, f"a list of {entries if entries > 1 else f'{entries} to {MAX_ENTRIES}'} sizes")
    for value in values:
        if type(value) is not int or not 0 < value <= MAX_SIZE:
            raise f.refuse(name, value, "a list of positive integers")
    return tuple(values)


def entry(name: str, index: int) -> Size:
    """One entry of a list of sizes."""
    return lambda f: sizes(f, name, index + 1 if index >= 0 else -index)[index]


def query_width(f: Fields) -> int:
    return f[HEADS] * head_dim(f)


def key_width(f: Fields) -> int:
    return kv_heads(f) * head_dim(f)


def scaled(size: Size, factor: str) -> Size:
    """A size times a fractional field such as `mlp_ratio`, rounded down."""
    return lambda f: int(f[size] * f.number(factor))


def pair(f: Fields, name: str) -> tuple[int, int]:
    """A height and a width; one number stands for both."""
    value = f.value(name)
    if isinstance(value, list | tuple):
        height, width = sizes(f, name, 2)[:2]
        return height, width
    return f[name], f[name]


def patches(f: Fields) -> int:
    """Patches of one image."""
    (height, width), (rows, columns) = pair(f, "image_size"), pair(f, "patch_size")
    return (height // rows) * (width // columns)


def patch_rows(f: Fields) -> int:
    return pair(f, "patch_size")[0]


def patch_columns(f: Fields) -> int:
    return pair(f, "patch_size")[1]


def tied(f: Fields) -> bool:
    return f.flag("tie_word_embeddings", False)


UNTIED = unless(tied)


# -- parts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear:
    """A matrix applied to activations, shape (rows, columns) = (outputs, inputs), and its bias.

    `weight` is False where the matrix is another tensor's alias, as in a tied LM head with a bias of its own.
    """

    name: str
    rows: Size
    columns: Size
    bias: Option = True
    weight: Option = True
    role: Role = "linear"

    def __call__(self, f: Fields) -> Tensors:
        rows = f[self.rows]
        tensors = linear(self.name, rows, f[self.columns], chosen(f, self.bias), self.role)
        return tensors if chosen(f, self.weight) else tensors[1:]


@dataclass(frozen=True)
class Norm:
    name: str
    width: Size = WIDTH
    bias: Option = True

    def __call__(self, f: Fields) -> Tensors:
        return norm(self.name, f[self.width], chosen(f, self.bias))


@dataclass(frozen=True)
class Embedding:
    name: str
    rows: Size
    width: Size = WIDTH

    def __call__(self, f: Fields) -> Tensors:
        return embedding(self.name, f[self.rows], f[self.width])


@dataclass(frozen=True)
class Convolution:
    """Shape (outputs, inputs of one group, *kernel)."""

    name: str
    outputs: Size
    inputs: Size
    kernel: tuple[Size, ...]
    bias: Option = True

    def __call__(self, f: Fields) -> Tensors:
        shape = [f[size] for size in (self.outputs, self.inputs, *self.kernel)]
        return convolution(self.name, *shape, bias=chosen(f, self.bias))


@dataclass(frozen=True)
class Parameter:
    """A bare tensor: a class token, a position table, a scale."""

    name: str
    shape: tuple[Size, ...]
    role: Role = "other"

    def __call__(self, f: Fields) -> Tensors:
        return parameter(self.name, *[f[size] for size in self.shape], role=self.role)


def tensors(f: Fields, parts: Iterable[Part]) -> Tensors:
    found: list[Tensor] = []
    for part in parts:
        found += part(f)
    return tuple(found)


class When:
    """Parts that exist where an option holds."""

    def __init__(self, option: Option, *parts: Part) -> None:
        self.option, self.parts = option, parts

    def __call__(self, f: Fields) -> Tensors:
        return tensors(f, self.parts) if chosen(f, self.option) else ()


class Under:
    """Parts below a module path."""

    def __init__(self, prefix: str, *parts: Part) -> None:
        self.prefix, self.parts = prefix, parts

    def __call__(self, f: Fields) -> Tensors:
        return prefixed(self.prefix, tensors(f, self.parts))


@dataclass(frozen=True)
class Each:
    """Parts repeated at `name.0`, `name.1`, ..."""

    name: str
    count: Size
    parts: tuple[Part, ...]

    def __call__(self, f: Fields) -> Tensors:
        few = MAX_ENTRIES
        count = f.count(self.count, high=few) if isinstance(self.count, str) else f.amount(self.count, few)
        once = tensors(f, self.parts)
        return tuple(t for i in range(count) for t in prefixed(f"{self.name}.{i}", once))


def linears(
    prefix: str, names: str, rows: Size = WIDTH, columns: Size = WIDTH, bias: Option = True
) -> tuple[Linear, ...]:
    """Matrices of one shape, named by a space-separated list."""
    return tuple(Linear(join(prefix, name), rows, columns, bias) for name in names.split())


def upsampling(name: str, inputs: Size, outputs: Size, *kernel: Size, bias: bool = True) -> tuple[Part, ...]:
    """A transposed convolution, whose kernel has the inputs first."""
    weight = Parameter(f"{name}.weight", (inputs, outputs, *kernel), "conv")
    return (weight, Parameter(f"{name}.bias", (outputs,), "bias")) if bias else (weight,)


# -- builders -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """What sets some blocks of a stack apart: their kind and the tensors they have beside the common ones."""

    parts: tuple[Part, ...] = ()
    mixer: Mixer = "attention"
    feed_forward: FeedForward = "dense"


def one_variant(f: Fields, count: int) -> Sequence[str]:  # noqa: ARG001
    return [""] * count


@dataclass(frozen=True)
class Layers:
    """A stack of blocks at `path.0`, `path.1`, ...

    `parts` are in every block and `first` only in block 0. Where blocks differ, `schedule` names the variant of each.
    """

    path: str
    parts: tuple[Part, ...]
    count: Size = "num_hidden_layers"
    name: str = "encoder"
    role: StackRole = "encoder"
    width: Size = WIDTH
    heads: Size = HEADS
    kv_heads: Size | None = None
    head_dim: Size | None = None
    ffn: Size = FFN
    experts: Size = 0
    norm: Literal["rms", "layer", "none"] = "layer"
    first: tuple[Part, ...] = ()
    variants: Mapping[str, Variant] = field(default_factory=lambda: {"": Variant()})
    schedule: Schedule = one_variant

    def __call__(self, f: Fields, path: str) -> Body:
        count = f.layers(self.count) if isinstance(self.count, str) else f.amount(self.count, MAX_LAYERS)
        kinds = list(zip(self.schedule(f, count), chain([bool(self.first)], repeat(False)), strict=False))
        common = tensors(f, self.parts)
        layouts = {kind: self.layout(f, common, *kind) for kind in dict.fromkeys(kinds)}
        blocks = Blocks(numbered(join(path, self.path), count), of_each(layouts, kinds))
        stack = self.stack(f, blocks)
        return Body((stack,), (), width=stack.width)

    def layout(self, f: Fields, common: Tensors, kind: str, first: bool) -> Layout:
        variant = self.variants[kind]
        own = (*variant.parts, *(self.first if first else ()))
        return Layout(variant.mixer, variant.feed_forward, (*common, *tensors(f, own)))

    def stack(self, f: Fields, blocks: Blocks) -> Stack:
        width, heads = f[self.width], f[self.heads]
        if self.head_dim is None and heads and width % heads:
            raise f.refuse(
                self.width if isinstance(self.width, str) else "width",
                width,
                f"a multiple of the {heads} attention heads",
            )
        # BERT and its relatives are decoders where their config says so.
        decodes = self.role == "encoder" and f.value("is_decoder", False) is True
        return Stack(
            name=self.name,
            role="decoder" if decodes else self.role,
            blocks=blocks,
            width=width,
            heads=heads,
            kv_heads=heads if self.kv_heads is None else f[self.kv_heads],
            head_dim=width // heads if self.head_dim is None and heads else f[self.head_dim or 0],
            ffn_width=f[self.ffn],
            experts=f.amount(self.experts),
            norm=self.norm,
        )


class Stages:
    """Several lists of blocks that form one stack, as in a hierarchical vision model.

    `stage` gives the builder of the i-th list, `level` the fields it reads. The stack's facts are those of the longest.
    `path` is set where the blocks are numbered through.
    """

    def __init__(
        self,
        count: Size,
        stage: Callable[[int], Layers],
        level: Callable[[Fields, int], Fields] = lambda f, i: f,  # noqa: ARG005
        path: str | None = None,
    ) -> None:
        self.count, self.stage, self.level, self.path = count, stage, level, path

    def __call__(self, f: Fields, path: str) -> Body:
        count = f.amount(self.count, MAX_ENTRIES)
        if count == 0:
            return NOTHING
        stacks = [self.stage(i)(self.level(f, i), path).stacks[0] for i in range(count)]
        lists = [stack.blocks for stack in stacks]
        layouts = tuple(x for one in lists for x in one.layouts)
        if self.path is None:
            paths = tuple(p for one in lists for p in one.paths)
        else:
            paths = numbered(join(path, self.path), len(layouts))
        joined = Blocks(paths, layouts)
        longest = max(stacks, key=lambda stack: len(stack.blocks))
        return Body((longest._replace(blocks=joined),), (), width=stacks[-1].width)


NOTHING = Body((), ())


class Rest:
    """Parameters outside every block; each module becomes one group."""

    def __init__(self, *parts: Part) -> None:
        self.parts = parts

    def __call__(self, f: Fields, path: str) -> Body:
        return Body((), outside(path, tensors(f, self.parts)))


TEXT_HEAD = Rest(Linear("lm_head", "vocab_size", WIDTH, False, UNTIED))
"""The language-model head of what has the text model's sizes at its top."""


class Assembly:
    """Several builders side by side; width and vocabulary are those of the first that has them."""

    def __init__(self, *builders: BodyBuilder) -> None:
        self.builders = builders

    def __call__(self, f: Fields, path: str) -> Body:
        if len(self.builders) == 1:
            return self.builders[0](f, path)
        stacks: list[Stack] = []
        groups: list[Outside] = []
        warnings: list[str] = []
        width = vocab_size = 0
        for build in self.builders:
            body = build(f, path)
            stacks += body.stacks
            groups += body.outside
            warnings += body.warnings
            width = width or body.width
            vocab_size = vocab_size or body.vocab_size
        return Body(tuple(stacks), tuple(groups), tuple(warnings), width, vocab_size)


class At:
    """Builders below a module path."""

    def __init__(self, path: str, *builders: BodyBuilder) -> None:
        self.path, self.inner = path, Assembly(*builders)

    def __call__(self, f: Fields, path: str) -> Body:
        return self.inner(f, join(path, self.path))


class Named:
    """Builders with their stack renamed, where two of one kind would clash."""

    def __init__(self, name: str, *builders: BodyBuilder) -> None:
        self.name, self.inner = name, Assembly(*builders)

    def __call__(self, f: Fields, path: str) -> Body:
        return renamed(self.inner(f, path), self.name)


@dataclass(frozen=True)
class Adjusted:
    """A builder that reads a changed config, for files that say a thing in another place."""

    build: BodyBuilder
    change: Callable[[Fields], Fields]

    def __call__(self, f: Fields, path: str) -> Body:
        return self.build(self.change(f), path)


def assuming(build: BodyBuilder, **values: Any) -> BodyBuilder:
    """A builder that reads these values where a field is null: what the class derives itself."""

    def filled(f: Fields) -> Fields:
        missing = {name: value for name, value in values.items() if f.value(name, None) is None}
        return f.replaced(**missing) if missing else f

    return Adjusted(build, filled)


def adjusted(classes: Mapping[str, BodyBuilder], change: Callable[[Fields], Fields]) -> dict[str, BodyBuilder]:
    return {ending: Adjusted(build, change) for ending, build in classes.items()}


class In:
    """Builders that read a nested config, below a module path: by default of the same name.

    `given` are fields of the nested config that the outer one decides: name -> size by the outer fields.
    """

    def __init__(self, config: str, *builders: BodyBuilder, path: str | None = None, **given: Size) -> None:
        self.config, self.path, self.given = config, config if path is None else path, given
        self.inner = Assembly(*builders)

    def __call__(self, f: Fields, path: str) -> Body:
        decided = {name: f[size] for name, size in self.given.items()}
        return self.inner(f.sub(self.config).replaced(**decided), join(path, self.path))


class Only:
    """Builders that apply where an option holds."""

    def __init__(self, option: Option, *builders: BodyBuilder) -> None:
        self.option, self.inner = option, Assembly(*builders)

    def __call__(self, f: Fields, path: str) -> Body:
        return self.inner(f, path) if chosen(f, self.option) else NOTHING


class Expect:
    """Refuses a config whose field asks for a structure that is not described: it must have one of the values."""

    def __init__(self, name: str, *values: Any) -> None:
        self.name, self.values = name, values

    def __call__(self, f: Fields, path: str) -> Body:  # noqa: ARG002
        if f.value(self.name, self.values[0]) is None and None not in self.values:
            raise f.refuse(self.name, None, f"one of {', '.join(map(repr, self.values))}")
        f.require(self.name, self.values)
        return NOTHING


@dataclass(frozen=True)
class Nested:
    """The model of a nested config, below `path`; `ending` names its class, by default the body alone.

    `name` renames its stacks where two of one kind would clash. `models` are the model types it may be.
    """

    config: str
    path: str
    models: Mapping[str, Model]
    ending: str = ""
    name: str = ""

    def __call__(self, f: Fields, path: str) -> Body:
        sub = f.sub(self.config)
        if sub.model_type not in self.models:
            raise UnsupportedArchitecture(
                f"{sub.where('model_type')} is {sub.model_type[:80]!r}; no exact block layout is known for it here"
            )
        model, where = self.models[sub.model_type], join(path, self.path)
        if (self.ending or model.base) not in model.endings:
            raise UnsupportedArchitecture(
                f"{sub.where('model_type')} is {sub.model_type!r}, which has no class {self.ending or model.base}"
            )
        built = model.build(sub, self.ending or model.base, where)
        beside = not f.has(self.config) and (f.undeclared("num_hidden_layers") or f.undeclared("hidden_size"))
        if beside and not self._same_by_the_outer_sizes(f, model, where, built):
            missing = f"{f.where(self.config)} is missing: class defaults are assumed and sizes beside it are not read"
            built = built._replace(warnings=(*built.warnings, missing))
        return renamed(built, self.name) if self.name else built

    def _same_by_the_outer_sizes(self, f: Fields, model: Model, where: str, built: Body) -> bool:
        """Whether the sizes beside a missing nested config give what the class assumes, so that nothing is lost."""
        flat = f.unflattened(self.config).sub(self.config)
        try:
            return flat.model_type in self.models and model.build(flat, self.ending or model.base, where) == built
        except (InvalidConfig, UnsupportedArchitecture):
            return False


def renamed(body: Body, name: str) -> Body:
    """A body with its one stack renamed, or with all its stacks' names prefixed."""
    one = len(body.stacks) == 1
    stacks = (stack._replace(name=name if one else f"{name}_{stack.name}") for stack in body.stacks)
    return body._replace(stacks=tuple(stacks))


@dataclass(frozen=True)
class Family:
    """The model classes of one model_type: ending of the class name, without `prefix` -> builder at the root.

    `default` is the class to assume where a config names none; `base` the one that other models embed; `classes` are
    names that the transformers library no longer has; `tied` says whether the token embedding is the LM head.
    """

    prefix: str
    builders: Mapping[str, BodyBuilder]
    default: str = "Model"
    base: str = "Model"
    classes: tuple[str, ...] = ()
    tied: Option = tied

    @property
    def endings(self) -> Collection[str]:
        return self.builders.keys()

    def ending(self, name: str) -> str:
        if name.startswith(self.prefix):
            return name.removeprefix(self.prefix)
        return ending(name) if name in self.classes else name

    def build(self, f: Fields, ending: str, path: str = "") -> Body:
        body = self.builders[ending](f, path)
        if body.vocab_size or f.value("vocab_size", None) is None:
            return body
        return body._replace(vocab_size=f.count("vocab_size"))

    def ties(self, f: Fields, ending: str) -> bool:  # noqa: ARG002
        return chosen(f, self.tied)
