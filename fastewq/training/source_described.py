"""A checkpoint's blocks in plain facts, where no config of the transformers library describes them.

The file under `config` of a source then has `stacks`: per stack the shapes of one block's tensors and the facts that
the predictor reads. `parameters` counts all tensors of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastewq.architecture import Architecture, Blocks, Layout, Outside, Stack, Tensor
from fastewq.architectures.body import numbered
from fastewq.errors import InvalidConfig

Count = Annotated[int, Field(gt=0, lt=1 << 40)]
Shape = Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)]
Text = Annotated[str, Field(min_length=1, max_length=100)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Stack(_Table):
    name: Text
    role: Literal["decoder", "encoder", "vision", "audio"]
    blocks: Annotated[int, Field(gt=0, le=1000)]
    width: Count
    heads: Count
    head_dim: Count
    ffn_width: Count
    norm: Literal["rms", "layer", "none"]
    tensors: Annotated[Mapping[Text, Shape], Field(min_length=1, max_length=1000)]


class _Model(_Table):
    model_type: Text
    dtype: Literal["float32", "float16", "bfloat16"]
    vocab_size: Count
    parameters: Count
    stacks: Annotated[tuple[_Stack, ...], Field(min_length=1, max_length=10)]


def read_described(document: Mapping[str, Any]) -> Architecture:
    """The architecture that such a file describes, with attention and a dense feed-forward in every block.

    Raises InvalidConfig, naming the field, where one is missing, unknown or out of bounds.
    """
    try:
        model = _Model.model_validate(document, strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidConfig(f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from error
    stacks = tuple(_stack(stack) for stack in model.stacks)
    rest = model.parameters - sum(layout.parameters for stack in stacks for layout in stack.blocks.layouts)
    if rest < 0:
        raise InvalidConfig(f"parameters is {model.parameters}; the blocks alone have {model.parameters - rest}")
    outside = (Outside("", (Tensor("rest", (rest,), "other"),)),)
    return Architecture(model.model_type, model.dtype, stacks, outside, vocab_size=model.vocab_size)


def _stack(stack: _Stack) -> Stack:
    tensors = tuple(Tensor(name, shape, _role(shape)) for name, shape in stack.tensors.items())
    layout = Layout("attention", "dense", tensors)
    return Stack(
        name=stack.name,
        role=stack.role,
        blocks=Blocks(numbered(stack.name, stack.blocks), (layout,) * stack.blocks),
        width=stack.width,
        heads=stack.heads,
        kv_heads=stack.heads,
        head_dim=stack.head_dim,
        ffn_width=stack.ffn_width,
        norm=stack.norm,
    )


def _role(shape: tuple[int, ...]) -> Literal["linear", "conv", "other"]:
    if len(shape) == 1:
        return "other"
    return "linear" if len(shape) == 2 else "conv"
