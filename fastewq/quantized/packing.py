"""The format of one quantized matrix, and which matrices of a checkpoint have it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from fastewq.quantized.module_names import ModuleNames


class Packing(NamedTuple):
    """The format of one matrix (rows, columns), columns being its inputs.

    precision          the name in a plan
    bits               per weight
    tile               rows and columns that share a scale; 0 means all of them
    scale_bits         scale and zero point, per tile
    column_bytes       per column: GPTQ's index of the group
    matrix_bytes       per matrix: scales of the whole, a shape, a code book
    word               packed weights of a row are padded to this many bytes
    nested             this many scales share a further float32 one (double quantization)
    """

    precision: str
    bits: int
    tile: tuple[int, int]
    scale_bits: int = 0
    column_bytes: int = 0
    matrix_bytes: int = 0
    word: int = 1
    nested: int = 0

    def size(self, rows: int, columns: int) -> int:
        """Bytes of a matrix with all that belongs to it."""
        _, bits, (height, width), scale_bits, column_bytes, matrix_bytes, word, nested = self
        row = (columns * bits + 7) >> 3
        if word > 1:
            row = (row + word - 1) // word * word
        tiles = (rows + height - 1) // height if height else 1
        if width:
            tiles *= (columns + width - 1) // width
        size = rows * row + ((tiles * scale_bits + 7) >> 3) + columns * column_bytes + matrix_bytes
        return size + 4 * ((tiles + nested - 1) // nested) if nested else size


def grouped(precision: str, bits: int, group: int, scale_bits: int, **details: Any) -> Packing:
    """Groups along a row share a scale; 0 means the whole row."""
    return Packing(precision, bits, (1, group), scale_bits, **details)


class Rule(NamedTuple):
    """What one entry of a config says.

    packing   None: the modules stay in the model's own type
    modules   None: all of them
    """

    packing: Packing | None
    modules: ModuleNames | None = None


class Quantization(NamedTuple):
    """How a checkpoint is quantized: for each matrix the first rule that names it.

    roles    whether dense matrices, stacked experts or both are quantized
    text     only the blocks of text decoders
    head     whether the LM head can be quantized
    conv1d   whether dense matrices that are stored as inputs by outputs are quantized too: GPT-2's, which are no
             `Linear` modules
    """

    method: str
    rules: tuple[Rule, ...]
    roles: frozenset[str] = frozenset({"linear", "experts"})
    text: bool = False
    head: bool = False
    conv1d: bool = True


MXFP4: Final = grouped("mxfp4", 4, 32, 8)
MXFP8: Final = grouped("mxfp8", 8, 32, 8)
