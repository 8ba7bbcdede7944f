"""GOT-OCR 2 before the library had it: SAM's tower of fixed sizes in front of Qwen2, whose fields are at the top.

Follows Ucas-HaoranWei/GOT-OCR2.0, GOT/model/GOT_ocr_2_0.py and vision_encoder/vary_b.py. They are never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastewq.architectures.assembly import Adjusted, Assembly, At, In, Linear, Nested, Rest
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.remote.deepseek_ocr import SAM
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.text import TEXT

SEEN: Final = 1024
TOWER: Final[Mapping[str, Any]] = {
    "model_type": "sam",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "grid": 64,
    "everywhere": [2, 5, 8, 11],
    "second": 512,
    "third": SEEN,
}


def sides(f: Fields) -> Fields:
    return f.replaced(model_type="qwen2").unflattened("text_config").replaced(vision_config=TOWER)


GOT = Adjusted(
    Assembly(
        Nested("text_config", "", TEXT, "ForCausalLM"),
        At(
            "model",
            In("vision_config", SAM, path="vision_tower_high"),
            Rest(Linear("mm_projector_vary", SEEN, SEEN)),
        ),
    ),
    sides,
)
GOT_OCR: Mapping[str, Model] = {"GOT": one_class("GOTQwen", "ForCausalLM", GOT)}
