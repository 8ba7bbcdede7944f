"""Quantize a model with mlx-lm as the file mlx.json beside this script says.

python quantize.py MODEL OUT
"""

import json
import re
import sys
from pathlib import Path

from mlx_lm import convert

model_dir, out = sys.argv[1:3] if len(sys.argv) > 2 else sys.exit(__doc__)
document = json.loads(Path(__file__).with_name("mlx.json").read_text("utf-8"))
rules = [(re.compile(pattern), arguments) for pattern, arguments in document["rules"]]


def predicate(path: str, _module: object) -> bool | dict[str, object]:
    return next((arguments for pattern, arguments in rules if pattern.fullmatch(path)), False)


convert(
    model_dir,
    mlx_path=out,
    quantize=True,
    q_bits=document["q_bits"],
    q_group_size=document["q_group_size"],
    quant_predicate=predicate,
)
