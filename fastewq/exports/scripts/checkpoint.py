"""What quantize.py beside this file needs of a checkpoint: its model, and the small files that go with the weights.

MODEL is a folder, or the name of a repository, of which no more is downloaded than is used.
"""

import shutil
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import snapshot_download

SMALL = ["*.json", "*.jinja", "*.model", "*.spm", "*.txt"]


def load(source: str, **options: Any) -> Any:
    """MODEL as the class that its config names: AutoModelForCausalLM would turn an encoder into another model."""
    names = transformers.AutoConfig.from_pretrained(source).architectures or [""]
    model_class = getattr(transformers, names[0], transformers.AutoModelForCausalLM)
    return model_class.from_pretrained(source, dtype="auto", **options)


def copy_small_files(source: str, out: str) -> None:
    """Give OUT, which has a config of its own, the tokenizer, the processor of pictures, the chat template ..."""
    folder = source if Path(source).is_dir() else snapshot_download(source, allow_patterns=SMALL)
    for file in [file for pattern in SMALL for file in Path(folder).glob(pattern)]:
        if not file.name.endswith(".index.json") and not (Path(out) / file.name).exists():
            shutil.copy(file, out)
