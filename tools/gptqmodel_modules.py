"""What GPTQModel's definitions of models list: writes tests/data/gptqmodel_modules.json.

    python tools/gptqmodel_modules.py

For every model type of `fastewq.exports.names.GPTQMODEL`: the paths of its blocks, and the modules in a block that are
quantized. GPTQModel leaves any other alone, whatever the rules say. Needs gptqmodel 7.7.0, and no model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gptqmodel.models.auto import MODEL_MAP

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from fastewq.exports.names import GPTQMODEL  # noqa: E402

RESULT = ROOT / "tests" / "data" / "gptqmodel_modules.json"

rows = {}
for model_type in sorted(GPTQMODEL):
    definition = MODEL_MAP[model_type]
    names = [name for group in definition.build_layer_modules(definition.module_tree) or [] for name in group]
    rows[model_type] = {
        "blocks": definition.extract_layers_node(),
        "modules": sorted({name for name in names if ":" not in name}),
    }
lines = [f"{json.dumps(model_type)}: {json.dumps(row)}" for model_type, row in rows.items()]
RESULT.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
