"""Quantize a model with torchao as the file torchao.json beside this script says.

python quantize.py MODEL OUT
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from checkpoint import copy_small_files, load
from torchao.quantization import FqnToConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup
from transformers import TorchAoConfig

source, out = sys.argv[1:3] if len(sys.argv) > 2 else sys.exit(__doc__)
rules = json.loads(Path(__file__).with_name("torchao.json").read_text("utf-8"))["rules"]
configs = OrderedDict()
for rule in rules:
    if rule["bits"] == 8:
        configs["re:" + rule["pattern"]] = Int8WeightOnlyConfig()
    else:
        configs["re:" + rule["pattern"]] = IntxWeightOnlyConfig(
            weight_dtype=torch.int4, granularity=PerGroup(rule["group_size"])
        )
# The rules name all that is quantized: without a list of its own transformers would keep the head whatever they say.
config = TorchAoConfig(FqnToConfig(configs), modules_to_not_convert=[])
model = load(source, quantization_config=config)
model.save_pretrained(out)
copy_small_files(source, out)
