"""Quantize a model with AutoRound as the file autoround.json beside this script says.

python quantize.py MODEL OUT [--tune]
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from auto_round import AutoRound
from huggingface_hub import snapshot_download
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

model_dir, out = sys.argv[1:3]
if not Path(model_dir).is_dir():
    model_dir = snapshot_download(model_dir)
config = json.loads(Path(__file__).with_name("autoround.json").read_text("utf-8"))
effort = {} if "--tune" in sys.argv else {"iters": 0, "disable_opt_rtn": True}
names = transformers.AutoConfig.from_pretrained(model_dir).architectures or [""]
model_class = getattr(transformers, names[0], transformers.AutoModelForCausalLM)
model = model_class.from_pretrained(model_dir, dtype="auto")
stored = model.dtype
AutoRound(model, AutoTokenizer.from_pretrained(model_dir), **config, **effort).quantize_and_save(
    out, format="auto_round"
)
# AutoRound adds a folder named after the model and the scheme; the files belong into OUT itself.
written = next(Path(out).rglob("config.json")).parent
if written != Path(out):
    for file in written.iterdir():
        file.rename(Path(out) / file.name)
    written.rmdir()
# On a processor without bfloat16 AutoRound works in float32 and saves what it kept that way: back to the model's type.
for file in Path(out).glob("*.safetensors"):
    tensors = load_file(file)
    if any(tensor.dtype == torch.float32 for tensor in tensors.values()):
        narrowed = {name: t.to(stored) if t.dtype == torch.float32 else t for name, t in tensors.items()}
        save_file(narrowed, file, metadata={"format": "pt"})
for file in Path(model_dir).iterdir():  # the tokenizer, the processor of pictures, the chat template ...
    wanted = file.suffix in (".json", ".txt", ".model", ".jinja") and not file.name.endswith(".index.json")
    if wanted and not (Path(out) / file.name).exists():
        shutil.copy(file, out)
