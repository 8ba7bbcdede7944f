"""Quantize a model with AutoRound as the file autoround.json beside this script says.

python quantize.py MODEL OUT [--tune]
"""

import json
import sys
from pathlib import Path

import torch
from auto_round import AutoRound
from checkpoint import copy_small_files, load
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

source, out = sys.argv[1:3] if len(sys.argv) > 2 else sys.exit(__doc__)
config = json.loads(Path(__file__).with_name("autoround.json").read_text("utf-8"))
effort = {} if "--tune" in sys.argv else {"iters": 0, "disable_opt_rtn": True}
model = load(source)
try:
    tokenizer = AutoTokenizer.from_pretrained(source)
except (OSError, ValueError) as error:
    print(f"without a tokenizer, as a model of pictures alone is: {error}", file=sys.stderr)
    tokenizer = None
stored = model.dtype
AutoRound(model, tokenizer, **config, **effort).quantize_and_save(out, format="auto_round")
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
copy_small_files(source, out)
