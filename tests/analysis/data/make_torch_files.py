"""Writes the torch files of this folder; needs torch. `python tests/analysis/data/make_torch_files.py`

The values are whole numbers, so that the tests can state them: see `expected` in test_format_torch.py.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch

HERE = Path(__file__).parent


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 3)
        self.register_buffer("position_ids", torch.arange(5))


def state_dict() -> OrderedDict[str, torch.Tensor]:
    module = Block()
    state = module.state_dict()  # carries _metadata, as every saved model does
    state["fc.weight"] = torch.arange(12.0).reshape(3, 4)
    state["fc.bias"] = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    state["transposed"] = torch.arange(6.0).reshape(2, 3).t()
    state["tied"] = state["fc.weight"]
    state["part"] = state["fc.weight"][1:]
    state["half"] = torch.arange(8.0).to(torch.float16)
    state["brain"] = torch.arange(8.0).to(torch.bfloat16)
    state["double"] = torch.arange(4.0).to(torch.float64)
    state["scalar"] = torch.tensor(7.0)
    return state


state = state_dict()
torch.save(state, HERE / "state_dict_zip.bin")
torch.save(state, HERE / "state_dict_old.bin", _use_new_zipfile_serialization=False)
torch.save({"strided": torch.arange(12.0)[::2]}, HERE / "strided.bin")
torch.save(Block(), HERE / "whole_module.bin")
