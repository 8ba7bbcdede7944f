"""Quantize a model with llm-compressor as the file recipe.yaml beside this script says. No calibration data is needed.

python quantize.py MODEL OUT
"""

import shutil
import sys
from pathlib import Path

import transformers
from huggingface_hub import snapshot_download
from llmcompressor import oneshot

model_dir, out = sys.argv[1:3]
if not Path(model_dir).is_dir():
    model_dir = snapshot_download(model_dir)
recipe = Path(__file__).with_name("recipe.yaml").read_text("utf-8")
names = transformers.AutoConfig.from_pretrained(model_dir).architectures or [""]
model_class = getattr(transformers, names[0], transformers.AutoModelForCausalLM)
model = model_class.from_pretrained(model_dir, dtype="auto")
oneshot(model=model, recipe=recipe)
model.save_pretrained(out, save_compressed=True)
for file in Path(model_dir).iterdir():  # the tokenizer, the processor of pictures, the chat template ...
    wanted = file.suffix in (".json", ".txt", ".model", ".jinja") and not file.name.endswith(".index.json")
    if wanted and not (Path(out) / file.name).exists():
        shutil.copy(file, out)
