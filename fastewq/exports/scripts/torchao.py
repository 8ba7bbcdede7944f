"""Quantize a model with torchao as the file torchao.json beside this script says.

python quantize.py MODEL OUT
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torchao.quantization import FqnToConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup
from transformers import AutoModelForCausalLM, AutoTokenizer, TorchAoConfig

model_dir, out = sys.argv[1:3]
rules = json.loads(Path(__file__).with_name("torchao.json").read_text("utf-8"))["rules"]
configs = OrderedDict()
for rule in rules:
    if rule["bits"] == 8:
        configs["re:" + rule["pattern"]] = Int8WeightOnlyConfig()
    else:
        configs["re:" + rule["pattern"]] = IntxWeightOnlyConfig(
            weight_dtype=torch.int4, granularity=PerGroup(rule["group_size"])
        )
model = AutoModelForCausalLM.from_pretrained(
    model_dir, quantization_config=TorchAoConfig(FqnToConfig(configs)), dtype="auto"
)
model.save_pretrained(out)
AutoTokenizer.from_pretrained(model_dir).save_pretrained(out)
