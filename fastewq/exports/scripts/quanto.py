"""Quantize a model with optimum-quanto as the file quanto.json beside this script says.

python quantize.py MODEL OUT
"""

import json
import shutil
import sys
from pathlib import Path

import transformers
from huggingface_hub import snapshot_download
from optimum import quanto

model_dir, out = sys.argv[1:3]
if not Path(model_dir).is_dir():
    model_dir = snapshot_download(model_dir)
passes = json.loads(Path(__file__).with_name("quanto.json").read_text("utf-8"))["passes"]
names = transformers.AutoConfig.from_pretrained(model_dir).architectures or [""]
model_class = getattr(transformers, names[0], transformers.AutoModelForCausalLM)
model = model_class.from_pretrained(model_dir, dtype="auto")
for step in passes:
    quanto.quantize(model, weights=getattr(quanto, step["weights"]), include=step["include"])
quanto.freeze(model)
quanto.QuantizedModelForCausalLM(model).save_pretrained(out)
for file in Path(model_dir).iterdir():  # the tokenizer, the processor of pictures, the chat template ...
    wanted = file.suffix in (".json", ".txt", ".model", ".jinja") and not file.name.endswith(".index.json")
    if wanted and not (Path(out) / file.name).exists():
        shutil.copy(file, out)
