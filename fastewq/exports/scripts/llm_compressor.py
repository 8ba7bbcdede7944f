"""Quantize a model with llm-compressor as the file recipe.yaml beside this script says. No calibration data is needed.

python quantize.py MODEL OUT
"""

import sys
from pathlib import Path

from llmcompressor import oneshot
from transformers import AutoModelForCausalLM, AutoTokenizer

model_dir, out = sys.argv[1:3]
recipe = Path(__file__).with_name("recipe.yaml").read_text("utf-8")
model = AutoModelForCausalLM.from_pretrained(model_dir, dtype="auto")
oneshot(model=model, recipe=recipe)
model.save_pretrained(out, save_compressed=True)
AutoTokenizer.from_pretrained(model_dir).save_pretrained(out)
