"""Checkpoints that are already quantized: `quantization_config` -> how every matrix is stored. Pure.

Every method quantizes the matrices of blocks, and of what surrounds them, except those a list in the config names.
Embeddings, routers, norms and biases stay in the model's own type.

    methods        the config's word, by the tool that wrote the checkpoint -> rules
    packing        what rules are made of, and the bytes of a matrix in a format
    module_names   which modules a list of names and patterns stands for
    selection      rules -> the format of every matrix, by name and place
    marking        formats -> the architecture with its matrices marked
"""

from fastewq.quantized.marking import dequantized, with_stored
from fastewq.quantized.methods import quantization_of

__all__ = ["dequantized", "quantization_of", "with_stored"]
