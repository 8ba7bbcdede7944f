"""Quantize a model with optimum-quanto as the file quanto.json beside this script says.

python quantize.py MODEL OUT
"""

import json
import sys
from pathlib import Path

from optimum import quanto
from transformers import AutoModelForCausalLM, AutoTokenizer

model_dir, out = sys.argv[1:3]
passes = json.loads(Path(__file__).with_name("quanto.json").read_text("utf-8"))["passes"]
model = AutoModelForCausalLM.from_pretrained(model_dir, dtype="auto")
for step in passes:
    quanto.quantize(model, weights=getattr(quanto, step["weights"]), include=step["include"])
quanto.freeze(model)
quanto.QuantizedModelForCausalLM(model).save_pretrained(out)
AutoTokenizer.from_pretrained(model_dir).save_pretrained(out)
