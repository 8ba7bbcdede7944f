"""`quantization_config` -> `Quantization`: one function for each tool that writes quantized checkpoints.

Sizes follow what the tools write: packed weights, scales, zero points, indices and shapes. They are checked against
files and modules of those tools by tests/test_quantized.py and `tools/oracle.py stored`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from fastewq.architectures.fields import in_library
from fastewq.errors import InvalidConfig, UnsupportedArchitecture
from fastewq.modules import TOKEN_HEADS, is_token_head
from fastewq.quantized.module_names import LATER_EXPERT, ModuleNames, Room, TooMuch, names
from fastewq.quantized.packing import MXFP4, MXFP8, Packing, Quantization, Rule, grouped
from fastewq.shown import json_kind, shown

Config = Mapping[str, Any]

NESTED: Final = ("text_config", "llm_config", "language_config", "thinker_config")
MAX_GROUP: Final = 2**20
MAX_RULES: Final = 64
MAX_OWN_FORMATS: Final = 4096
"""Modules that a config gives a format of their own."""
MAX_STEPS: Final = 4
"""In which Quark quantizes a matrix; published files have two."""
MODEL_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "fp8": ("expert_dtype", "index_n_heads"),
    "bitsandbytes": ("model_type", "transformers_version", "unsloth_fixed"),
}
"""Method -> fields beside `quantization_config` that say how matrices are stored; its function gets no others."""
DEFAULT_BLOCK: Final = (128, 128)
F32: Final = 32
FP8_SCALES: Final = 8


def _integer(q: Config, name: str, default: int | None, low: int, high: int) -> int:
    value = q.get(name)
    value = default if value is None else value
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise InvalidConfig(f"quantization_config.{name} is {shown(value)}; expected an integer from {low} to {high}")
    return value


def _word(q: Config, name: str) -> str:
    """A string; empty where it is absent or something else."""
    value = q.get(name)
    return value if isinstance(value, str) else ""


def _group(q: Config, default: int | None = 128) -> int:
    """The group size; 0 for -1, which stands for the whole row."""
    return max(_integer(q, "group_size", default, -1, MAX_GROUP), 0)


def _object(value: Any, field: str) -> Config:
    if not isinstance(value, Mapping):
        raise InvalidConfig(f"quantization_config.{field} is {json_kind(value)}; expected an object")
    return value


def _entries(value: Any, field: str, limit: int) -> Iterable[tuple[Any, Any]]:
    """The items of an object, which may be absent."""
    found = _object({} if value is None else value, field)
    if len(found) > limit:
        raise TooMuch(f"{field} with {len(found)} entries")
    return found.items()


KEPT_FIELDS: Final = (
    "modules_to_not_convert",
    "ignored_layers",
    "ignore",
    "exclude_modules",
    "exclude",
    "llm_int8_skip_modules",
)
NOTHING_KEPT: Final = Rule(None, ModuleNames(()))


MAX_MODULES_LISTED: Final = 2**15


def _single_modules(value: Any, field: str) -> Iterator[tuple[Any, Any]]:
    """What an object says about single modules, which are its keys; the first expert stands for all."""
    for module, change in _entries(value, field, MAX_MODULES_LISTED):
        if not isinstance(module, str) or not LATER_EXPERT.search(module):
            yield module, change


def _own_formats(formats: Iterable[tuple[Packing | None, Any]], field: str) -> list[Rule]:
    """From pairs of a format and a module's name to a rule per format, in the order of their first modules."""
    by_packing: dict[Packing | None, list[str]] = {}
    for number, (packing, module) in enumerate(formats):
        by_packing.setdefault(packing, []).extend(names([module], field))
        if len(by_packing) > MAX_RULES or number >= MAX_OWN_FORMATS:
            raise TooMuch(f"{field} with more than {MAX_RULES} formats or {MAX_OWN_FORMATS} modules")
    room = Room()
    return [Rule(packing, ModuleNames(modules, room)) for packing, modules in by_packing.items()]


def _kept(q: Config) -> Rule:
    """The modules left alone, under any of the names that the tools use for their list."""
    entries = [entry for field in KEPT_FIELDS if q.get(field) is not None for entry in names(q[field], field)]
    return Rule(None, ModuleNames(entries)) if entries else NOTHING_KEPT


KEPT_BY_DEEPSEEK: Final = Rule(
    None,
    ModuleNames(["weights_proj", "compressor.kv_proj", "compressor.gate_proj", "indexer.kv_proj", "indexer.gate_proj"]),
)
"""Modules of DeepSeek V3.2 and V4 that their fp8 checkpoints keep without a list that says so."""
EXPERTS: Final = ModuleNames(["mlp.experts", "ffn.experts"])


def fp8(q: Config, config: Config) -> Quantization:
    """DeepSeek's and Qwen's: float8 with a scale per tile of 128 x 128, or one scale per matrix.

    DeepSeek-V4 stores scales as powers of two in 8 bits, and its experts in 4 bits with a scale per 32 inputs, or in
    the format that `moe_quant_algo` names.
    """
    block = q.get("weight_block_size")
    small = config.get("expert_dtype") or q.get("expert_dtype")
    powers = q.get("scale_fmt") == "ue8m0" and (small is not None or block == [1, 32])
    scale = FP8_SCALES if powers else F32
    static = 4 * (q.get("activation_scheme") == "static")
    if block is None:
        packing = Packing("fp8", 8, (0, 0), F32, matrix_bytes=static)
    else:
        packing = Packing("fp8", 8, _tile(block, "weight_block_size"), scale, matrix_bytes=static)
    experts = _word(q, "moe_quant_algo").upper()
    rules = [_kept(q)] if not experts else []  # NVIDIA's list says what else is not in 4 bits
    if "index_n_heads" in config:
        rules.append(KEPT_BY_DEEPSEEK)
    if experts:
        rules.append(Rule(_modelopt(experts, q), EXPERTS))
    elif small == "fp4":
        rules.append(Rule(grouped("mxfp4", 4, 32, scale), EXPERTS))
    return Quantization("fp8", (*rules, Rule(packing)), conv1d=False)


def _tile(value: Any, field: str) -> tuple[int, int]:
    if (
        not isinstance(value, list | tuple)
        or len(value) != 2
        or not all(type(size) is int and 0 < size <= MAX_GROUP for size in value)
    ):
        raise InvalidConfig(f"quantization_config.{field} is {shown(value)}; expected two positive integers")
    return value[0], value[1]


def fbgemm_fp8(q: Config, _: Config) -> Quantization:
    """float8 with a float32 scale per row; the bound for the activations is in the config alone."""
    return Quantization("fbgemm_fp8", (_kept(q), Rule(grouped("fp8", 8, 0, F32))), conv1d=False)


def gptq(q: Config, _: Config) -> Quantization:
    """Integers in 32-bit words; float16 scale and packed zero point per group, int32 group index per input.

    `dynamic` gives modules named by regular expressions other bits ("+:"), or none ("-:").
    """
    bits, group = _integer(q, "bits", 4, 2, 8), _group(q)
    rules, room = [_kept(q)], Room()
    for key, change in _entries(q.get("dynamic"), "dynamic", MAX_RULES):
        (pattern,) = names([key], "dynamic")
        named = ModuleNames([pattern.removeprefix("+:").removeprefix("-:")], room, regex=True)
        own = _object(change, "dynamic")
        packing = _gptq(_integer(own, "bits", bits, 2, 8), _group(own, group))
        rules.append(Rule(None if pattern.startswith("-:") else packing, named))
    return Quantization("gptq", (*rules, Rule(_gptq(bits, group))), text=True, head=q.get("lm_head") is True)


def _gptq(bits: int, group: int, column_bytes: int = 4) -> Packing:
    return grouped(f"stored-int{bits}", bits, group, 16 + bits, column_bytes=column_bytes)


def awq(q: Config, _: Config) -> Quantization:
    """As GPTQ without the group index."""
    bits = _integer(q, "bits", _integer(q, "w_bit", 4, 2, 8), 2, 8)
    group = _group(q, _integer(q, "q_group_size", 128, -1, MAX_GROUP))
    return Quantization("awq", (_kept(q), Rule(_gptq(bits, group, 0))), text=True)


def auto_round(q: Config, _: Config) -> Quantization:
    """Integers as GPTQ without the group index, or small floats; `extra_config` gives single modules other bits.

    The LM head is quantized only where `extra_config` names it.
    """
    listed = [
        (module, {**q, **{name: value for name, value in _object(change, "extra_config").items() if value is not None}})
        for module, change in _single_modules(q.get("extra_config"), "extra_config")
    ]
    rules = _own_formats(((_auto_round(own), module) for module, own in listed), "extra_config")
    head = any(is_token_head(str(module)) for module, _ in listed)
    return Quantization("auto-round", (_kept(q), *rules, Rule(_auto_round(q))), text=True, head=head)


def _auto_round(q: Config) -> Packing | None:
    kind, bits = _word(q, "data_type") or "int", _integer(q, "bits", 4, 1, 32)
    if bits > 8:
        return None
    if kind == "int":
        return _gptq(bits, _group(q), 0)
    if kind.startswith("mx_fp") and bits in (4, 8):
        return MXFP4 if bits == 4 else MXFP8
    if kind == "fp" and bits == 8 and q.get("group_size") in (0, -1) and q.get("activation_scheme") != "static":
        return Packing("fp8", 8, (1, 0) if q.get("group_size") else (0, 0), F32)
    raise NotUnderstood(f"data_type {shown(kind)} with {bits} bits of auto-round")


# A JSON description of a 4-bit matrix takes about 150 bytes with double quantization, 91 without.
_NF4: Final = {
    False: {"scale_bits": 32, "matrix_bytes": 64 + 91},
    True: {"scale_bits": 8, "matrix_bytes": 64 + 1024 + 150},
}


ONCE_STACKED: Final = frozenset(
    {"aria", "aria_text", "dbrx", "gpt_oss", "granitemoe", "granitemoehybrid", "granitemoeshared", "jetmoe", "llama4",
     "llama4_text", "qwen3_vl_moe", "qwen3_vl_moe_text"}
)  # fmt: skip
"""Types whose experts the transformers library had in one tensor before its version 5, which has all experts so."""
LINEAR_OF_THEIR_OWN: Final = frozenset({"falcon", "RefinedWeb", "RefinedWebModel"})
"""Types with a linear module that is not PyTorch's; version 5 of the library leaves it alone."""


def bitsandbytes(q: Config, config: Config) -> Quantization:
    """8 bits: a float32 scale per row and a marker. 4 bits: a scale per 64 weights, code book, JSON description.

    Experts that lie in one tensor are no linear modules, which are all that is quantized. Unsloth takes them apart, and
    the code of repositories has them so.
    """
    if q.get("load_in_8bit") or q.get("_load_in_8bit"):
        packing = grouped("stored-int8", 8, 0, F32, matrix_bytes=1)
    else:
        kind = "nf4" if q.get("bnb_4bit_quant_type", "fp4") == "nf4" else "fp4"
        double = q.get("bnb_4bit_use_double_quant") is True
        packing = grouped(kind, 4, 64, nested=256 if double else 0, **_NF4[double])
    model_type, early = config.get("model_type"), _word(config, "transformers_version").startswith(("3.", "4."))
    apart = early and (model_type not in ONCE_STACKED or config.get("unsloth_fixed") is True)
    apart = apart or not (isinstance(model_type, str) and in_library(model_type))
    own = not early and model_type in LINEAR_OF_THEIR_OWN
    roles = () if own else {"linear", "experts"} if apart else {"linear"}
    return Quantization("bitsandbytes", (_kept(q), Rule(packing)), roles=frozenset(roles))


def chatglm(q: Config, _: Config) -> Quantization:
    """ChatGLM's own: the matrices of blocks, 4 or 8 bits with a float16 scale per row."""
    bits = _integer(q, "bits", None, 1, 8)
    if bits not in (4, 8) or q.get("embeddings"):
        raise NotUnderstood(f"quantization_bit {bits} of chatglm, or embeddings in it,")
    return Quantization("chatglm", (Rule(grouped(f"stored-int{bits}", bits, 0, 16)),), text=True)


def mxfp4(q: Config, _: Config) -> Quantization:
    """gpt-oss: only the experts, 4 bits with an 8-bit scale per 32 inputs."""
    return Quantization("mxfp4", (_kept(q), Rule(MXFP4)), roles=frozenset({"experts"}))


def bitnet(q: Config, _: Config) -> Quantization:
    """Four ternary weights per byte and a 16-bit scale per matrix; what is "online" is rounded as it is used.

    Published checkpoints are packed whether they are loaded as `bitlinear` or, unpacked, as `autobitlinear`.
    """
    if q.get("use_rms_norm"):
        raise UnsupportedArchitecture("quantization_config.use_rms_norm adds a norm to every linear module")
    online = q.get("linear_class") == "autobitlinear" and q.get("quantization_mode") == "online"
    packing = None if online else Packing("stored-ternary", 2, (0, 0), 16)
    return Quantization("bitnet", (_kept(q), Rule(packing)), conv1d=False)


def modelopt(q: Config, _: Config) -> Quantization:
    """NVIDIA's ModelOpt: one algorithm for all modules, or one each in `quantized_layers`."""
    inner = q.get("quantization")
    q = {**inner, **q} if isinstance(inner, Mapping) else q
    algorithm = _word(q, "quant_algo").upper()
    if algorithm == "MIXED_PRECISION":
        listed = _single_modules(q.get("quantized_layers"), "quantized_layers")
        own = ((_object(change, "quantized_layers"), module) for module, change in listed)
        formats = ((_modelopt(_word(said, "quant_algo").upper(), said), module) for said, module in own)
        rules = _own_formats(formats, "quantized_layers")
        return Quantization("modelopt", (_kept(q), *rules, Rule(None)), head=True)
    packing = _modelopt(algorithm, q)
    smoothed = [Rule(packing._replace(column_bytes=2), AFTER_NO_NORM)] if "AWQ" in algorithm else []
    return Quantization("modelopt", (_kept(q), *smoothed, Rule(packing)), head=True)


AFTER_NO_NORM: Final = ModuleNames(["o_proj", "down_proj"])
"""Modules whose inputs' scales ModelOpt's AWQ stores, 16 bits each; those of the others it multiplies into the norm."""


def _modelopt(algorithm: str, q: Config) -> Packing:
    """Scales of the inputs are float32, one per matrix; a second float32 scale per matrix with 4-bit floats."""
    if algorithm in ("NVFP4", "NVFP4_AWQ", "W4A8_NVFP4_FP8"):
        usual = 32 if algorithm == "W4A8_NVFP4_FP8" else 16
        return grouped("nvfp4", 4, _group(q, usual) or usual, FP8_SCALES, matrix_bytes=8)
    if algorithm == "W4A16_NVFP4":
        return grouped("nvfp4", 4, _group(q, 16) or 16, FP8_SCALES, matrix_bytes=4)
    if algorithm == "FP8":
        return Packing("fp8", 8, (0, 0), F32, matrix_bytes=4)
    if algorithm == "FP8_PER_CHANNEL_PER_TOKEN":
        return grouped("fp8", 8, 0, F32)
    if algorithm in ("FP8_PB_WO", "FP8_PB_REAL"):
        return Packing("fp8", 8, DEFAULT_BLOCK, F32)
    if algorithm == "MXFP8":
        return MXFP8
    if algorithm == "MXFP4":
        return MXFP4
    if algorithm in ("W4A16_AWQ", "INT4_AWQ", "W4A16", "W4A8_AWQ"):
        return grouped("stored-int4", 4, _group(q), F32, matrix_bytes=8 if algorithm == "W4A8_AWQ" else 0)
    if algorithm == "W8A16":
        return grouped("stored-int8", 8, 0, F32)
    if algorithm in ("INT8_SQ", "W8A8_SQ_PER_CHANNEL"):  # SmoothQuant: a 16-bit scale per input
        return grouped("stored-int8", 8, 0, F32, column_bytes=2, matrix_bytes=4)
    raise NotUnderstood(f"quant_algo {algorithm[:40]}")


def compressed_tensors(q: Config, _: Config) -> Quantization:
    """vLLM's: groups of modules, each with its own format; `ignore` comes first, then names, then classes."""
    inner, sparsity = q.get("quantization_config"), q.get("sparsity_config")
    q = {**q, **inner} if isinstance(inner, Mapping) else q
    if isinstance(sparsity, Mapping) and sparsity.get("format") not in (None, "dense"):
        raise NotUnderstood(f"sparsity_config.format {shown(sparsity['format'])}")
    named, classes, room = [], [], Room()
    for name, entry in _entries(q.get("config_groups"), "config_groups", MAX_RULES):
        group = _object(entry, f"config_groups.{name:.40}" if isinstance(name, str) else "config_groups")
        weights = group.get("weights")
        targets = names(group.get("targets"), "targets")
        packing = None if weights is None else _compressed(_object(weights, "weights"), group, q)
        if any(target in ("Linear", "LinearBase") for target in targets):
            classes.append(Rule(packing))
        modules = ModuleNames([t for t in targets if t.startswith("re:") or "." in t or t in TOKEN_HEADS], room)
        if modules or modules.not_understood:
            named.append(Rule(packing, modules))
    rules = (_kept(q), *named, *classes, Rule(None))
    return Quantization("compressed-tensors", rules, head=True, conv1d=False)


def _compressed(weights: Config, group: Config, q: Config) -> Packing:
    bits, kind = _integer(weights, "num_bits", 8, 1, 16), weights.get("type", "int")
    strategy = _word(weights, "strategy") or ("group" if weights.get("group_size") else "tensor")
    form = _word(group, "format") or _word(q, "format")
    if form == "marlin-24":
        raise NotUnderstood(f"format {shown(form)}, of sparse weights,")
    inputs = group.get("input_activations")
    static = 2 if isinstance(inputs, Mapping) and inputs.get("dynamic") is False else 0
    if kind == "float" and bits == 4:
        size = _group(weights, 32 if "mxfp4" in form else 16) or 16
        if "mxfp4" in form or size == 32:
            return MXFP4
        return grouped("nvfp4", 4, size, FP8_SCALES, matrix_bytes=4 + (4 if inputs else 0))
    if "mxfp8" in form and bits == 8:
        return MXFP8
    name = "fp8" if kind == "float" else f"stored-int{bits}"
    packed = "pack" in form or (kind == "int" and bits < 8)
    zero = 0 if weights.get("symmetric", True) else bits if packed else 8
    details = {
        "word": 4 if packed else 1,
        "matrix_bytes": (16 if packed else 0) + static,
        "column_bytes": 4 if weights.get("actorder") in ("group", True) else 0,
    }
    tile = {
        "tensor": (0, 0),
        "channel": (1, 0),
        "group": (1, _group(weights)),
        "tensor_group": (1, _group(weights)),
    }.get(strategy)
    if strategy == "block":
        tile = _tile(weights.get("block_structure"), "block_structure")
    if tile is None or (kind not in ("int", "float")) or (kind == "float" and bits != 8):
        raise NotUnderstood(f"strategy {shown(strategy)} with {bits}-bit {shown(kind)} weights")
    return Packing(name, 16 if packed and bits > 8 else bits, tile, 16 + zero, **details)


MLX_MODES: Final = {"affine": (64, 4), "mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}
"""Mode -> group size and bits where the config gives none."""
KEPT_BY_MLX: Final = Rule(
    None,
    ModuleNames(
        (
            *("vision_tower", "vision_model", "visual", "vision_encoder", "embed_vision"),
            *("audio_tower", "audio_model", "embed_audio"),
            *("multi_modal_projector", "connector", "mm_projector", "aligner", "img_projector"),
        )
    ),
)
"""What mlx-vlm leaves alone."""


def mlx(q: Config, _: Config) -> Quantization:
    """MLX: every matrix and embedding of the text model; an entry under a module's path has its own bits, or false."""
    common = {name: q[name] for name in ("mode", "bits", "group_size") if name in q}
    formats = (
        (_mlx({**common, **change}) if isinstance(change, Mapping) else None, module)
        for module, change in _single_modules(q, "quantization_config")
        if isinstance(change, Mapping) or change is False
    )
    rules = _own_formats(formats, "quantization_config")
    roles = frozenset({"linear", "experts", "embedding"})
    return Quantization("mlx", (*rules, KEPT_BY_MLX, Rule(_mlx(q))), roles=roles, head=True)


def _mlx(q: Config) -> Packing:
    """Affine groups have a scale and an offset of 16 bits each, the others a scale of 8 bits."""
    mode = _word(q, "mode") or "affine"
    if mode not in MLX_MODES:
        raise NotUnderstood(f"mode {shown(mode)} of MLX")
    group, bits = MLX_MODES[mode]
    group, bits = _group(q, group), _integer(q, "bits", bits, 2, 8)
    if mode == "affine":
        return grouped(f"stored-int{bits}", bits, group, 32)
    return grouped(mode, bits, group, FP8_SCALES)


def quark(q: Config, _: Config) -> Quantization:
    """AMD's Quark: one format for all modules, others for those that patterns in `layer_quant_config` name."""
    if q.get("layer_type_quant_config"):
        raise NotUnderstood("layer_type_quant_config of quark")
    field, room = "layer_quant_config", Room()
    own = [
        Rule(_quark(_object(change, field), field), ModuleNames(names([pattern], field), room))
        for pattern, change in _entries(q.get(field), field, MAX_RULES)
    ]
    every = _quark(_object(q.get("global_quant_config"), "global_quant_config"), "global_quant_config")
    return Quantization("quark", (_kept(q), *own, Rule(every)), head=True)


def _quark(said: Config, field: str) -> Packing | None:
    """The format of a matrix, by what is said of its weights, inputs and outputs; None where its weights stay.

    Weights can be quantized in two steps, or their scales be quantized again: either leaves a further float32 scale.
    Integers come with zero points, also where these are all zero.
    """
    weights = _specifications(said, "weight", field)
    steps = [one for one in weights if one.get("is_scale_quant") is not True]
    if not steps:
        return None
    weight, rescaled = steps[-1], len(weights) > len(steps)
    dtype, scheme = _word(weight, "dtype"), _word(weight, "qscheme")
    group = _group(weight, 32) if scheme == "per_group" else 0
    fixed = [one for side in ("input_tensors", "output_tensors") for one in _specifications(said, side, field)]
    whole = 4 * (len(weights) - 1) + sum([_quark_scale(one) // 8 for one in fixed if one.get("is_dynamic") is False])
    tile = (0, 0) if scheme == "per_tensor" else (1, group)
    if dtype in ("int4", "uint4") and scheme in ("per_channel", "per_group"):
        return Packing("stored-int4", 4, tile, _quark_scale(weight) + 4, matrix_bytes=whole)
    if dtype == "int8" and scheme == "per_tensor":
        return Packing("stored-int8", 8, tile, _quark_scale(weight), matrix_bytes=whole)
    if dtype == "fp8_e4m3" and scheme in ("per_tensor", "per_channel"):
        return Packing("fp8", 8, tile, _quark_scale(weight), matrix_bytes=whole)
    element = _word(weight, "mx_element_dtype") or "fp4" if dtype == "mx" else dtype
    if element in ("fp4", "fp6_e3m2", "fp6_e2m3") and scheme == "per_group":
        bits = int(element[2])
        if dtype == "mx" or weight.get("scale_format") in (None, "e8m0"):
            name = f"mxfp{bits}"
        else:
            name = "nvfp4" if rescaled and _word(weights[-1], "dtype") == "fp8_e4m3" else "fp4"
        return grouped(name, bits, group, FP8_SCALES, matrix_bytes=whole)
    raise NotUnderstood(f"dtype {shown(dtype)}, {shown(scheme)}, of quark")


def _specifications(said: Config, side: str, field: str) -> list[Config]:
    """What is said of weights, inputs or outputs, which may be nothing, one thing, or several steps."""
    found = said.get(side)
    found = found if isinstance(found, list | tuple) else [] if found is None else [found]
    if len(found) > MAX_STEPS:
        raise TooMuch(f"{field}.{side} with {len(found)} steps")
    return [_object(one, f"{field}.{side}") for one in found]


def _quark_scale(said: Config) -> int:
    """Bits of a scale, with its zero point where there is one: of integers it is float32, else as wide as weights."""
    if _word(said, "dtype") == "int8":
        return F32 + 8
    return F32 if said.get("scale_type") == "float32" else 16


METHODS: Final[Mapping[str, Callable[[Config, Config], Quantization]]] = {
    "fp8": fp8,
    "fbgemm_fp8": fbgemm_fp8,
    "gptq": gptq,
    "gptq_marlin": gptq,
    "awq": awq,
    "awq_marlin": awq,
    "auto-round": auto_round,
    "intel/auto-round": auto_round,
    "bitsandbytes": bitsandbytes,
    "chatglm": chatglm,
    "mxfp4": mxfp4,
    "bitnet": bitnet,
    "modelopt": modelopt,
    "modelopt_fp4": modelopt,
    "compressed-tensors": compressed_tensors,
    "mlx": mlx,
    "quark": quark,
}


class NotUnderstood(Exception):
    """A method, or something of it, that has no rule here."""


def quantization_of(config: Config) -> tuple[Config | None, bool]:
    """The config's own word on quantization, None where there is none; whether it is said of the text model alone."""
    nested = [config[name] for name in NESTED if name in config]
    for level in (config, *nested):
        if not level or not isinstance(level, Mapping):
            continue
        for field in ("quantization_config", "compression_config"):
            found = level.get(field)
            if found:
                if not isinstance(found, Mapping):
                    raise InvalidConfig(f"{field} is {shown(found)}; expected an object")
                return found, level is not config
    own = config.get("quantization")  # MLX; its newer files say it twice
    if isinstance(own, Mapping) and "bits" in own and "group_size" in own:
        return own, False
    if config.get("model_type") == "chatglm" and config.get("quantization_bit"):
        bits, embeddings = config["quantization_bit"], config.get("quantization_embeddings")
        return {"quant_method": "chatglm", "bits": bits, "embeddings": bool(embeddings)}, False
    return None, False


SIGNS: Final = {
    "quant_algo": "modelopt",
    "quantization": "modelopt",
    "config_groups": "compressed-tensors",
    "quantization_config": "compressed-tensors",
    "sparsity_config": "compressed-tensors",
    "desc_act": "gptq",
    "damp_percent": "gptq",
    "zero_point": "awq",
    "w_bit": "awq",
    "group_size": "mlx",
}
"""A field that only one method has -> the method, for configs that do not name it."""


def method_of(q: Config) -> str:
    """The name of the method in lower case; "unknown" where the config does not say."""
    method = q.get("quant_method")
    if isinstance(method, str) and method:
        return method.lower()[:40]
    if q.get("load_in_4bit") or q.get("load_in_8bit"):
        return "bitsandbytes"
    for field, found in SIGNS.items():
        if field in q:
            return found
    return "unknown"
