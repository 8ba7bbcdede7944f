"""Quantize a model with torchao as the file torchao.json beside this script says.

python quantize.py MODEL OUT
"""

import json
import shutil
import sys
from collections import OrderedDict
from pathlib import Path

import torch
import transformers
from huggingface_hub import snapshot_download
from torchao.quantization import FqnToConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup
from transformers import TorchAoConfig

model_dir, out = sys.argv[1:3]
if not Path(model_dir).is_dir():
    model_dir = snapshot_download(model_dir)
rules = json.loads(Path(__file__).with_name("torchao.json").read_text("utf-8"))["rules"]
configs = OrderedDict()
for rule in rules:
    if rule["bits"] == 8:
        configs["re:" + rule["pattern"]] = Int8WeightOnlyConfig()
    else:
        configs["re:" + rule["pattern"]] = IntxWeightOnlyConfig(
            weight_dtype=torch.int4, granularity=PerGroup(rule["group_size"])
        )
names = transformers.AutoConfig.from_pretrained(model_dir).architectures or [""]
model_class = getattr(transformers, names[0], transformers.AutoModelForCausalLM)
model = model_class.from_pretrained(model_dir, quantization_config=TorchAoConfig(FqnToConfig(configs)), dtype="auto")
model.save_pretrained(out)
for file in Path(model_dir).iterdir():  # the tokenizer, the processor of pictures, the chat template ...
    wanted = file.suffix in (".json", ".txt", ".model", ".jinja") and not file.name.endswith(".index.json")
    if wanted and not (Path(out) / file.name).exists():
        shutil.copy(file, out)
