"""Write fastewq/architectures/defaults.tsv: what the transformers library assumes when a config leaves a field out.

    python tools/class_defaults.py        (needs transformers and torch; see `oracle` in pyproject.toml)

One line per model_type: the name, a tab, and a JSON object with
  fields   {field: default} as declared by the config class (null: the class derives it, or the part is absent)
  aliases  {other spelling: field}, from the class's attribute_map
  subs     {field: [model_type, overrides, flags]} of nested configs; flags: "a" the nested model_type decides which
           class reads it, "o" null means the part is absent
  classes  the model classes that take this config
The first line names the version of transformers.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, AutoConfig

TARGET = Path(__file__).parents[1] / "fastewq" / "architectures" / "defaults.tsv"
COMMON = {field.name for field in dataclasses.fields(PreTrainedConfig)} - {"is_encoder_decoder"}
NO_SIZE = re.compile(
    r"dropout|layerdrop|_pdrop|drop_path|_token_|token_id|_eps$|epsilon|rope(?!_head_dim)|_cost$|_coef|_loss|loss_|use_cache|"
    r"^output_(attentions|hidden_states|router|scores|past)|^mask_(time|feature)_(?!prob)|^aux|temperature|jitter|logits_|"
    r"_logits$|^generation|^return_|^pretraining_tp$|^_out"
)
"""Names of fields that no tensor shape depends on. A name dropped by mistake shows as "missing" in the oracle's run."""


def keep(name: str, value: Any) -> bool:
    if name == "initializer_range":
        return True
    if name in COMMON or NO_SIZE.search(name):
        return False
    if isinstance(value, list | tuple):
        return len(value) <= 64 and all(isinstance(v, int | float | str | list | tuple) for v in value)
    if isinstance(value, dict):
        return len(json.dumps(value)) <= 200
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 40)


def declared(config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    values = {}
    for field in dataclasses.fields(config_class):
        if field.default is not dataclasses.MISSING:
            values[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = field.default_factory()
    return values


def other_spellings(config_class: type[PreTrainedConfig]) -> dict[str, str]:
    """attribute_map, turned so that the declared field is the one renamed to: the other spelling, set later, wins.

    Of two declared fields the one renamed to is set later, so that the spelling has no effect and is left out.
    """
    fields, pairs = declared(config_class), {}
    order = list(fields)
    for spelling, name in config_class.attribute_map.items():
        if spelling == name:
            continue
        if spelling in fields and name in fields:
            assert order.index(spelling) < order.index(name), f"{config_class.__name__}: {spelling} hides {name}"
        elif spelling in fields:
            pairs[name] = spelling
        else:
            pairs[spelling] = name
    return dict(sorted(pairs.items()))


def nested(config_class: type[PreTrainedConfig]) -> dict[str, list[Any]]:
    subs = {}
    for name, spec in config_class.sub_configs_defaults.items():
        auto = not (inspect.isclass(spec.config_class) and issubclass(spec.config_class, PreTrainedConfig))
        auto = auto or spec.config_class is AutoConfig
        flags = ("a" if auto else "") + ("o" if spec.optional else "")
        subs[name] = [spec.model_type, spec.init_kwargs, flags]
    return subs


def mapped_classes(model_type: str) -> set[str]:
    """The classes that the library's Auto classes use for a model type."""
    found = set()
    for mapping in vars(modeling_auto):
        if mapping.endswith("MAPPING_NAMES") and mapping != "CONFIG_MAPPING_NAMES":
            value = getattr(modeling_auto, mapping).get(model_type, ())
            found |= {value} if isinstance(value, str) else set(value)
    return found


def model_classes(model_type: str) -> list[str]:
    """The public model classes of the config's own package that take this config, and those of the Auto classes."""
    config_class = CONFIG_MAPPING[model_type]
    package = config_class.__module__.rpartition(".")[0]
    names = mapped_classes(model_type)
    for path in Path(inspect.getfile(config_class)).parent.glob("modeling_*.py"):
        try:
            module = importlib.import_module(f"{package}.{path.stem}")
        except ImportError as error:
            print(f"{path.stem}: no classes listed, {error}")
            continue
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isclass(value) and issubclass(value, PreTrainedModel) and value.config_class is config_class:
                names.add(name)
    return sorted(n for n in names if not n.endswith("PreTrainedModel"))


def line(model_type: str) -> str:
    config_class = CONFIG_MAPPING[model_type]
    entry = {
        "fields": {k: v for k, v in sorted(declared(config_class).items()) if keep(k, v)},
        "aliases": other_spellings(config_class),
        "subs": nested(config_class),
        "classes": model_classes(model_type),
    }
    filled = {k: v for k, v in entry.items() if v}
    return f"{model_type}\t{json.dumps(filled, separators=(',', ':'))}\n"


def main() -> None:
    lines = [f"transformers\t{json.dumps(transformers.__version__)}\n"]
    lines += [line(model_type) for model_type in sorted(CONFIG_MAPPING.keys())]
    temporary = TARGET.with_suffix(".tmp")
    temporary.write_text("".join(lines), "utf-8")
    temporary.replace(TARGET)
    print(f"{TARGET.name}: {len(lines) - 1} model types, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
