"""How far back each layer of a text decoder looks: the window of its attention, as its config class derives it.

A config may list the kind of every layer (`layer_types`). Where it does not, its class decides which layers attend to
everything: FULL_LAYERS has that rule for every class that gives layers a window. Of a class that is not in it attention
is full, whatever the config says, so that a cache is never underestimated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from fastewq.architectures.fields import STAND_INS, Fields, Size
from fastewq.architectures.parts import field_or

WINDOWED: Final = frozenset(
    {"sliding_attention", "chunked_attention", "local_attention", "local", "hybrid_sliding", "swa",
     "compressed_sparse_attention", "heavily_compressed_attention"}
)  # fmt: skip
"""The names of layers with a window. `reference_sliding_attention` (Unlimited-OCR) is none: it keeps the prompt too."""


def layer_windows(f: Fields, layers: int) -> Sequence[int | None]:
    """The window of each layer: the tokens that one sees, itself included; None for full attention.

    Raises InvalidConfig where a size or a list of layers is not usable.
    """
    model_type = STAND_INS.get(f.model_type, f.model_type)
    kinds = f.value("layer_types", None)
    listed = isinstance(kinds, list | tuple) and len(kinds) >= layers
    if not listed and model_type not in FULL_LAYERS:  # whatever sizes a config has that nothing reads
        return [None] * layers
    sliding, chunk = _window(f), first_size(f, "attention_chunk_size")
    if not (sliding or chunk):
        return [None] * layers
    if listed:
        sizes = dict.fromkeys(WINDOWED, sliding) | {"chunked_attention": chunk or sliding}
        found = [sizes.get(kind) if isinstance(kind, str) else None for kind in kinds[:layers]]
        full: Collection[int] = ()
    else:
        found = [chunk if model_type == "llama4_text" else sliding] * layers
        full = FULL_LAYERS[model_type](f, layers)
    if model_type in LAST_IS_FULL:
        full = {*full, layers - 1}
    return [None if i in full else window for i, window in enumerate(found)]


def first_size(f: Fields, *names: str) -> int | None:
    """The first of these sizes that is set; 0 says that there is none."""
    return next((f.optional_size(name) for name in names if f.value(name, None) not in (None, 0)), None)


def _window(f: Fields) -> int | None:
    if not f.value("use_sliding_window", True):
        return None
    if f.model_type == "modernbert-decoder":  # given for both directions, of which it looks in one
        both = first_size(f, "local_attention")
        return both and max(both // 2, 1)
    if f.model_type in ("mimo_v2", "mimo_v2_flash") and f.has("sliding_window_size"):  # given without the token itself
        return f["sliding_window_size"] + 1
    if f.model_type == "smallthinker":
        return first_size(f, "sliding_window_size")
    if f.model_type == "jet_nemotron" and f.has("efficient_attention_config"):
        efficient = f.sub("efficient_attention_config", "")
        return first_size(efficient.sub("swa", ""), "window_size") if efficient.has("swa") else None
    if f.model_type == "dots3_note_text":
        return first_size(f, "sliding_window", "sliding_window_size") or 512
    return first_size(f, "sliding_window", "attention_window_size")


Rule = Callable[[Fields, int], Collection[int]]
"""(fields, number of layers) -> the layers whose attention is full where the config does not list them."""


def none(_: Fields, __: int) -> Collection[int]:
    return ()


def every(step: Size, first: int | None = None) -> Rule:
    """One layer of each `step`: the last of them, else the one from `first` on."""

    def rule(f: Fields, layers: int) -> Collection[int]:
        n = f[step]
        return range(n - 1 if first is None else first, layers, n)

    return rule


def flint(_: Fields, layers: int) -> Collection[int]:
    return {0, 1, *range(1, layers, 4), layers - 1}


def muse(_: Fields, layers: int) -> Collection[int]:
    """Every fourth, counted from the last."""
    return range((layers - 1) % 4, layers, 4)


def beam(_: Fields, layers: int) -> Collection[int]:
    return {*range(5, layers, 6), layers - 1}


def cohere2_moe(f: Fields, layers: int) -> Collection[int]:
    """The first dense layers have a period of their own, and the count starts again after them."""
    dense = min(f.count("first_k_dense_replace", 0), layers)
    first, rest = f[field_or("prefix_dense_sliding_window_pattern", 1)], f[field_or("sliding_window_pattern", 4)]
    return {*range(first - 1, dense, first), *range(dense + rest - 1, layers, rest)}


def exaone(f: Fields, layers: int) -> Collection[int]:
    """`sliding_window_pattern` is a number, or letters for the layers in turn: L local, G global."""
    pattern = f.value("sliding_window_pattern")
    if isinstance(pattern, str):
        return {i for i in range(layers) if not pattern or pattern[i % len(pattern)] != "L"}
    return every("sliding_window_pattern")(f, layers)


def mimo(f: Fields, layers: int) -> Collection[int]:
    """Where `hybrid_layer_pattern` has a 0, else the first and every sixth."""
    if f.value("hybrid_layer_pattern", None) is None:
        return {0, *range(5, layers, 6)}
    return {i for i, slides in enumerate(f.per_layer("hybrid_layer_pattern", layers)) if not slides}


def smallthinker(f: Fields, layers: int) -> Collection[int]:
    """Where `sliding_window_layout` has a 0; all, where there is none."""
    if f.value("sliding_window_layout", None) is None:
        return range(layers)
    return {i for i, slides in enumerate(f.per_layer("sliding_window_layout", layers)) if not slides}


def inkling(f: Fields, layers: int) -> Collection[int]:
    if f.value("local_layer_ids", None) is None:
        return range(5, layers, 6)
    return set(range(layers)) - f.indices("local_layer_ids")


def first_layers(f: Fields, layers: int) -> Collection[int]:
    """The first `max_window_layers`."""
    return range(layers) if f.value("max_window_layers", None) is None else range(f.count("max_window_layers"))


def qwen2_moe(f: Fields, layers: int) -> Collection[int]:
    """All but every second of the first `max_window_layers`."""
    return set(range(layers)) - set(range(0, min(f.count("max_window_layers"), layers), 2))


def _rotates(f: Fields, layers: int) -> Sequence[Any]:
    """1 for each layer with rotary positions."""
    if f.value("no_rope_layers", None):
        return f.per_layer("no_rope_layers", layers)
    step = f.size("no_rope_layer_interval", 4)
    return [(i + 1) % step for i in range(layers)]


def without_rotation(f: Fields, layers: int) -> Collection[int]:
    return {i for i, rotates in enumerate(_rotates(f, layers)) if not rotates}


def with_rotation(f: Fields, layers: int) -> Collection[int]:
    return {i for i, rotates in enumerate(_rotates(f, layers)) if rotates}


FULL_LAYERS: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(("gemma2", "vaultgemma", "t5_gemma_module", "gpt_oss"), every(2)),
    **dict.fromkeys(("gemma3n_text", "kolibri1"), every(5)),
    **dict.fromkeys(("gemma3_text", "t5gemma2_decoder"), every(field_or("sliding_window_pattern", 6))),
    **dict.fromkeys(("diffusion_gemma_text", "gemma4_text", "gemma4_unified_text", "inkling2_text"), every(6)),
    "baichuan_m1": lambda f, layers: {*range(layers)} - f.indices("sliding_window_layers"),
    "inkling_text": inkling,
    "beam": beam,
    **dict.fromkeys(("mimo_v2", "mimo_v2_flash"), mimo),
    "smallthinker": smallthinker,
    "olmo3": every(4),
    "phi4flash": lambda _, layers: range(layers // 2, layers),
    "cohere2": every(field_or("sliding_window_pattern", 4)),
    "cohere2_moe": cohere2_moe,
    "afmoe": every("global_attn_every_n_layers"),
    "exaone4": exaone,
    "exaone_moe": exaone,
    "modernbert-decoder": every(field_or("global_attn_every_n_layers", 3), first=0),
    **dict.fromkeys(("cwm", "granite_swa", "granitemoe_swa"), every(4, first=0)),
    "dots3_note_text": lambda _, layers: {0, *range(1, layers, 4)},
    "flint": flint,
    **dict.fromkeys(("muse_glimmer_text", "muse_spark_text"), muse),
    "llama4_text": without_rotation,
    "lfm3": every(4, first=2),
    "smollm3": with_rotation,
    **dict.fromkeys(
        ("dots1", "qwen2", "qwen2_5_omni_talker", "qwen2_5_omni_text", "qwen2_5_vl_text", "qwen2_vl_text", "qwen3",
         "qwen3_omni_moe_talker_code_predictor"),
        first_layers,
    ),
    "qwen2_moe": qwen2_moe,
    **dict.fromkeys(
        ("deepseek_v4", "doge", "kyutai_speech_to_text", "ministral", "ministral3", "mistral", "mixtral", "moshi",
         "phi3", "phi4_multimodal", "phimoe", "qwen3_moe", "qwen3_omni_moe_talker_text", "qwen3_omni_moe_text",
         "recurrent_gemma", "starcoder2", "voxtral_realtime_text"),
        none,
    ),
}  # fmt: skip
LAST_IS_FULL: Final = frozenset({"diffusion_gemma_text", "gemma4_text", "gemma4_unified_text"})
"""Whatever `layer_types` says of it."""
