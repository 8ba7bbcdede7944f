"""Quantize a model with bitsandbytes as the file quantization_config.json beside this script says.

python quantize.py MODEL OUT
"""

import json
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

model_dir, out = sys.argv[1:3]
config = json.loads(Path(__file__).with_name("quantization_config.json").read_text("utf-8"))
model = AutoModelForCausalLM.from_pretrained(
    model_dir, quantization_config=BitsAndBytesConfig.from_dict(config), dtype="auto"
)
model.save_pretrained(out)
AutoTokenizer.from_pretrained(model_dir).save_pretrained(out)
