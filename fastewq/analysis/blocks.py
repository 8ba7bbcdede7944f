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


# The list that holds the blocks, and the number of one: model.layers.7, blk.7, transformer.h.7, encoder/layer_7. Only
# the outermost numbered list counts (after a leading module number, as sentence-transformers writes); stages of blocks
# (layers.1.blocks.0) count as one list.
_BLOCK = re.compile(
    r"^(?P<list>(?:\d+\.)?(?:(?!\d+[./])[^./]+[./])*?(?:h|blk|blocks?|layers?|resblocks))[._](?P<number>\d+)"
    r"(?:\.blocks\.(?P<inner>\d+))?(?=[./])"
)
# Causal masks, their fill value, rotary frequencies and position tables: constants that old checkpoints carry.
_MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")
_CONSTANT = re.compile(r"(^|[._])((attn|attention)\.masked_bias|inv_freq|position_ids)$")


def is_buffer(tensor: TensorInfo) -> bool:
    """Whether a tensor is a constant of the model's code rather than weights."""
    is_mask = len(tensor.shape) == 4 and tensor.shape[:2] == (1, 1) and _MASK.search(tensor.name) is not None
    return is_mask or _CONSTANT.search(tensor.name) is not None


def group_blocks(tensors: Iterable[TensorInfo]) -> list[StoredStack]:
    """The stacks of blocks in a checkpoint, those that read the input first; blocks ordered by their number.

    A numbered list is a stack when most of its members have two or more matrices; a list of convolutions or the layers
    of a small feed-forward network do not qualify. Members without any matrix are skipped, but keep their index. Where
    two stacks have the same part in the model, the larger one gets its name and the other its path.
    """
    lists: dict[str, dict[tuple[int, int], list[TensorInfo]]] = {}
    paths: dict[tuple[str, tuple[int, int]], str] = {}
    for tensor in tensors:
        match = _BLOCK.match(tensor.name)
        if match and not is_buffer(tensor):
            number = (int(match["number"]), int(match["inner"] or -1))
            lists.setdefault(match["list"], {}).setdefault(number, []).append(tensor)
            paths[match["list"], number] = match[0]
    stacks: list[tuple[str, tuple[StoredBlock, ...]]] = []
    for prefix, members in lists.items():
        staged = any(inner >= 0 for _, inner in members)  # then what a stage has beside its blocks is in none of them
        order = sorted(number for number in members if not staged or number[1] >= 0)
        matrices = [sum(len(t.shape) >= 2 and t.parameters > 0 for t in members[number]) for number in order]
        if sum(n >= 2 for n in matrices) * 2 > len(matrices):
            blocks = [
                StoredBlock(index, paths[prefix, number], tuple(members[number]))
                for index, number in enumerate(order)
                if matrices[index]
            ]
            stacks.append((prefix, tuple(blocks)))
    named: dict[str, StoredStack] = {}
    for prefix, members_in_order in sorted(stacks, key=lambda stack: -len(stack[1])):
        name = role if (role := _role(prefix)) not in named else prefix
        named[name] = StoredStack(name, members_in_order)
    return sorted(named.values(), key=lambda stack: _ORDER.index(_role(stack.blocks[0].path)))


_ORDER = ("vision", "audio", "encoder", "decoder")


def _role(prefix: str) -> str:
    words = set(re.split(r"[./_]", prefix))
    if words & {"vision", "visual", "image", "vit", "v"}:
        return "vision"
    if words & {"audio", "speech", "a"}:
        return "audio"
    if words & {"decoder", "dec"}:
        return "decoder"
    if words & {"encoder", "enc"} or "transformer.layer" in prefix:
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
    # Counted from the first: the mean of equal entropies is then that entropy, and not its neighbour in float64.
    mean = entropies[0] + math.fsum(h - entropies[0] for h in entropies) / len(entropies)
    std = math.sqrt(math.fsum((h - mean) ** 2 for h in entropies) / len(entropies))
    return Cut(mean, std, mean - x * std)
