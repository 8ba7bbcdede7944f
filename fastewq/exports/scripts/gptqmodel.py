"""Quantize a model with GPTQModel as the file quantize_config.json beside this script says.

python quantize.py MODEL OUT CALIBRATION.txt      (one text per line)
"""

import json
import sys
from pathlib import Path

from gptqmodel import GPTQModel, QuantizeConfig

model_dir, out, calibration = sys.argv[1:4] if len(sys.argv) > 3 else sys.exit(__doc__)
config = json.loads(Path(__file__).with_name("quantize_config.json").read_text("utf-8"))
texts = [line for line in Path(calibration).read_text("utf-8").splitlines() if line]
model = GPTQModel.load(model_dir, QuantizeConfig(**config))
model.quantize(texts, batch_size=1)
model.save(out)
