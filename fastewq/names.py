"""What looks like a model on the Hub. Apart from `fastewq.hub`, so that asking costs no import of a network library."""

from __future__ import annotations

import re
from typing import Final

_ORG_AND_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_FILE_SUFFIXES: Final = (".json", ".safetensors", ".gguf", ".bin", ".toml", ".parquet", ".jsonl")


def is_hub_id(text: str) -> bool:
    """Whether a text has the form org/name (it need not exist). A path such as ./a/b or a/b.json has not."""
    return bool(_ORG_AND_NAME.fullmatch(text)) and not text.endswith(_FILE_SUFFIXES)
