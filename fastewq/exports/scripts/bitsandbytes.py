"""Quantize a model with bitsandbytes as the file quantization_config.json beside this script says.

python quantize.py MODEL OUT
"""

import json
import shutil
import sys
from pathlib import Path

import transformers
from huggingface_hub import snapshot_download
from transformers import BitsAndBytesConfig

model_dir, out = sys.argv[1:3]
if not Path(model_dir).is_dir():
    model_dir = snapshot_download(model_dir)
config = json.loads(Path(__file__).with_name("quantization_config.json").read_text("utf-8"))
names = transformers.AutoConfig.from_pretrained(model_dir).architectures or [""]
model_class = getattr(transformers, names[0], transformers.AutoModelForCausalLM)
model = model_class.from_pretrained(model_dir, quantization_config=BitsAndBytesConfig.from_dict(config), dtype="auto")
model.save_pretrained(out)
for file in Path(model_dir).iterdir():  # the tokenizer, the processor of pictures, the chat template ...
    wanted = file.suffix in (".json", ".txt", ".model", ".jinja") and not file.name.endswith(".index.json")
    if wanted and not (Path(out) / file.name).exists():
        shutil.copy(file, out)
