"""Tensors as a checkpoint stores them -> the model's own tensors, blocks and architecture. Pure.

Quantized checkpoints store integers that pack several weights, and scales beside them. Here packed tensors are counted
by the weights they hold, and scales belong to the weight they scale.
"""

from __future__ import annotations

import json
import operator
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, Final

from fastewq.analysis.blocks import StoredStack, group_blocks, is_buffer
from fastewq.analysis.tensors import BITS, TensorInfo
from fastewq.architecture import Architecture, Blocks, FeedForward, Layout, Mixer, Outside, Role, Stack, Tensor
from fastewq.config import bounded, read_config
from fastewq.errors import InvalidCheckpoint, UnsupportedArchitecture
from fastewq.quantized import quantization_of, with_stored
from fastewq.stored_bytes import DTYPES, EXPERT, filed, measured

NAMES_LISTED: Final = 5
_FLOAT8: Final = {"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}
_NARROW: Final = frozenset({"U8", "I8", "I32", "U32", *_FLOAT8, "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2"})

# What quantizers store beside a weight. The first group is the module (or the tensor) that the scale belongs to.
_AUXILIARY: Final = re.compile(
    r"^(.+?)(?:"
    r"\.(?:qzeros|scales|biases|g_idx|SCB|weight_format)"  # GPTQ, AWQ, MLX; bitsandbytes 8-bit
    r"|\.weight\.(?:absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+)"  # bitsandbytes 4-bit
    # fp8, compressed-tensors, ModelOpt, Quark
    r"|\.weight_(?:scale|scale_inv|scale_2|zero_point|zero_point_2|shape|g_idx|global_scale)"
    r"|\.(?:input|output|activation)_(?:scale|scale_2|global_scale|zero_point)|\.pre_quant_scale"
    r"|_scales?(?:_inv)?"  # MXFP4: X_blocks, X_scales
    r")$"
)
_CACHE_SCALE: Final = re.compile(r"\.(?:[kvq]|prob)_(?:proj\.)?(?:output_)?(?:scale|zero_point)$")


def logical_tensors(stored: Iterable[TensorInfo], quantization: Any = None) -> list[TensorInfo]:
    """The model's own tensors: packed ones unpacked, scales and other helpers merged into what they help.

    `quantization` is the config's `quantization_config`. Each result keeps the stored dtype; its `nbytes` include its
    helpers'. Constants of the code (causal masks, rotary frequencies) are left out.
    """
    settings = quantization if isinstance(quantization, Mapping) else {}
    tensors = {t.name: t for t in stored}
    helpers: dict[str, int] = {}
    own: list[tuple[str, TensorInfo]] = []
    for tensor in tensors.values():
        carrier = _carrier_of(tensor, tensors)
        if carrier is not None:
            helpers[carrier] = helpers.get(carrier, 0) + tensor.nbytes
        elif not is_buffer(tensor) and not (settings and _CACHE_SCALE.search(tensor.name)):
            own.append((tensor.name, tensor))
    return [_unpacked(t, tensors, settings, helpers.get(name, 0)) for name, t in own]


def _carrier_of(tensor: TensorInfo, tensors: Mapping[str, TensorInfo]) -> str | None:
    """The name of the quantized weight that a tensor helps, or None for a tensor in its own right."""
    match = _AUXILIARY.match(tensor.name)
    if match is None:
        return None
    for suffix in (".qweight", ".weight_packed", ".weight", "_blocks", ""):
        name = match[1] + suffix
        if name != tensor.name and name in tensors and tensors[name].dtype in _NARROW:
            return name
    return None


def _unpacked(
    tensor: TensorInfo, tensors: Mapping[str, TensorInfo], settings: Mapping[str, Any], helpers: int
) -> TensorInfo:
    name, shape = tensor.name, tensor.shape
    if name.endswith(".qweight") and tensor.dtype == "I32" and len(shape) == 2:
        module = name.removesuffix(".qweight")
        bits, awq = _integers(module, shape, tensors) or (_bits(settings, name), settings.get("quant_method") == "awq")
        shape = (shape[1] * 32 // bits, shape[0]) if awq else (shape[1], shape[0] * 32 // bits)
        name = f"{module}.weight"
    elif name.endswith(".weight_packed") and shape:
        bits, carrier = (_bits(settings, name), 32) if tensor.dtype == "I32" else (4, 8)
        shape = (*shape[:-1], shape[-1] * carrier // bits)
        name = name.removesuffix("_packed")
    elif name.endswith("_blocks") and tensor.dtype == "U8" and name.removesuffix("_blocks") + "_scales" in tensors:
        # MXFP4: (..., groups, 16 bytes of two values each): https://huggingface.co/openai/gpt-oss-20b
        shape = (*shape[:-2], prod(shape[-2:]) * 2)
        name = name.removesuffix("_blocks")
    elif name.endswith(".weight") and tensor.dtype == "U32" and helpers and shape:  # MLX packs along the inputs
        shape = (*shape[:-1], shape[-1] * 32 // _bits(settings, name))
    elif name.endswith(".weight") and tensor.dtype == "I32" and helpers and len(shape) == 2:
        # Quark packs eight values of 4 bits: with scales in groups along the outputs, which come last, else the inputs.
        grouped = f"{name}_scale" in tensors and len(tensors[f"{name}_scale"].shape) == 2
        shape = (shape[1] * 8, shape[0]) if grouped else (shape[0], shape[1] * 8)
    elif name.endswith(".weight") and tensor.dtype == "U8" and helpers and shape:
        ternary = settings.get("quant_method") == "bitnet"  # four rows in one
        shape = (4 * shape[0], *shape[1:]) if ternary else _unpacked_bytes(name, shape, tensors)
    return TensorInfo(name, shape, tensor.dtype, tensor.file, tensor.offset, tensor.nbytes + helpers)


def _integers(module: str, packed: tuple[int, ...], tensors: Mapping[str, TensorInfo]) -> tuple[int, bool] | None:
    """Bits per weight of a matrix, and whether it is packed along the outputs as by AWQ, which come last, and not along
    the inputs as by GPTQ (https://github.com/casper-hansen/AutoAWQ); None where the zero points do not tell.

    These are packed along the outputs by both.
    """
    zeros, scales = tensors.get(f"{module}.qzeros"), tensors.get(f"{module}.scales")
    if zeros is None or scales is None or len(zeros.shape) != 2 or len(scales.shape) != 2 or not scales.shape[1]:
        return None
    bits = zeros.shape[1] * 32 // scales.shape[1]
    return (bits, packed[1] == zeros.shape[1]) if 1 <= bits <= 8 else None


def _unpacked_bytes(name: str, shape: tuple[int, ...], tensors: Mapping[str, TensorInfo]) -> tuple[int, ...]:
    """The shape of a matrix of small values packed into bytes."""
    if f"{name}.absmax" in tensors:  # bitsandbytes: one column of bytes
        return (shape[0] * 2, 1)
    scale = tensors.get(f"{name}_scale")
    scales = scale.shape if scale is not None else ()
    if len(scales) == len(shape) == 2 and scales[0] == 2 * shape[0]:  # ModelOpt's integers: two rows in one
        return (2 * shape[0], shape[1])
    if scales and shape[-1] * 8 == scales[-1] * 32 * 6:  # Quark's 6-bit floats, whose scales are for 32 inputs each
        return (*shape[:-1], scales[-1] * 32)
    return (*shape[:-1], shape[-1] * 2)


def _bits(settings: Mapping[str, Any], name: str) -> int:
    """Bits per weight of a packed tensor, by the config; 4 where it does not say."""
    own = settings.get(name.removesuffix(".weight"))
    bits = (own.get("bits") if isinstance(own, Mapping) else None) or settings.get("bits") or settings.get("w_bit")
    groups = settings.get("config_groups")
    if bits is None and isinstance(groups, Mapping):
        weights = [group.get("weights") for group in groups.values() if isinstance(group, Mapping)]
        found = {w.get("num_bits") for w in weights if isinstance(w, Mapping)}
        bits = found.pop() if len(found) == 1 else None
    bits = 4 if bits is None else bits
    if type(bits) is not int or not 1 <= bits <= 8:
        raise InvalidCheckpoint(f"tensor {name}: the config says {bits!r:.40} bits per weight; expected 1 to 8")
    return bits


def dump_tensors(tensors: Iterable[TensorInfo]) -> str:
    """Names, shapes and dtypes as compact JSON, for `load_tensors`: {dtype: [[name, shape], ...]}."""
    by_dtype: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append((tensor.name, tensor.shape))
    return json.dumps(by_dtype, separators=(",", ":"))


def load_tensors(text: str) -> list[TensorInfo]:
    """The tensors that `dump_tensors` wrote, without their place. Raises InvalidCheckpoint for any other text."""
    try:
        found = [
            TensorInfo(str(name), tuple(map(operator.index, shape)), dtype, "", 0, prod(shape) * BITS[dtype] // 8)
            for dtype, members in json.loads(text).items()
            for name, shape in members
        ]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise InvalidCheckpoint(f"a stored list of tensors cannot be read: {error!r:.200}") from None
    return found


# ---- config against headers ----


def dumped_architecture(config: Mapping[str, Any], dumped: str) -> tuple[Architecture, bool]:
    """`exact_architecture` for tensors as `dump_tensors` wrote them."""
    return exact_architecture(config, logical_tensors(load_tensors(dumped), config.get("quantization_config")))


def exact_architecture(config: Mapping[str, Any], tensors: Sequence[TensorInfo]) -> tuple[Architecture, bool]:
    """The architecture that a config and the model's own tensors (`logical_tensors`) describe; whether they agree.

    Where they differ, and for an architecture the config reader does not know, it is the tensors', with the reasons
    among its warnings. Raises InvalidConfig, InvalidCheckpoint.
    """
    try:
        architecture = read_config(config)
    except UnsupportedArchitecture as error:
        return bounded(with_stored(architecture_from(tensors, config, (error.message,)), config)), False
    corrected = bounded(reconciled(architecture, tensors, config))
    return corrected, corrected is architecture


def reconciled(architecture: Architecture, tensors: Sequence[TensorInfo], config: Mapping[str, Any]) -> Architecture:
    """The architecture by the config, corrected where the stored tensors say otherwise; a warning for each correction.

    The very same object comes back where the two agree to the last parameter. Blocks that differ are replaced as a
    whole, since one wrong size says that the config's reading cannot be trusted.
    """
    stacks = group_blocks(tensors)
    blocks, outside, expected = _block_differences(architecture, tensors, stacks)
    if blocks:
        return with_stored(architecture_from(tensors, config, blocks), config)
    found = _outside_difference(architecture, outside, expected)
    changed = replace(architecture, outside=_outside(outside)) if found else architecture
    if architecture.quantization is not None:
        changed, sizes = _with_bytes_of(stacks, outside, changed)
        found += sizes
    if quantization_of(config)[0] is None and (narrow := sorted({t.dtype for t in tensors if _is_packed(t)})):
        found.append(
            f"matrices are stored as {', '.join(narrow)}, but the config has no quantization_config; "
            "bytes are those before quantization"
        )
    stored = _main_dtype(tensors)
    if stored and stored != architecture.dtype and not isinstance(config.get("quantization_config"), Mapping):
        found.append(f"dtype is {architecture.dtype} by the config; most weights are stored as {stored}")
        changed = replace(changed, dtype=stored)
    return replace(changed, exact=False, warnings=(*architecture.warnings, *found)) if found else architecture


def _block_differences(
    architecture: Architecture, tensors: Sequence[TensorInfo], stacks: Sequence[StoredStack]
) -> tuple[list[str], list[TensorInfo], int]:
    """Differences in words; the stored tensors outside all blocks; how many parameters the config expects there."""
    found = []
    inside: set[str] = set()
    for stack in architecture.stacks:
        if not stack.blocks:
            continue
        path = _list_of(stack.blocks[0].path)
        partner = stored_stack(stack, stacks)
        if partner is None:
            found.append(f"{path}: the config describes {len(stack.blocks)} blocks; the files hold no such list")
            continue
        inside |= {t.name for block in partner.blocks for t in block.tensors}
        found += _stack_differences(path, stack, partner)
    outside = [t for t in tensors if t.name not in inside]
    if architecture.tied_embeddings:
        outside = [t for t in outside if not t.name.endswith(("lm_head.weight", "embed_out.weight"))]
    return found, outside, sum(group.parameters for group in architecture.outside)


def _with_bytes_of(
    partners: Sequence[StoredStack], outside: Sequence[TensorInfo], architecture: Architecture
) -> tuple[Architecture, list[str]]:
    """The architecture with the bytes that its quantized matrices have in the files; where that differs, in words."""
    stacks, found = [], []
    for stack in architecture.stacks:
        partner = stored_stack(stack, partners) if stack.blocks else None
        if partner is not None:
            stack, words = _stack_with_bytes_of(partner, stack)
            found += words
        stacks.append(stack)
    groups = []
    files = filed(outside, "")
    for group in architecture.outside:
        own = {
            t.name: files[name] for t in group.tensors for name in files if _same_path(name, f"{group.path}.{t.name}")
        }
        changed = measured(group.tensors, own)
        if changed is not None:
            found.append(f"{group.path}: {_sizes(group.tensors, changed)}")
        groups.append(group if changed is None else group._replace(tensors=changed))
    return replace(architecture, stacks=tuple(stacks), outside=tuple(groups)), found


def _stack_with_bytes_of(partner: StoredStack, stack: Stack) -> tuple[Stack, list[str]]:
    layouts: dict[tuple[Any, ...], Layout] = {}
    own: list[Layout] = []
    differing: dict[str, list[int]] = {}
    for block, stored in zip(stack.blocks, partner.blocks, strict=True):
        files = filed(stored.tensors, f"{stored.path}.")
        changed = measured(block.layout.tensors, files)
        if changed is not None:
            differing.setdefault(_sizes(block.layout.tensors, changed), []).append(block.index)
        key = (id(block.layout), changed)
        own.append(layouts.setdefault(key, block.layout if changed is None else replace(block.layout, tensors=changed)))
    path = _list_of(stack.blocks[0].path)
    words = [f"{path}, blocks {_runs(indices)}: {said}" for said, indices in differing.items()]
    return stack._replace(blocks=Blocks(stack.blocks.paths, tuple(own))) if words else stack, words


def _sizes(described: Sequence[Tensor], stored: Sequence[Tensor]) -> str:
    by_config, in_files = (sum(t.stored.bytes for t in side if t.stored) for side in (described, stored))
    bare = [one.name for one, other in zip(described, stored, strict=True) if one.stored and not other.stored]
    words = f"quantized matrices have {by_config:,} bytes by the config, {in_files:,} in the files"
    return f"{words} (not quantized there: {_listed(bare)})" if bare else words


def stored_stack(stack: Stack, stacks: Iterable[StoredStack]) -> StoredStack | None:
    """Which of a checkpoint's stacks a stack of the architecture is; an outer wrapper's name makes no difference."""
    path = _list_of(stack.blocks[0].path)
    return next((s for s in stacks if _same_path(path, _list_of(s.blocks[0].path))), None)


def _outside_difference(architecture: Architecture, outside: Sequence[TensorInfo], expected: int) -> list[str]:
    stored = sum(t.parameters for t in outside)
    if expected == stored:
        return []
    described = [f"{group.path}.{t.name}" for group in architecture.outside for t in group.tensors]
    here = [t.name for t in outside if not any(_same_path(t.name, d) for d in described)]
    there = [d for d in described if not any(_same_path(t.name, d) for t in outside)]
    words = f"outside the blocks: {expected:,} parameters by the config, {stored:,} in the files"
    return [words + _only(here, there)]


def _only(here: Sequence[str], there: Sequence[str]) -> str:
    sides = (("files", here), ("config", there))
    names = "; ".join(f"only in the {side}: {_listed(names)}" for side, names in sides if names)
    return f" ({names})" if names else ""


def _stack_differences(path: str, stack: Stack, partner: StoredStack) -> list[str]:
    found = []
    if len(stack.blocks) != len(partner.blocks):
        found.append(f"{path}: {len(stack.blocks)} blocks by the config, {len(partner.blocks)} in the files")
    groups: dict[str, list[int]] = {}
    for block, stored in zip(stack.blocks, partner.blocks, strict=False):
        count = sum(t.parameters for t in stored.tensors)
        if count != block.layout.parameters:
            here = {EXPERT.sub(r"\1", t.name.removeprefix(f"{stored.path}.")) for t in stored.tensors}
            there = {t.name for t in block.layout.tensors}
            words = f"{block.layout.parameters:,} parameters each by the config, {count:,} in the files"
            words += _only(sorted(here - there), sorted(there - here))
            groups.setdefault(words, []).append(block.index)
    return found + [f"{path}, blocks {_runs(indices)}: {words}" for words, indices in groups.items()]


def _main_dtype(tensors: Iterable[TensorInfo]) -> str | None:
    """The dtype, by its name in a config, that holds most parameters which are not quantized; None without any."""
    counts: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.dtype in DTYPES:
            counts[tensor.dtype] += tensor.parameters
    return DTYPES[counts.most_common(1)[0][0]] if counts else None


def _is_packed(tensor: TensorInfo) -> bool:
    return tensor.dtype in _NARROW and len(tensor.shape) > 1


def _same_path(one: str, other: str) -> bool:
    """Whether two module paths are the same apart from an outer wrapper: layers.0 and model.layers.0."""
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")


def _list_of(block_path: str) -> str:
    return block_path.rsplit(".", 1)[0]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_LISTED} more" if len(names) > NAMES_LISTED else ""
    return ", ".join(names[:NAMES_LISTED]) + more


def _runs(indices: Sequence[int]) -> str:
    """0, 1, 2, 5 -> 0-2, 5"""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1] = [runs[-1][0], index]
        else:
            runs.append([index])
    return ", ".join("-".join(map(str, run)) for run in runs)


# ---- an architecture from headers alone ----


def architecture_from(tensors: Sequence[TensorInfo], config: Mapping[str, Any], reasons: Sequence[str]) -> Architecture:
    """Blocks found from tensor names, with exact counts; what names cannot say is taken from the config's usual keys.

    Raises InvalidCheckpoint where no list of blocks is found.
    """
    stored = group_blocks(tensors)
    if not stored:
        raise InvalidCheckpoint(f"no list of transformer blocks among {len(tensors)} tensors such as {tensors[0].name}")
    inside = {t.name for stack in stored for block in stack.blocks for t in block.tensors}
    layouts: dict[tuple[Tensor, ...], Layout] = {}
    stacks = tuple(_stack(stack, config, layouts) for stack in stored)
    text = next((config[key] for key in ("text_config", "llm_config") if isinstance(config.get(key), Mapping)), config)
    note = "blocks and parameters are those of the safetensors headers; kinds of blocks are guessed from tensor names"
    dtype = config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    return Architecture(
        model_type=str(config.get("model_type") or "unknown")[:80],
        dtype=_main_dtype(tensors) or (dtype if isinstance(dtype, str) else "bfloat16"),
        stacks=stacks,
        outside=_outside([t for t in tensors if t.name not in inside]),
        vocab_size=_size(text, "vocab_size"),
        tied_embeddings=not any(t.name.endswith(("lm_head.weight", "embed_out.weight")) for t in tensors),
        exact=False,
        warnings=(*reasons, note),
    )


def _stack(stored: StoredStack, config: Mapping[str, Any], layouts: dict[tuple[Tensor, ...], Layout]) -> Stack:
    found = []
    for block in stored.blocks:
        own = _stacked_experts([(t.name.removeprefix(f"{block.path}."), t.shape) for t in block.tensors])
        if own not in layouts:
            layouts[own] = Layout(_mixer(own), _feed_forward(own), own)
        found.append(layouts[own])
    part = {"vision": "vision_config", "audio": "audio_config"}.get(stored.name, "text_config")
    own_config = config.get(part)
    f = own_config if isinstance(own_config, Mapping) else config
    role = next((role for role in ("vision", "audio", "encoder") if stored.name.startswith(role)), "decoder")
    heads = _size(f, "num_attention_heads") or _size(f, "num_heads") or _size(f, "n_head")
    width = _width(found[0]) or _size(f, "hidden_size")
    return Stack(
        name=stored.name,
        role=role,  # type: ignore[arg-type]
        blocks=Blocks(tuple(block.path for block in stored.blocks), tuple(found)),
        width=width,
        heads=heads,
        kv_heads=_size(f, "num_key_value_heads") or heads,
        head_dim=_size(f, "head_dim") or (width // heads if heads else 0),
        ffn_width=_size(f, "intermediate_size"),
        experts=max(map(_experts, found), default=0),
        norm="layer" if any(t.name.endswith("norm.bias") for t in found[0].tensors) else "rms",
    )


def _stacked_experts(tensors: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[Tensor, ...]:
    """Tensors of one block; experts stored one by one (experts.7.up_proj.weight) become one stacked tensor each."""
    groups: dict[str, list[tuple[int, ...]]] = {}
    for name, shape in tensors:
        groups.setdefault(EXPERT.sub(r"\1", name), []).append(shape)
    own = []
    for name, shapes in groups.items():
        single = len(shapes) == 1 or len(set(shapes)) > 1
        own += [Tensor(name, s, _role(name, s)) for s in (shapes if single else [(len(shapes), *shapes[0])])]
    return tuple(own)


def _role(name: str, shape: tuple[int, ...]) -> Role:
    if len(shape) < 2:
        return "bias" if name.endswith("bias") else "norm" if "norm" in name or "ln_" in name else "other"
    if re.search(r"(^|\.)(router|gate)(\.\w+)?$", name):
        return "router"
    if "experts" in name and len(shape) == 3:
        return "experts"
    if len(shape) > 2:
        return "conv"
    return "bias" if name.endswith("bias") else "embedding" if "embed" in name else "linear"


def _mixer(tensors: Sequence[Tensor]) -> Mixer:
    names = " ".join(t.name for t in tensors)
    if re.search(r"linear_attn|delta_net|gated_delta", names):
        return "linear_attention"
    if re.search(r"mamba|ssm|A_log|mixer\.conv1d", names):
        return "state_space"
    if re.search(r"attn|attention|q_proj|qkv|query|SelfAttention", names):
        return "attention"
    return "none"


def _feed_forward(tensors: Sequence[Tensor]) -> FeedForward:
    names = " ".join(t.name for t in tensors)
    if re.search(r"experts|block_sparse_moe", names):
        return "experts"
    dense = r"mlp|ffn|ff\.|fc1|feed_forward|up_proj|gate_proj|intermediate|DenseReluDense|w1|wi"
    return "dense" if re.search(dense, names) else "none"


def _experts(layout: Layout) -> int:
    return max((t.shape[0] for t in layout.tensors if t.role == "experts"), default=0)


def _width(layout: Layout) -> int:
    """Features per token between blocks: the size most norms have."""
    sizes = Counter(t.shape[0] for t in layout.tensors if t.role == "norm" and len(t.shape) == 1)
    return max(sizes, key=lambda size: (sizes[size], size)) if sizes else 0


def _outside(tensors: Sequence[TensorInfo]) -> tuple[Outside, ...]:
    groups: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        path, _, name = tensor.name.rpartition(".")
        groups.setdefault(path or name, []).append(Tensor(name, tensor.shape, _role(tensor.name, tensor.shape)))
    return tuple(Outside(path, tuple(members)) for path, members in groups.items())


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if type(value) is int and 0 <= value < 1 << 40 else 0
