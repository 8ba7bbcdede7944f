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
 - cross attention: keys and values of the source as well, which is as long as the context where its length is neither
   fixed nor that of a sound (`fastewq.cache_tokens`);
 - encoders that hear while the decoder writes: their windows.

Sizes come from the shapes of the block's projections wherever these tell them, so that layers that differ are counted
as they are. What only the config knows (windows, state sizes) is read from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from math import prod
from typing import Any, Final

from fastewq.architecture import Architecture, Layout, Stack
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import head_dim
from fastewq.cache_tokens import (
    GUIDED,
    STREAMED,
    UNCACHED,
    is_written_alone,
    least_source,
    tokens_before,
    tokens_beside,
    tokens_heard,
)
from fastewq.errors import InvalidConfig, InvalidPolicy
from fastewq.windows import first_size, layer_windows

STATE_BITS: Final = 32
SCALED: Final = 32
"""Elements of 8 or 4 bits with one 16-bit scale, as in llama.cpp's q8_0 and q4_0; MLX has two for 64. Caches in fp8 do
without: they are counted a sixteenth too large."""
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
FUSED: Final = frozenset(
    {"W_pack", "Wqkv", "att_proj", "c_attn", "qkv", "qkv_proj", "qkv_w", "query_key_value", "wqkv"}
)
"""One matrix of queries, keys and values, before that of the outputs."""


@dataclass(frozen=True, slots=True)
class BlockCache:
    """Elements per token (up to `window` tokens, where one is set), per token of the source that cross attention reads,
    per `pool` tokens, and of a state of fixed size. There are `before` tokens besides; the source has `beside` more
    than the context, and at least `least_source`."""

    per_token: int = 0
    source: int = 0
    window: int | None = None
    state: int = 0
    pooled: int = 0
    pool: int = 1
    before: int = 0
    beside: int = 0
    least_source: int = 0

    def bytes(self, context: int, batch: int, bits: int) -> int:
        tokens = context + self.before
        tokens = tokens if self.window is None else min(tokens, self.window)
        source = max(context + self.beside, self.least_source)
        elements = self.per_token * tokens + self.source * source + self.pooled * (context // self.pool)
        scales = -(-elements // SCALED) * 2 if bits < 16 else 0
        return batch * (-(-elements * bits // 8) + scales + self.state * STATE_BITS // 8)


def cache_bytes(
    config: Mapping[str, Any], architecture: Architecture, context: int, batch: int, bits: int
) -> list[int]:
    """Bytes of cache of every block, stack after stack.

    Raises InvalidConfig where a field it needs is not usable, InvalidPolicy for more than MAX_CACHE bytes in all.
    """
    caches: Iterable[BlockCache] = chain.from_iterable(block_caches(config, stack) for stack in architecture.stacks)
    if len(architecture.stacks) == 1 and is_written_alone(Fields(config, str(config["model_type"]))):
        caches = (replace(cache, source=0) for cache in caches)
    found = [cache.bytes(context, batch, bits) for cache in caches]
    if sum(found) > MAX_CACHE:
        asked = f"context {context}, batch {batch}"
        raise InvalidPolicy(f"the KV cache of {asked} takes {sum(found)} bytes; expected at most {MAX_CACHE}")
    return found


def decoder_fields(f: Fields) -> Fields:
    """The level of the config that describes the text decoder: the top, or the nested config with its layers."""
    for _ in range(MAX_NESTED):
        nested = next((name for name in DECODER_CONFIGS if f.nests(name) and not (f.classes and f.unread(name))), None)
        if nested is None:
            break
        f = f.sub(nested, f.model_type)
    return f


MAX_NESTED: Final = 8
"""Levels followed: a dict may hold itself."""


DECODER_CONFIGS: Final = (
    *("text_config", "llm_config", "language_config", "decoder", "thinker_config"),
    "transformer_layer_config",  # of drafting models, which have no model_type
)


def block_caches(config: Mapping[str, Any], stack: Stack) -> list[BlockCache]:
    """The cache of every block of a stack; encoders and towers keep none, but for those that hear while the decoder
    writes. Raises InvalidConfig where a field it needs is not usable."""
    top = Fields(config, str(config.get("model_type", "")))
    if stack.role == "decoder" and (top.model_type, stack.name) not in UNCACHED:
        return _decoder_caches(top, stack)
    if top.model_type == "xlnet":  # keeps what came into each block, and makes keys and values of it anew
        return [BlockCache(per_token=stack.width)] * len(stack.blocks)
    streamed = STREAMED.get(top.model_type)
    if streamed is None or stack.name != streamed.stack:
        return [BlockCache()] * len(stack.blocks)
    f, rate = top.sub(streamed.config), top[streamed.rate]
    window = first_size(f, "sliding_window")
    caches = [_cache(f, stack, layout, window and -(-window // rate)) for layout in stack.blocks.layouts]
    return [replace(cache, per_token=cache.per_token * rate) for cache in caches]


def _decoder_caches(top: Fields, stack: Stack) -> list[BlockCache]:
    f = decoder_fields(top)
    layers, sequences, heard = len(stack.blocks), _sequences(top, f, stack), tokens_heard(top)
    tokens = {"before": tokens_before(top), "beside": tokens_beside(top), "least_source": least_source(top)}
    # What else a model writes with (codes of sounds, say) has a config of its own, which is not looked for.
    windows = layer_windows(f, layers) if stack.name == "decoder" else [None] * layers
    known: dict[tuple[Layout, int | None], BlockCache] = {}
    caches = []
    for layout, window in zip(stack.blocks.layouts, windows, strict=True):
        key = (layout, window)
        if key not in known:
            cache = _cache(f, stack, layout, window)
            known[key] = replace(
                cache,
                per_token=cache.per_token * sequences,
                source=cache.source * sequences * heard,
                state=cache.state * sequences,
                pooled=cache.pooled * sequences,
                **tokens,
            )
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
    if f.model_type in ("t5gemma2_decoder", "musicgen_melody_decoder"):  # the same matrices read the source
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
    own = {name: shape for name, shape in matrices.items() if name not in crossing}
    if any(name.rpartition(".")[2] in KEYS for name in matrices):
        return _keys_and_values(own) + indexed, _keys_and_values(crossing)
    if any(name.endswith(".q_proj") for name in matrices):
        return indexed, 0
    # Of GPT-2's kind: one matrix for the keys and values of the source.
    read = sum(shape[-2] for name, shape in crossing.items() if name.endswith(".c_attn"))
    if "mamba.x_proj.0" in own:  # Hymba: beside keys and values, the same matrix makes queries and two wide inputs
        return own["mamba.in_proj"][-2] - 2 * own["mamba.out_proj"][-1] - stack.width, 0
    for (name, fused), (_, output) in pairwise(own.items()):
        if name.rpartition(".")[2] in FUSED:  # as many queries as the output projection has inputs
            return fused[-2] - output[-1] + indexed, read
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


def _sequences(top: Fields, f: Fields, stack: Stack) -> int:
    """How many sequences of keys and values there are for one of the batch: of a token that runs through the blocks
    several times each time has its own."""
    if top.model_type in GUIDED:
        return 2
    if top.model_type == "rag":  # reads each document on its own
        return top["n_docs"]
    if f.model_type == "ouro":
        return f.size("total_ut_steps", 4)
    if f.model_type == "mobilellm":
        return 2 if f.flag("layer_sharing", False) else 1
    if f.model_type == "hrm_text":
        return f["H_cycles"] * (f["L_cycles"] if stack.name == "low" else 1)
    return 1


def _linear_state(f: Fields, width: int, layout: Layout) -> int:
    """One matrix per head, keys by values: as many elements as all values times the width of a key."""
    shapes = {t.name: t.oriented for t in layout.tensors}
    if "attention.time_faaaa" in shapes:  # RWKV 5 and 6: as RWKV 7 below
        return width * shapes["attention.time_faaaa"][-1] + 2 * width
    if "attention.time_decay" in shapes:  # RWKV 4: the last input of both halves; numerator, denominator, maximum
        return 2 * width + 3 * shapes["attention.time_decay"][0]
    values = next(shape[-1] for name, shape in shapes.items() if name.endswith(OUTPUTS))
    if "attn.bonus" in shapes:  # the same of flash-linear-attention, whose keys and values can be narrower
        return values * shapes["attn.bonus"][-1] + 2 * width
    if "mlstm_layer.out_proj.weight" in shapes:  # xLSTM: beside the matrix a vector of keys and a maximum
        rows = sum(shapes.get(f"mlstm_layer.{name}.weight", (0,))[0] for name in XLSTM)
        keys, heads = rows // 2 - values, f["num_heads"]
        return values * keys // heads + keys + heads
    decay = next((shape for name, shape in shapes.items() if name.endswith(".A_log")), None)
    if decay is None:  # lightning attention; RWKV-7 also keeps the last input of both halves
        return values * head_dim(f) + (2 * width if "attn.x_r" in shapes else 0)
    # Delta rules: a convolution runs over queries, keys and values; keys may have fewer heads than values.
    kernels = shapes.get("self_attn.dynamic_conv1d.kernel_generator.w2.bias")
    if kernels is not None:  # Jet-Nemotron: of the values alone, so that their last ones are kept as well
        return values * shapes["self_attn.q_proj.weight"][0] // prod(decay) + kernels[0]
    channels = sum(shape[0] for name, shape in shapes.items() if name.endswith("conv1d.weight"))
    return values * ((channels - values) // 2) // (f.optional_size("linear_num_key_heads") or prod(decay))


OUTPUTS: Final = (".out_proj.weight", ".o_proj.weight", "attention.dense.weight")
"""The last is Ring's."""
XLSTM: Final = ("q", "k", "v", "ogate_preact", "qkv_opreact")
"""Queries, keys, values and the gate of the outputs: four matrices, or all in one."""


def _state_space(f: Fields, layout: Layout) -> int:
    """Mamba 1: a state per channel. Mamba 2: one per head, whose size only the config knows."""
    if not any(t.role == "conv" for t in layout.tensors):  # Phi-4-mini-flash: a gate on what an earlier layer gave out
        return 0
    shapes = {t.name: t.shape for t in layout.tensors}
    for name, shape in shapes.items():
        if name.endswith(".rg_lru.recurrent_param"):
            return shape[0]
        if name.endswith((".A_log", ".A_log.0")) and len(shape) > 1:
            return prod(shape)
        if name.endswith(".A_log"):
            channels = shapes[f"{name.removesuffix('A_log')}out_proj.weight"][-1]
            size = first_size(f, *STATE_SIZES)
            if size is None:
                raise InvalidConfig(f"{f.where(STATE_SIZES[0])} is missing; the state of a Mamba 2 block needs it")
            return channels * size
    raise InvalidConfig(f"{f.model_type}: the state of a {layout.kind} block is not known; expected A_log")


STATE_SIZES: Final = ("ssm_state_size", "mamba_d_state", "state_size")
