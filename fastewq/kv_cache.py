"""What a model keeps per block while it generates: keys and values, compressed latents, or a recurrent state.

Counted as serving engines store it (vLLM, SGLang, llama.cpp):
 - grouped attention: keys and values of every key-value head, for each token of the context;
 - a sliding window or chunk: at most that many tokens;
 - latent attention (DeepSeek): the compressed latent and the rotary key, once per token;
 - linear attention and state-space blocks: the last inputs of the convolution and the state, whatever the context.
   The state is counted at 32 bits per element, which is how engines keep it for accuracy;
 - cross attention: keys and values of the source as well, counted with the same context.

Sizes come from the shapes of the block's projections wherever these tell them, so that layers that differ are counted
as they are. What only the config knows (windows, state sizes) is read from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastewq.architecture import Architecture, Layout, Stack
from fastewq.architectures.fields import Fields
from fastewq.errors import InvalidConfig

STATE_BITS: Final = 32
KEYS: Final = ("k_proj", "key", "k", "wk")
VALUES: Final = ("v_proj", "value", "v", "wv")
LATENT: Final = ("kv_a_proj_with_mqa", "kv_a_proj")
WINDOWED: Final = frozenset({"sliding_attention", "chunked_attention", "local_attention", "local"})


@dataclass(frozen=True, slots=True)
class BlockCache:
    """Elements per token (up to `window` tokens, where one is set) and elements of a state of fixed size."""

    per_token: int = 0
    window: int | None = None
    state: int = 0

    def bytes(self, context: int, batch: int, bits: int) -> int:
        tokens = context if self.window is None else min(context, self.window)
        return batch * (-(-self.per_token * tokens * bits // 8) + self.state * STATE_BITS // 8)


def cache_bytes(
    config: Mapping[str, Any], architecture: Architecture, context: int, batch: int, bits: int
) -> list[int]:
    """Bytes of cache of every block, stack after stack. Encoder stacks and vision towers keep none."""
    return [
        cache.bytes(context, batch, bits)
        for stack in architecture.stacks
        for cache in (
            block_caches(decoder_fields(config, len(stack.blocks)), stack)
            if stack.role == "decoder"
            else [BlockCache()] * len(stack.blocks)
        )
    ]


def decoder_fields(config: Mapping[str, Any], blocks: int) -> Fields:
    """The level of the config that describes the text decoder: the top, or the nested config with its layers."""
    top = Fields(config, str(config["model_type"]))
    for name in ("text_config", "llm_config", "language_config", "decoder", "thinker_config"):
        nested = config.get(name)
        if isinstance(nested, Mapping):
            return decoder_fields({"model_type": top.model_type, **nested}, blocks)
    return top


def block_caches(f: Fields, stack: Stack) -> list[BlockCache]:
    """The cache of every block of a generating stack. Raises InvalidConfig where a field it needs is not usable."""
    windows = _windows(f, len(stack.blocks))
    known: dict[tuple[Layout, int | None], BlockCache] = {}
    caches = []
    for layout, window in zip(stack.blocks.layouts, windows, strict=True):
        key = (layout, window)
        if key not in known:
            known[key] = _cache(f, stack, layout, window)
        caches.append(known[key])
    return caches


def _cache(f: Fields, stack: Stack, layout: Layout, window: int | None) -> BlockCache:
    if layout.mixer == "attention":
        return BlockCache(_attention(stack, layout), window)
    if layout.mixer == "hybrid":
        return BlockCache(_attention(stack, layout), window, _state_space(f, layout))
    if layout.mixer == "linear_attention":
        return BlockCache(state=_delta_state(f))
    if layout.mixer == "state_space":
        return BlockCache(state=_state_space(f, layout))
    if layout.mixer == "conv":
        return BlockCache(state=f["hidden_size"] * f.size("conv_L_cache", 3))
    return BlockCache()


def _attention(stack: Stack, layout: Layout) -> int:
    """Elements per token: the latent where there is one, else the rows of all key and value projections."""
    matrices = {t.name.removesuffix(".weight"): t.oriented for t in layout.tensors if t.role == "linear"}
    latent = [shape[-2] for name, shape in matrices.items() if name.rpartition(".")[2] in LATENT]
    if latent:
        return sum(latent)
    keys = {name: shape[-2] for name, shape in matrices.items() if name.rpartition(".")[2] in KEYS}
    values = [shape[-2] for name, shape in matrices.items() if name.rpartition(".")[2] in VALUES]
    if keys:
        # Without a value projection the keys serve as values, but both are cached.
        return sum(keys.values()) + (sum(values) or sum(keys.values()))
    return 2 * stack.kv_heads * stack.head_dim


def _windows(f: Fields, layers: int) -> Sequence[int | None]:
    """The attention window of each layer, None for full attention."""
    window = f.optional_size("sliding_window") if _has(f, "sliding_window") else None
    chunk = f.optional_size("attention_chunk_size") if _has(f, "attention_chunk_size") else None
    types = f.value("layer_types", None)
    if isinstance(types, list | tuple) and len(types) >= layers:
        sizes = {"chunked_attention": chunk or window}
        return [sizes.get(str(kind), window) if str(kind) in WINDOWED else None for kind in types[:layers]]
    sliding = f.value("hybrid_layer_pattern", None)
    if window and isinstance(sliding, list) and len(sliding) >= layers:
        return [window if flag else None for flag in sliding[:layers]]
    if f.model_type == "llama4_text" and chunk:
        window = chunk
    if window is None or f.value("use_sliding_window", True) is False:
        return [None] * layers
    period = f.value("sliding_window_pattern", None) or FULL_EVERY.get(f.model_type)
    if isinstance(period, int) and not isinstance(period, bool) and period > 1:
        return [None if (i + 1) % period == 0 else window for i in range(layers)]
    first = f.value("max_window_layers", None)
    if isinstance(first, int) and f.model_type.startswith("qwen"):
        return [window if i >= first else None for i in range(layers)]
    return [window if f.model_type in ALWAYS_WINDOWED else None] * layers


FULL_EVERY: Final = {
    "gemma2": 2,
    "gpt_oss": 2,
    "cohere2": 4,
    "exaone4": 4,
    "olmo3": 4,
    "llama4_text": 4,
    "gemma3_text": 6,
}
"""Every how many layers attention is full, where the config names no `layer_types`."""

ALWAYS_WINDOWED: Final = frozenset({"mistral", "mixtral", "phi3", "starcoder2", "phimoe"})


def _has(f: Fields, name: str) -> bool:
    return f.value(name, None) is not None


def _delta_state(f: Fields) -> int:
    """Gated delta rule (Qwen3-Next, Qwen3.5): last inputs of the convolution and one matrix per value head."""
    keys, values = f["linear_num_key_heads"], f["linear_num_value_heads"]
    key_dim, value_dim = f["linear_key_head_dim"], f["linear_value_head_dim"]
    channels = 2 * keys * key_dim + values * value_dim
    return channels * f["linear_conv_kernel_dim"] + values * key_dim * value_dim


def _state_space(f: Fields, layout: Layout) -> int:
    """Mamba 1 and 2: last inputs of the convolution and the state; sizes from the tensors where they show."""
    shapes = {t.name.rpartition("mixer.")[2]: t.shape for t in layout.tensors}
    conv = next((s for name, s in shapes.items() if name.endswith("conv1d.weight")), None)
    decay = next((s for name, s in shapes.items() if name.endswith("A_log")), None)
    if conv is None or decay is None:
        raise InvalidConfig(
            f"{f.model_type}: the state of a {layout.kind} block is not known; expected conv1d and A_log"
        )
    channels, kernel = conv[0], conv[-1]
    if len(decay) == 2:
        return channels * kernel + decay[0] * decay[1]
    names = (("mamba_head_dim", "mamba_d_head", "head_dim"), ("ssm_state_size", "mamba_d_state", "state_size"))
    head_dim, state = (next((f[name] for name in options if _has(f, name)), 0) for options in names)
    if not head_dim or not state:
        raise InvalidConfig(
            f"{f.where(names[1][0])} or {names[0][0]} is missing; the state of a Mamba 2 block needs both"
        )
    return channels * kernel + decay[0] * head_dim * state
