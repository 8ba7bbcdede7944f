"""What a model keeps per block while it generates: keys and values, compressed latents, or a recurrent state.

Counted as serving engines store it (vLLM, SGLang, llama.cpp):
 - grouped attention: keys and values of every key-value head, for each token of the context;
 - a sliding window or chunk (`fastewq.windows`): at most that many tokens;
 - layers that reuse the keys and values of another: nothing;
 - latent attention (DeepSeek): the compressed latent and the rotary key, once per token;
 - an indexer that chooses tokens (DeepSeek V3.2, GLM-5): its own keys as well;
 - tokens pooled into one entry (DeepSeek V4): the window, and an entry for every so many tokens;
 - linear attention and state-space blocks: the last inputs of the convolution and the state, whatever the context.
   The state is counted at 32 bits per element, which is how engines keep it for accuracy;
 - blocks that a token runs through several times: keys and values of each time;
 - cross attention: keys and values of the source as well, counted with the same context.

Sizes come from the shapes of the block's projections wherever these tell them, so that layers that differ are counted
as they are. What only the config knows (windows, state sizes) is read from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final

from fastewq.architecture import Architecture, Layout, Stack
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import head_dim
from fastewq.errors import InvalidConfig, InvalidPolicy
from fastewq.windows import first_size, layer_windows

STATE_BITS: Final = 32
MAX_CACHE: Final = 2**53
"""Bytes, which every reader of JSON holds exactly."""
KEYS: Final = ("k_proj", "key", "k", "wk", "key_proj")
VALUES: Final = ("v_proj", "value", "v", "wv", "value_proj")
INDEX_KEYS: Final = (".indexer.k_norm.weight", ".indexer.k_layernorm.weight")
INDEX_GATE: Final = ".indexer.index_kpool_compress_gate"
POOL: Final = "position_bias"
"""Of the compressors of DeepSeek V4: a row for each of the tokens that become one entry."""
CROSS: Final = ("cross", "encoder", "EncDec")
"""In the names of the attention that reads the source."""
LATENT: Final = ("kv_a_proj_with_mqa", "kv_a_proj")
FUSED: Final = ("self_attn.W_pack", "attn.qkv_proj")
"""Baichuan-M1's and OpenELM's matrix of queries, keys and values: their layers have different numbers of heads."""


@dataclass(frozen=True, slots=True)
class BlockCache:
    """Elements per token (up to `window` tokens, where one is set), per token of the source that cross attention reads,
    per `pool` tokens, and of a state of fixed size."""

    per_token: int = 0
    source: int = 0
    window: int | None = None
    state: int = 0
    pooled: int = 0
    pool: int = 1

    def bytes(self, context: int, batch: int, bits: int) -> int:
        tokens = context if self.window is None else min(context, self.window)
        elements = self.per_token * tokens + self.source * context + self.pooled * (context // self.pool)
        return batch * (-(-elements * bits // 8) + self.state * STATE_BITS // 8)


def cache_bytes(
    config: Mapping[str, Any], architecture: Architecture, context: int, batch: int, bits: int
) -> list[int]:
    """Bytes of cache of every block, stack after stack. Encoder stacks and vision towers keep none.

    Raises InvalidConfig where a field it needs is not usable, InvalidPolicy for more than MAX_CACHE bytes in all.
    """
    f = decoder_fields(config)
    found = [
        cache.bytes(context, batch, bits)
        for stack in architecture.stacks
        for cache in (block_caches(f, stack) if stack.role == "decoder" else [BlockCache()] * len(stack.blocks))
    ]
    if sum(found) > MAX_CACHE:
        asked = f"context {context}, batch {batch}"
        raise InvalidPolicy(f"the KV cache of {asked} takes {sum(found)} bytes; expected at most {MAX_CACHE}")
    return found


def decoder_fields(config: Mapping[str, Any]) -> Fields:
    """The level of the config that describes the text decoder: the top, or the nested config with its layers."""
    f = Fields(config, str(config["model_type"]))
    for _ in range(MAX_NESTED):
        nested = next((name for name in DECODER_CONFIGS if f.nests(name)), None)
        if nested is None:
            break
        f = f.sub(nested, f.model_type)
    return f


MAX_NESTED: Final = 8
"""Levels followed: a dict may hold itself."""


DECODER_CONFIGS: Final = ("text_config", "llm_config", "language_config", "decoder", "thinker_config")


def block_caches(f: Fields, stack: Stack) -> list[BlockCache]:
    """The cache of every block of a generating stack. Raises InvalidConfig where a field it needs is not usable."""
    layers, passes = len(stack.blocks), _passes(f, stack)
    # What else a model writes with (codes of sounds, say) has a config of its own, which is not looked for.
    windows = layer_windows(f, layers) if stack.name == "decoder" else [None] * layers
    known: dict[tuple[Layout, int | None], BlockCache] = {}
    caches = []
    for layout, window in zip(stack.blocks.layouts, windows, strict=True):
        key = (layout, window)
        if key not in known:
            cache = _cache(f, stack, layout, window)
            known[key] = replace(cache, per_token=cache.per_token * passes)
        caches.append(known[key])
    return caches


def _cache(f: Fields, stack: Stack, layout: Layout, window: int | None) -> BlockCache:
    """Of an attention block also what some carry from the last tokens: inputs of convolutions, delayed values."""
    if layout.mixer == "none":
        return BlockCache()
    state = sum(prod(t.shape) for t in layout.tensors if t.role == "conv" and t.shape[1:-1] in ((1,), ()))
    if layout.mixer == "linear_attention":
        state += _linear_state(f, stack.width, layout)
    elif layout.mixer in ("state_space", "hybrid"):
        state += _state_space(f, layout)
    if layout.mixer not in ("attention", "hybrid"):
        return BlockCache(state=state)
    state += sum(t.shape[0] for t in layout.tensors if t.name.endswith("v_proj_delayed.weight"))
    pools = {t.name.removesuffix(POOL): t.shape for t in layout.tensors if t.name.endswith(POOL)}
    pooled = sum(t.shape[0] for t in layout.tensors if t.name.removesuffix("kv_norm.weight") in pools)
    state += 2 * sum(map(prod, pools.values()))  # values and weights of the tokens that wait to be pooled
    own, source = _attention(stack, layout)
    if f.model_type == "t5gemma2_decoder":  # the same matrices make keys and values of the source
        source = own
    if f.model_type == "iquestloopcoder":  # a second run of the blocks looks back over a window, kept in 16 bits
        state += own * f.size("loop_window_size", 64) // 2
    outputs = [t.oriented[-1] for t in layout.tensors if t.name == "attention.wo.weight"]
    if outputs and f.model_type in ("falcon_ocr", "falcon_perception"):  # kept once for every head of the queries
        own = 2 * outputs[0]
    return BlockCache(own, source, window, state, pooled, min(pools.values(), default=(1,))[0])


def _attention(stack: Stack, layout: Layout) -> tuple[int, int]:
    """Elements per token of the sequence and of the source: the rows of all key and value projections, or the latent.

    A block with queries alone reuses the keys and values of another (Gemma 3n and 4) and keeps none.
    """
    indexed = _index_keys(layout)
    matrices = {
        t.name.removesuffix(".weight"): t.oriented
        for t in layout.tensors
        if t.role == "linear" and ".indexer." not in t.name
    }
    latent = [shape[-2] for name, shape in matrices.items() if name.rpartition(".")[2] in LATENT]
    if latent:
        return sum(latent) + indexed, 0
    crossing = {name: shape for name, shape in matrices.items() if any(word in name for word in CROSS)}
    if any(name.rpartition(".")[2] in KEYS for name in matrices):
        own = {name: shape for name, shape in matrices.items() if name not in crossing}
        return _keys_and_values(own) + indexed, _keys_and_values(crossing)
    if any(name.endswith(".q_proj") for name in matrices):
        return indexed, 0
    for fused in FUSED:
        if fused in matrices:  # there are as many queries as inputs of the output projection
            outputs = next(shape for name, shape in matrices.items() if name.endswith(("o_proj", "out_proj")))
            return matrices[fused][-2] - outputs[-1] + indexed, 0
    # Of GPT-2's kind: one matrix for queries, keys and values, and one for the keys and values of the source.
    read = sum(shape[-2] for name, shape in crossing.items() if name.endswith(".c_attn"))
    return 2 * stack.kv_heads * stack.head_dim + indexed, read


def _index_keys(layout: Layout) -> int:
    """Elements per token of an indexer: its keys; where it pools them (GLM 5.3) also their weights and a mark."""
    keys = sum(t.shape[0] for t in layout.tensors if t.name.endswith(INDEX_KEYS))
    return keys + sum(t.shape[0] + 1 for t in layout.tensors if t.name.endswith(INDEX_GATE))


def _keys_and_values(matrices: Mapping[str, tuple[int, ...]]) -> int:
    """Rows of all key and value projections. Without one of values the keys serve as values, but both are cached."""
    keys, values = (
        sum(shape[-2] for name, shape in matrices.items() if name.rpartition(".")[2] in names)
        for names in (KEYS, VALUES)
    )
    return keys + (values or keys)


def _passes(f: Fields, stack: Stack) -> int:
    """How often a token runs through the blocks, each time with keys and values of its own."""
    if f.model_type == "ouro":
        return f.size("total_ut_steps", 4)
    if f.model_type == "hrm_text":
        return f["H_cycles"] * (f["L_cycles"] if stack.name == "low" else 1)
    return 1


def _linear_state(f: Fields, width: int, layout: Layout) -> int:
    """One matrix per head, keys by values: as many elements as all values times the width of a key."""
    shapes = {t.name: t.oriented for t in layout.tensors}
    if "attention.time_decay" in shapes:  # RWKV: the last input of both halves; numerator, denominator, maximum
        return 2 * width + 3 * shapes["attention.time_decay"][0]
    values = next(shape[-1] for name, shape in shapes.items() if name.endswith((".out_proj.weight", ".o_proj.weight")))
    if "mlstm_layer.out_proj.weight" in shapes:  # xLSTM: beside the matrix a vector of keys and a maximum
        rows = sum(shapes.get(f"mlstm_layer.{name}.weight", (0,))[0] for name in XLSTM)
        keys, heads = rows // 2 - values, f["num_heads"]
        return values * keys // heads + keys + heads
    decay = next((shape for name, shape in shapes.items() if name.endswith(".A_log")), None)
    if decay is None:  # lightning attention
        return values * head_dim(f)
    # Delta rules: a convolution runs over queries, keys and values; keys may have fewer heads than values.
    channels = sum(shape[0] for name, shape in shapes.items() if name.endswith("conv1d.weight"))
    return values * ((channels - values) // 2) // (f.optional_size("linear_num_key_heads") or prod(decay))


XLSTM: Final = ("q", "k", "v", "ogate_preact", "qkv_opreact")
"""Queries, keys, values and the gate of the outputs: four matrices, or all in one."""


def _state_space(f: Fields, layout: Layout) -> int:
    """Mamba 1: a state per channel. Mamba 2: one per head, whose size only the config knows."""
    shapes = {t.name: t.shape for t in layout.tensors}
    for name, shape in shapes.items():
        if name.endswith(".rg_lru.recurrent_param"):
            return shape[0]
        if name.endswith(".A_log") and len(shape) > 1:
            return prod(shape)
        if name.endswith(".A_log"):
            channels = shapes[f"{name.removesuffix('A_log')}out_proj.weight"][-1]
            size = first_size(f, *STATE_SIZES)
            if size is None:
                raise InvalidConfig(f"{f.where(STATE_SIZES[0])} is missing; the state of a Mamba 2 block needs it")
            return channels * size
    raise InvalidConfig(f"{f.model_type}: the state of a {layout.kind} block is not known; expected A_log")


STATE_SIZES: Final = ("ssm_state_size", "mamba_d_state", "state_size")
