"""JSON files that lie beside a model's config.json, or in its place: what they are, and what to send instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastewq.architectures.fields import config_class, types_of_class
from fastewq.errors import InvalidConfig
from fastewq.shown import shown

BESIDE: Final = "Send the config.json beside it."
FILES: Final[Mapping[str, tuple[str, str]]] = {
    "peft_type": ("the config of an adapter", "Send the config.json of the model that the adapter changes"),
    "_class_name": (
        "a file of the diffusers library",
        "Of a pipeline, the config.json of each text encoder can be read; denoisers and autoencoders cannot.",
    ),
    "__version__": ("config_sentence_transformers.json", BESIDE),
    "pretrained_cfg": (
        "a config of the timm library",
        "Of a model that is published for the transformers library as well, send that config.json.",
    ),
    "preprocess_cfg": (
        "open_clip_config.json",
        "Of a model that is published for the transformers library as well, send that config.json.",
    ),
    "weight_map": ("the index of a sharded checkpoint", BESIDE),
    "norm_eps": ("params.json of another format", "Send the model's config.json in the format of transformers."),
    "tokenizer_class": ("tokenizer_config.json", BESIDE),
    "image_processor_type": ("preprocessor_config.json", BESIDE),
    "feature_extractor_type": ("preprocessor_config.json", BESIDE),
    "processor_class": ("the config of a processor", BESIDE),
    "damp_percent": ("quantize_config.json of GPTQ", BESIDE),
    "producer": ("hf_quant_config.json of ModelOpt", BESIDE),
    "_from_model_config": ("generation_config.json", BESIDE),
    "do_sample": ("generation_config.json", BESIDE),
    "max_new_tokens": ("generation_config.json", BESIDE),
}
"""A field that has a meaning in another file -> which file that is, and what to send instead."""
ANYWHERE: Final = frozenset({"peft_type", "_class_name"})
"""Of these fields, those that make a file another one whatever else it has."""
SIZES: Final = frozenset(
    {"hidden_size", "d_model", "n_embd", "emb_dim", "num_hidden_layers", "n_layer", "architectures"}
)
"""One of these is in the config of most models; old ones say much about tokens and sampling, too."""


def without_type(config: Mapping[str, Any]) -> InvalidConfig:
    """The error for a JSON object without a model_type; raise it."""
    schema = config.get("schema")
    if isinstance(schema, str) and schema.startswith("fastewq."):
        return InvalidConfig(f"schema is {shown(schema)}, so this is a document of ours; expected a model's config")
    sized = not SIZES.isdisjoint(config)
    for field, (file, hint) in FILES.items():
        if field in config and (field in ANYWHERE or not sized):
            message = f"{field} is {shown(config[field])}, so this is {file}; expected a model's config.json"
            return InvalidConfig(message, hint=f"{hint}{base_model(config)}" if field == "peft_type" else hint)
    expected = "expected a string such as 'llama'"
    if "model_type" in config:
        return InvalidConfig(f"model_type is {shown(config['model_type'])}; {expected}")
    named = config.get("architectures")
    name = named[0] if isinstance(named, list) and named else None
    known = likely_types(config, name) if isinstance(name, str) else ()
    meant = f" For {shown(name)} it is {' or '.join(map(repr, known))}." if known else ""
    hint = f"Configs older than that field lack it: add it.{meant} Otherwise send the model's unmodified config.json."
    return InvalidConfig(f"model_type is missing; {expected}", hint=hint)


def likely_types(config: Mapping[str, Any], name: str) -> Sequence[str]:
    """Of the types that a class belongs to, those that nest as the config does; of these, those it is named after."""
    known = types_of_class(name)
    nesting = [one for one in known if config.keys() & config_class(one).subs.keys()]
    alike = nesting or [one for one in known if not config_class(one).subs] or known
    return [one for one in alike if name.lower().startswith(letters(one))] or alike


def letters(model_type: str) -> str:
    """A type as names of classes have it, but for capitals."""
    return "".join(filter(str.isalnum, model_type.lower()))


def base_model(config: Mapping[str, Any]) -> str:
    """The end of the hint that names the model of an adapter."""
    name = config.get("base_model_name_or_path")
    return f", {shown(name)}." if isinstance(name, str) and name else "."
