"""Quantize a model with optimum-quanto as the file quanto.json beside this script says.

python quantize.py MODEL OUT
"""

import json
import sys
from pathlib import Path

from checkpoint import copy_small_files, load
from optimum import quanto

source, out = sys.argv[1:3] if len(sys.argv) > 2 else sys.exit(__doc__)
passes = json.loads(Path(__file__).with_name("quanto.json").read_text("utf-8"))["passes"]
model = load(source)
for step in passes:
    quanto.quantize(model, weights=getattr(quanto, step["weights"]), include=step["include"])
quanto.freeze(model)
quanto.QuantizedModelForCausalLM(model).save_pretrained(out)
copy_small_files(source, out)
