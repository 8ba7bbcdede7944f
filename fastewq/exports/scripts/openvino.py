"""Compress a model with NNCF as the file nncf.json beside this script says, and save it for OpenVINO.

python quantize.py MODEL OUT
"""

import json
import re
import sys
from pathlib import Path

import nncf
import openvino
import optimum.intel
from transformers import AutoConfig

model_dir, out = sys.argv[1:3] if len(sys.argv) > 2 else sys.exit(__doc__)
document = json.loads(Path(__file__).with_name("nncf.json").read_text("utf-8"))
# BertForMaskedLM is run by OVModelForMaskedLM, BertModel by OVModelForFeatureExtraction.
name = (AutoConfig.from_pretrained(model_dir).architectures or ["ForCausalLM"])[0]
task = "For" + name.partition("For")[2] if "For" in name else "ForCausalLM" if "LM" in name else "ForFeatureExtraction"
model = getattr(optimum.intel, f"OVModel{task}").from_pretrained(
    model_dir, export=True, compile=False, load_in_8bit=False
)
compressed = model.model
nodes = [node.get_friendly_name() for node in compressed.get_ops()]
for pattern in document["blocks"]:
    if not any(re.match(pattern, node) for node in nodes):
        sys.exit(f"no node of the graph matches {pattern}: this transformers calls the modules of the model otherwise")
for step in document["passes"]:
    arguments = {"mode": nncf.CompressWeightsMode[step["mode"]]}
    if step["group_size"] > 0:
        arguments |= {"group_size": step["group_size"], "ratio": 1.0, "all_layers": True}
    ignored = nncf.IgnoredScope(patterns=step["ignored"], validate=False)
    compressed = nncf.compress_weights(compressed, ignored_scope=ignored, **arguments)
model.model = compressed
model.save_pretrained(out)
openvino.save_model(compressed, Path(out) / "openvino_model.xml", compress_to_fp16=False)
