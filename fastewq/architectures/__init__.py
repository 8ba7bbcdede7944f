"""Every architecture FastEWQ reads, by `model_type`.

What all of them are made with:

    fields.py     checked access to one config, with the class defaults of `defaults.tsv`
    parts.py      attention, feed-forward, expert and norm tensors
    body.py       parts -> blocks -> stacks
    heads.py      what the class named in `architectures` adds to the body: LM head, classifier, pooler
    assembly.py   the vocabulary in which everything but plain decoders is declared
    text.py       the text models of every folder, for models that hold one
    registry.py   model_type -> Model, from the tables of the folders
    other_files.py   what a JSON object without a model_type is

The folders, each of which imports only from those above it, or from text.py, which knows the text models of all:

    decoders/           text: dense decoders, mixtures of experts, latent and linear attention, state spaces
    encoders/           text: BERT and its relatives, DeBERTa, encoders with rotary positions
    vision/             images and video; the towers through which other models see or hear
    seq2seq/            encoder-decoders of text and of time series: T5, BART and their relatives
    dense_prediction/   what is where in an image: detection, segmentation, depth
    audio/              speech encoders, transcription, codecs, speech and music generation
    vision_language/    dual encoders, readers of pages, language models behind a vision tower
    audio_language/     language models that hear or speak, and see as well
    remote/             models that the transformers library does not have, after the code in their repositories

A new type is an entry in the table of its nearest relatives. The table of a new module is named in `FAMILIES` of
registry.py, or in text.py where models of several kinds can hold its types.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from fastewq.architecture import Architecture
from fastewq.architectures.body import Body
from fastewq.architectures.fields import Fields, config_class
from fastewq.architectures.heads import Model
from fastewq.architectures.other_files import without_type
from fastewq.architectures.registry import MODELS
from fastewq.errors import UnsupportedArchitecture
from fastewq.shown import shown

DTYPES: Final = {
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "float32": "float32",
    "fp32": "float32",
    "float": "float32",
}
"""Spelling of a precision in configs -> its name."""


EXPERTS: Final = frozenset({"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"})
PARTS: Final = EXPERTS | {
    *("vision_config", "visual", "vision_tower", "mm_vision_tower"),
    *("audio_config", "audio", "speech_config"),
    "lora_adaptations",
}
"""Fields by which code outside the transformers library adds parts to models of a type that the library has."""
SIZES: Final = frozenset(
    {
        *("hidden_size", "d_model", "n_embd", "emb_dim", "dim", "embed_dim", "hidden_sizes", "embed_dims"),
        *("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "depths"),
    }
)
"""Names of the width and depth of a model."""
OTHER_SIZES: Final = SIZES | {"hidden_dim", "model_dim", "d_embed", "num_layer", "nlayers", "num_blocks", "n_blocks"}
"""These, and names that configs of other code have for them."""
PARTS_AND_SIZES: Final = PARTS | {"llm_config", "language_config", "thinker_config", "talker_config"}
"""These, and where such code can have the sizes of the models."""

OTHER_CLASSES: Final[Mapping[str, str]] = {
    "BailingMoeV2_5ForCausalLM": "bailing_hybrid",
    "Ernie4_5_ForCausalLM": "ernie4_5",
    "ExaoneMoEForCausalLM": "exaone_moe",
    "Fairseq2LlamaForCausalLM": "llama",
    "LLaMAForCausalLM": "llama",
    "MPTForCausalLM": "mpt",
    "PhiMoEForCausalLM": "phimoe",
    "RWForCausalLM": "falcon",
    "StableLMEpochForCausalLM": "stablelm",
    "Step3p5ForCausalLM": "step3p5",
}
"""Names that repositories' own code has for classes of the transformers library -> the model_type."""

OTHER_TYPES: Final[Mapping[tuple[str, str], str]] = {
    ("DeepseekOCR", "DeepseekOCRForCausalLM"): "deepseek_vl_v2",
    ("aimv2", "AIMv2Model"): "aimv2_tower",
    ("deepseek_ref", "DeepseekV4ForCausalLM"): "deepseek_v4",
    ("git", "Grok1ForCausalLM"): "grok",
    ("internlm2", "InternLM2VEForCausalLM"): "internlm2_ve",
    ("llama", "Eagle3LlamaForCausalLM"): "eagle3",
    ("llama", "EagleLlamaForCausalLM"): "eagle",
    ("llama", "LlamaForCausalLMEagle"): "eagle",
    ("llama", "LlamaForCausalLMEagle3"): "eagle3",
    ("llama", "PEagleDraftModel"): "peagle",
    ("llada", "LLaDAMoEModelLM"): "lladamoe",
    ("llava", "LlavaLlamaForCausalLM"): "llava_llama",
    ("llava", "LlavaMistralForCausalLM"): "llava_mistral",
    ("llava", "LlavaQwenForCausalLM"): "llava_qwen",
    ("nomic_bert", "NomicVisionModel"): "nomic_vision",
    ("phi3", "LlamaForCausalLMEagle3"): "eagle3",
    ("qwen2", "LlamaForCausalLMEagle3"): "eagle3",
    ("qwen3", "DFlashDraftModel"): "dflash",
    ("qwen3", "DSparkDraftModel"): "dspark",
    ("qwen3", "DominoDraftModel"): "domino",
    ("qwen3", "JinaForRanking"): "jina_ranking",
    ("qwen3", "LlamaForCausalLMEagle3"): "eagle3",
    ("rwkv6", "RWKV6ForCausalLM"): "rwkv6_flash",
    ("rwkv6", "RWKV6Model"): "rwkv6_flash",
    ("t5", "Chronos2Model"): "chronos2",
    ("t5", "ChronosBoltModelForForecasting"): "chronos_bolt",
}
"""(model_type, class) of published configs that mean another type: xai-org/grok-2's says "git"."""
MAYBE_EAGLE: Final = ("llama", "mixtral", "qwen2")
"""Types that EAGLE's authors give their drafters, whose class is Llama's own."""
WIDTH_OF_EAGLE: Final = 2048
"""That of the narrowest model with a drafter of EAGLE; whole models of one block are small ones, for tests."""
MISUSED: Final = frozenset(model_type for model_type, _ in OTHER_TYPES).union(MAYBE_EAGLE)


CONFIG_DICTS: Final = frozenset(
    {"altclip", "chinese_clip", "clip", "clipseg", "flava", "groupvit", "metaclip_2", "xclip"}
)
"""Types whose classes let a field such as `text_config_dict`, of their first files, replace the nested config."""


def supported() -> list[str]:
    """The model types with an exact layout, sorted."""
    return sorted(MODELS)


def read(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a config; see `fastewq.config.read_config`."""
    model_type = config.get("model_type")
    if model_type is None and isinstance(config.get("speculators_model_type"), str):
        model_type = f"speculators_{config['speculators_model_type']}"
    if not isinstance(model_type, str) or model_type == "SentenceTransformer":
        raise without_type(config)
    model_type = meant(model_type, config)
    model = MODELS.get(model_type)
    if model is None:
        raise UnsupportedArchitecture(f"model_type is {shown(model_type)}; no exact block layout is known for it")
    if model_type in CONFIG_DICTS:
        config = with_config_dicts(config)
    f = Fields(config, model_type)
    head, guesses = chosen_head(f, model)
    body = model.build(f, head)
    text = f.optional_sub("text_config", "") or f
    warnings = (
        *guesses,
        *body.warnings,
        *unread_parts(f, config, body),
        *unread_positions(f),
        *unread_sizes(f, config, body),
        *maybe_eagle(f),
    )
    stored, assumed = dtype(f, text)
    return Architecture(
        model_type=model_type,
        dtype=stored,
        stacks=body.stacks,
        outside=body.outside,
        vocab_size=body.vocab_size,
        tied_embeddings=model.ties(f, head),
        initializer_range=0.02 if text.value("initializer_range", None) is None else text.number("initializer_range"),
        exact=not warnings,
        warnings=(*warnings, *assumed, *assumed_sizes(f)),
    )


def meant(model_type: str, config: Mapping[str, Any]) -> str:
    """The model_type that a config's class belongs to, where the config names another one."""
    if model_type == "AXK1":
        return "axk1"
    if model_type == "xlm-roberta" and (
        config.get("lora_adaptations") or config.get("position_embedding_type") == "rotary"
    ):
        return "xlm-roberta-flash"
    if model_type == "bert" and config.get("alibi_starting_size"):
        return "mosaic_bert"
    if model_type == "bert" and config.get("position_embedding_type") == "alibi":
        return "jina_bert"
    if model_type == "esm" and config.get("add_bias_fnn") is not None:
        return "nucleotide_transformer"
    if model_type not in MISUSED:
        return model_type
    named = config.get("architectures")
    name = named[0] if isinstance(named, list | tuple) and named else None
    if name == "LlamaForCausalLM" and model_type in MAYBE_EAGLE:
        return drafter(model_type, config)
    return OTHER_TYPES.get((model_type, name), model_type) if isinstance(name, str) else model_type


def drafter(model_type: str, config: Mapping[str, Any]) -> str:
    """What a config of Llama's own class is: EAGLE's authors publish drafters under it, most with one more field."""
    if config.get("draft_vocab_size"):
        return "eagle3"
    drafts = model_type != "llama" or "bias" in config or "qkv_bias" in config
    return "eagle" if drafts and config.get("num_hidden_layers") == 1 else model_type


def with_config_dicts(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same with `NAME_config_dict` as `NAME_config`, where it is an object."""
    given = {
        name: value
        for name, value in config.items()
        if isinstance(name, str) and name.endswith("_config_dict") and isinstance(value, Mapping)
    }
    if not given:
        return config
    rest = {name: value for name, value in config.items() if name not in given}
    return {**rest, **{name.removesuffix("_dict"): value for name, value in given.items()}}


def chosen_head(f: Fields, model: Model) -> tuple[str, tuple[str, ...]]:
    """The ending of the class named in `architectures`, and a warning where it is not a class of this model_type."""
    named = f.value("architectures", None)
    if named is None or named == []:
        return model.default, ()
    if not isinstance(named, list | tuple) or not named or not isinstance(named[0], str) or len(named[0]) > 200:
        raise f.refuse("architectures", named, "a list with the name of a class")
    name, head = named[0], model.ending(named[0])
    if is_known(name, f, model) and head in model.endings:
        return head, other_code(f, model, head)
    used = head if head in model.endings else model.default
    kind = f"that ends in {used!r}" if used else "without a head"
    return used, (
        f"architectures[0] is {shown(name)}, which is not known for model_type {f.model_type}; "
        f"it is read as one {kind}, whose blocks and other parameters can differ",
    )


def is_known(name: str, f: Fields, model: Model) -> bool:
    """Whether a class is one of this model_type."""
    return name in model.classes or name in f.classes or OTHER_CLASSES.get(name) == f.model_type


def other_code(f: Fields, model: Model, head: str) -> tuple[str, ...]:
    """A warning where the repository's own code has another class for this head than the library."""
    named = f.value("auto_map", None)
    if not named or not isinstance(named, Mapping):
        return ()
    place = named.get("AutoModel" + head.removeprefix("Model"))
    name = place.rpartition(".")[2] if isinstance(place, str) else ""
    if not name or is_known(name, f, model):
        return ()
    return (f"auto_map names {shown(name)}, which is not known for model_type {f.model_type}; its code is not read",)


def unread_parts(f: Fields, config: Mapping[str, Any], body: Body) -> tuple[str, ...]:
    """A warning for each field that adds a part to other models, or has their sizes, and that nothing here reads."""
    known = PARTS_AND_SIZES if f.classes else PARTS
    found = set() if known.isdisjoint(config) else config.keys() & known
    if f.subs and not f.subs <= config.keys():  # what it nests can be there under other names
        found |= {name for name, value in config.items() if type(value) is dict and not SIZES.isdisjoint(value)}
    if not found:
        return ()
    if any(stack.experts for stack in body.stacks):
        found -= EXPERTS
    sent = (name for name in found if config[name] and config[name] not in (1, True))
    unread = sorted(name for name in sent if f.unread(name) or (name in EXPERTS and not f.classes))
    return tuple(f"{name} is not known for model_type {f.model_type}; what it says is not counted" for name in unread)


def unread_positions(f: Fields) -> tuple[str, ...]:
    """A warning where a class of BERT's line has lost the positions that it could have in every block's attention."""
    if not f.classes or not f.undeclared("position_embedding_type"):
        return ()
    kind = f.value("position_embedding_type")
    # Without kinds of tokens a type is not of BERT's line, and means other things.
    if kind == "absolute" or not f.value("type_vocab_size", None):
        return ()
    return (f"position_embedding_type is {shown(kind)}; model_type {f.model_type} is read with a table of positions",)


def unread_sizes(f: Fields, config: Mapping[str, Any], body: Body) -> tuple[str, ...]:
    """A warning where a width or depth of the class is not given, and one under a name that it does not know is."""
    missing = [name for name in size_fields(f.model_type) if not f.has(name)]
    if not missing:
        return ()
    used = [size for stack in body.stacks for size in (stack.width, len(stack.blocks))]
    unread = sorted(name for name in config.keys() & OTHER_SIZES if f.unread(name) and config[name] not in used)
    if not unread:
        return ()
    return (
        f"{' and '.join(unread)} of the config: not known for model_type {f.model_type}; "
        f"the class defaults of {' and '.join(missing)} are assumed",
    )


def maybe_eagle(f: Fields) -> tuple[str, ...]:
    """A warning where a Llama is no more than one wide block: EAGLE's first drafters have such configs."""
    if f.model_type != "llama" or f.value("num_hidden_layers", None) != 1 or f["hidden_size"] < WIDTH_OF_EAGLE:
        return ()
    if f.value("architectures", None) != ["LlamaForCausalLM"] or not f.has("hidden_size"):
        return ()
    return (
        "num_hidden_layers is 1, which can be a Llama or a drafter of EAGLE; it is read as a Llama, with norms and a "
        "head that a drafter has not",
    )


def assumed_sizes(f: Fields) -> tuple[str, ...]:
    """A warning where a config gives neither a width nor a depth under names that its class knows."""
    names = size_fields(f.model_type)
    if not names or any(map(f.has, names)):
        return ()
    return (f"none of {', '.join(names)} is given; the class defaults of {f.model_type} are assumed",)


@cache
def size_fields(model_type: str) -> tuple[str, ...]:
    """The fields that say how large a model is; none for models with nested configs, which have them there."""
    known = config_class(model_type)
    return () if known.subs else tuple(sorted(SIZES & known.fields.keys()))


def dtype(f: Fields, text: Fields) -> tuple[str, tuple[str, ...]]:
    """The precision of the weights before any quantization, and a warning where the config names none that is known.

    The text model's `dtype` counts where the top level has none. Without either, quantized checkpoints were made from
    bfloat16 weights as a rule, and the others are old enough to be float32.
    """
    for level, name in ((f, "dtype"), (f, "torch_dtype"), (text, "dtype"), (text, "torch_dtype")):
        if level.has(name):
            break
    else:
        quantized = f.value("quantization_config", None) or f.value("quantization", None)
        assumed = "bfloat16" if quantized else "float32"
        return assumed, (f"the config names no dtype; {assumed} is assumed",)
    spelling = level.text(name)
    found = DTYPES.get(spelling.lower().removeprefix("torch."))
    if found is not None:
        return found, ()
    expected = "expected bfloat16, float16 or float32; the first is assumed"
    return "bfloat16", (f"{level.where(name)} is {shown(spelling)}; {expected}",)
