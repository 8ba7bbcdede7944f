"""Quantize a model with llm-compressor as the file recipe.yaml beside this script says. No calibration data is needed.

python quantize.py MODEL OUT
"""

import sys
from pathlib import Path

from checkpoint import copy_small_files, load
from llmcompressor import oneshot

source, out = sys.argv[1:3] if len(sys.argv) > 2 else sys.exit(__doc__)
recipe = Path(__file__).with_name("recipe.yaml").read_text("utf-8")
model = load(source)
oneshot(model=model, recipe=recipe)
model.save_pretrained(out, save_compressed=True)
copy_small_files(source, out)
