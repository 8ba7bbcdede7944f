"""From tensor names to stacks of blocks, and from entropies to labels. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fastewq.analysis.tensors import TensorInfo

Label = Literal["aggressive", "8-bit", "keep"]


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """One block: `index` counts in execution order within the stack, `path` is the common prefix of its tensors."""

    index: int
    path: str
    tensors: tuple[TensorInfo, ...]


@dataclass(frozen=True, slots=True)
class StoredStack:
    name: str
    blocks: tuple[StoredBlock, ...]


# The list that holds the blocks, and the number of one: model.layers.7, blk.7, transformer.h.7, encoder/layer_7.
# Stages of blocks (swin: layers.1.blocks.0) count as one list.
_BLOCK = re.compile(
    r"^(?P<list>(?:[^\d]*?[./])?(?P<word>h|blk|blocks?|layers?|resblocks|layer_stack))[._](?P<number>\d+)"
    r"(?:\.blocks\.(?P<inner>\d+))?(?=[./])"
)
# Attention masks and position tables that old checkpoints carry: constants of the code, not weights.
_BUFFER = re.compile(r"(^|[._])(attn|attention)\.(masked_)?bias$|(^|[._])(inv_freq|position_ids)$")


def is_buffer(tensor: TensorInfo) -> bool:
    """Whether a tensor is a constant of the model's code (a causal mask, rotary frequencies) rather than weights."""
    return _BUFFER.search(tensor.name) is not None and (tensor.shape[:2] == (1, 1) or len(tensor.shape) < 2)


def group_blocks(tensors: Iterable[TensorInfo]) -> list[StoredStack]:
    """The stacks of blocks in a checkpoint, those that read the input first; blocks ordered by their number.

    A numbered list is a stack when each of its members has two or more matrices; a list of convolutions or the
    members of a small feed-forward network do not qualify. Tensors outside every stack are left out.
    """
    lists: dict[str, dict[tuple[int, int], list[TensorInfo]]] = {}
    paths: dict[tuple[str, tuple[int, int]], str] = {}
    for tensor in tensors:
        match = _BLOCK.match(tensor.name)
        if match and not is_buffer(tensor):
            number = (int(match["number"]), int(match["inner"] or 0))
            lists.setdefault(match["list"], {}).setdefault(number, []).append(tensor)
            paths[match["list"], number] = match[0]
    stacks = {
        prefix: tuple(
            StoredBlock(index, paths[prefix, number], tuple(members[number]))
            for index, number in enumerate(sorted(members))
        )
        for prefix, members in lists.items()
        if all(sum(len(t.shape) >= 2 for t in block) >= 2 for block in members.values())
    }
    names = [_stack_name(prefix) for prefix in stacks]
    found = [
        (_ORDER.index(name), StoredStack(name if names.count(name) == 1 else prefix, blocks))
        for name, (prefix, blocks) in zip(names, stacks.items(), strict=True)
    ]
    return [stack for _, stack in sorted(found, key=lambda pair: pair[0])]


_ORDER = ("vision", "audio", "encoder", "decoder")


def _stack_name(prefix: str) -> str:
    words = set(re.split(r"[./_]", prefix))
    if words & {"vision", "visual", "image", "vit", "v"}:
        return "vision"
    if words & {"audio", "speech", "a"}:
        return "audio"
    if words & {"decoder", "dec"}:
        return "decoder"
    if words & {"encoder", "enc"} or prefix.endswith("transformer.layer"):
        return "encoder"
    return "decoder"


def block_entropy(matrices: Iterable[tuple[int, float]]) -> float:
    """Mean entropy weighted by size, H_block = sum |W| H(W) / sum |W|, from pairs (|W|, H(W)); arXiv 2503.04704v2."""
    pairs = list(matrices)
    return math.fsum(size * entropy for size, entropy in pairs) / sum(size for size, _ in pairs)


@dataclass(frozen=True, slots=True)
class Cut:
    """Mean and population standard deviation of the block entropies of one stack, and T = mean - x std."""

    mean: float
    std: float
    threshold: float

    def label(self, entropy: float) -> Label:
        """aggressive (H <= T), 8-bit (T < H <= mean) or keep (H > mean). Quantized means: not keep."""
        if entropy > self.mean:
            return "keep"
        return "aggressive" if entropy <= self.threshold else "8-bit"


def cut(entropies: Sequence[float], x: float = 1.0) -> Cut:
    """Where the labels of one stack change, from the entropies of its blocks."""
    mean = math.fsum(entropies) / len(entropies)
    std = math.sqrt(math.fsum((h - mean) ** 2 for h in entropies) / len(entropies))
    return Cut(mean, std, mean - x * std)
