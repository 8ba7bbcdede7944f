"""Quantize a model with bitsandbytes as the file quantization_config.json beside this script says.

python quantize.py MODEL OUT
"""

import json
import sys
from pathlib import Path

from checkpoint import copy_small_files, load
from transformers import BitsAndBytesConfig

source, out = sys.argv[1:3] if len(sys.argv) > 2 else sys.exit(__doc__)
config = json.loads(Path(__file__).with_name("quantization_config.json").read_text("utf-8"))
model = load(source, quantization_config=BitsAndBytesConfig.from_dict(config))
model.save_pretrained(out)
copy_small_files(source, out)
