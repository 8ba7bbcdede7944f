"""KV cache sizes against what the transformers library keeps (tests/data/kv_cache.json, by tools/kv_cache_sizes.py)."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from fastewq import read_config
from fastewq.errors import InvalidConfig, InvalidPolicy
from fastewq.kv_cache import block_caches, cache_bytes

GOLDEN = json.loads((Path(__file__).parent / "data" / "kv_cache.json").read_text("utf-8"))


def of_blocks(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the library keeps for each block: several layers of its cache where tokens pass a block repeatedly."""
    blocks: dict[object, dict[str, Any]] = {}
    for i, layer in enumerate(layers):
        same = blocks.setdefault(layer.get("block", i), {**layer, "per_token": 0, "state": 0})
        same["per_token"] += layer["per_token"]
        same["state"] += layer["state"]
        assert same["tokens"] == layer["tokens"]
    return list(blocks.values())


@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_elements_are_those_the_library_keeps(name: str) -> None:
    case, tokens = GOLDEN["cases"][name], GOLDEN["tokens"]
    config = {"model_type": name.partition(" ")[0], **case["config"], "dtype": "float32"}
    stacks = [stack for stack in read_config(config).stacks if stack.role == "decoder"]
    caches = [cache for stack in stacks for cache in block_caches(config, stack)]
    layers = of_blocks(case["layers"])
    for block, layer in zip([block for stack in stacks for block in stack.blocks], layers, strict=True):
        assert layer.get("block", block.path) == block.path
    for cache, layer in zip(caches, layers, strict=True):
        assert cache.per_token == layer["per_token"]
        assert cache.source == layer.get("source", 0)
        assert cache.pooled * (tokens // cache.pool) == layer["pooled"]
        # Tokens that wait to be pooled are counted as a state; the library has none for them.
        assert cache.state == layer["state"] or cache.pooled
        # The library drops the token that leaves the window before it adds the next one; engines hold the whole window.
        if layer["tokens"]:
            assert cache.window == (None if layer["tokens"] == tokens else layer["tokens"] + 1)


@pytest.mark.parametrize("name", GOLDEN["runs"])
def test_models_that_read_more_than_text_keep_no_more_than_is_counted(name: str) -> None:
    config, elements = GOLDEN["runs"][name]["config"], GOLDEN["runs"][name]["elements"]
    counted = sum(cache_bytes(config, read_config(config), GOLDEN["tokens"], batch=1, bits=32)) // 4
    assert elements <= counted <= 1.1 * elements


def test_bytes() -> None:
    from fastewq.kv_cache import BlockCache

    assert BlockCache(per_token=10).bytes(context=100, batch=3, bits=16) == 3 * 10 * 100 * 2
    assert BlockCache(per_token=10, window=64).bytes(context=100, batch=3, bits=16) == 3 * 10 * 64 * 2
    assert BlockCache(per_token=10, window=64).bytes(context=50, batch=1, bits=16) == 10 * 50 * 2
    assert BlockCache(per_token=64).bytes(context=100, batch=1, bits=8) == 200 * (32 + 2)  # q8_0
    assert BlockCache(per_token=64).bytes(context=100, batch=2, bits=4) == 2 * 200 * (16 + 2)  # q4_0
    assert BlockCache(per_token=10, before=5, window=64).bytes(context=50, batch=1, bits=16) == 10 * 55 * 2
    assert BlockCache(source=10, least_source=70).bytes(context=50, batch=1, bits=16) == 10 * 70 * 2
    assert BlockCache(source=10, beside=70).bytes(context=50, batch=1, bits=16) == 10 * 120 * 2
    assert BlockCache(state=7).bytes(context=10**6, batch=2, bits=4) == 2 * 7 * 4


def cached(config: dict[str, Any], context: int = 1000) -> int:
    return sum(cache_bytes(config, read_config(config), context, 1, 16))


def test_blocks_that_run_twice_keep_both_runs() -> None:
    """facebook/MobileLLM: `layer_sharing` runs every block twice in a row."""
    config = {"model_type": "mobilellm", "hidden_size": 576, "num_attention_heads": 9, "num_hidden_layers": 30}
    config |= {"intermediate_size": 1536, "num_key_value_heads": 3, "vocab_size": 32000}
    assert cached({**config, "layer_sharing": True}) == 2 * cached(config) == 2 * 30 * 2 * 3 * 64 * 1000 * 2


def test_a_second_sequence_has_states_of_its_own() -> None:
    text = {"model_type": "qwen3_next"}
    assert cached({"model_type": "vibevoice", "text_config": text}) == 2 * cached(text)


def test_an_image_beside_the_text_makes_the_source_longer() -> None:
    """UDOP's cross attention reads 1,000 tokens of text and (224 / 16)**2 patches, counted with two more."""
    sizes = {"num_layers": 3, "num_decoder_layers": 1, "num_heads": 4, "d_kv": 16, "image_size": 224, "patch_size": 16}
    assert cached({"model_type": "udop", **sizes}) == 2 * 4 * 16 * (1000 + 1000 + 198) * 2


def test_a_cache_beyond_what_json_holds_is_refused(llama: dict[str, Any]) -> None:
    with pytest.raises(InvalidPolicy, match="KV cache of context 2147483647, batch 1048576"):
        cache_bytes(llama, read_config(llama), 2**31 - 1, 2**20, 16)


def test_lists_of_layers_and_nesting_are_bounded(llama: dict[str, Any]) -> None:
    config: dict[str, Any] = {"model_type": "inkling_text", "num_hidden_layers": 4}
    with pytest.raises(InvalidConfig, match="local_layer_ids"):
        cache_bytes(config | {"local_layer_ids": [999] * 100_000}, read_config(config), 1, 1, 16)
    config = dict(llama)
    config["text_config"] = config
    assert sum(cache_bytes(config, read_config(config), 4096, 1, 16)) > 0


def test_letters_for_the_layers_in_turn() -> None:
    config = {"model_type": "exaone4", "num_hidden_layers": 5, "sliding_window": 128, "sliding_window_pattern": "LLG"}
    [stack] = read_config(config).stacks
    assert [c.window for c in block_caches(config, stack)] == [128, 128, None, 128, 128]


def test_windows_are_those_of_the_stack_that_the_config_describes() -> None:
    config = {"model_type": "moshi"}
    text, depth = (stack for stack in read_config(config).stacks if stack.role == "decoder")
    assert {c.window for c in block_caches(config, text)} == {3000}
    assert {c.window for c in block_caches(config, depth)} == {None}


def test_what_is_not_known_is_full_attention(llama: dict[str, Any]) -> None:
    """A class without windows, a list that is too short, and names that are not known."""
    for config in (
        llama | {"sliding_window": 128, "sliding_window_pattern": 2},
        llama | {"sliding_window": -1, "attention_chunk_size": "none"},
        llama | {"sliding_window": 128, "layer_types": ["sliding_attention"]},
        llama | {"sliding_window": 128, "layer_types": [10**5000, "reference_sliding_attention"] * 16},
    ):
        [stack] = read_config(config).stacks
        assert {c.window for c in block_caches(config, stack)} == {None}


def test_a_window_that_is_switched_off_is_none() -> None:
    config = {"model_type": "qwen2", "sliding_window": 128, "layer_types": ["sliding_attention"] * 28,
              "num_hidden_layers": 28}  # fmt: skip
    on, *off = ({**config, "use_sliding_window": flag} for flag in (True, False, None))
    for other in off:
        assert sum(cache_bytes(on, read_config(on), 4096, 1, 16)) * 32 == sum(
            cache_bytes(other, read_config(other), 4096, 1, 16)
        )


@pytest.mark.parametrize("period", [None, 0])
def test_how_windows_alternate_is_not_asked_where_there_is_none(period: int | None) -> None:
    config = {"model_type": "exaone4", "sliding_window": None, "sliding_window_pattern": period}
    [stack] = read_config(config).stacks
    assert {c.window for c in block_caches(config, stack)} == {None}


def test_a_published_figure(llama: dict[str, Any]) -> None:
    """Llama 3.1 8B: 32 layers x 2 x 8 heads x 128 x 2 bytes = 128 KiB a token, 16 GiB for its 131,072 tokens."""
    assert sum(cache_bytes(llama, read_config(llama), 131_072, 1, 16)) == 16 * 2**30


def kept(config: dict[str, Any], tokens: int) -> list[int]:
    """Elements per block."""
    return [size // 2 for size in cache_bytes(config, read_config(config), tokens, batch=1, bits=16)]


def test_layers_with_other_numbers_of_heads_keep_other_sizes() -> None:
    """As modeling_baichuan.py and modeling_openelm.py have them; the sizes of OpenELM-270M are published."""
    sizes = {"hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 4, "vocab_size": 100}
    sizes |= {"num_attention_heads": 20, "num_key_value_heads": 2, "conv_window": 2, "sliding_window": 8192}
    windows = {"num_swa_attention_heads": 40, "num_swa_key_value_heads": 8, "sliding_window_layers": [1, 3]}
    baichuan = {"model_type": "baichuan_m1", **sizes, **windows}
    assert kept(baichuan, 1000) == [1000 * 2 * 2 * 256, 1000 * 2 * 8 * 128] * 2
    assert kept(baichuan, 100_000) == [100_000 * 2 * 2 * 256, 8192 * 2 * 8 * 128] * 2
    published = Path(__file__).parent / "architectures" / "configs" / "published.json"
    openelm = json.loads(published.read_text("utf-8"))["OpenELM-270M"]["config"]
    assert kept(openelm, 1000) == [1000 * 2 * 64 * heads for heads in openelm["num_kv_heads"]]


def windows(config: dict[str, Any]) -> list[int | None]:
    [stack] = read_config(config).stacks
    return [cache.window for cache in block_caches(config, stack)]


def test_windows_of_smallthinker_are_where_its_layout_has_a_one() -> None:
    """As modeling_smallthinker.py has them."""
    config = {"model_type": "smallthinker", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    config |= {"head_dim": 16, "num_hidden_layers": 4, "vocab_size": 100, "moe_ffn_hidden_size": 32}
    config |= {"moe_num_primary_experts": 4, "sliding_window_size": 128, "sliding_window_layout": [0, 1, 1, 1]}
    assert windows(config) == [None, 128, 128, 128]
    assert windows(config | {"sliding_window_layout": None}) == [None] * 4
    assert windows(config | {"sliding_window_size": None}) == [None] * 4
    with pytest.raises(InvalidConfig, match="sliding_window_layout"):
        windows(config | {"sliding_window_layout": [1]})


def test_jet_nemotron_keeps_states_windows_and_all() -> None:
    """As jet_block.py has it: a matrix of keys by values for each head, and the last values of the convolution."""
    config = {"model_type": "jet_nemotron", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    config |= {
        "num_hidden_layers": 3,
        "intermediate_size": 96,
        "vocab_size": 100,
        "layer_types": ["jet", "swa", "attn"],
    }
    jet = {"num_heads": 6, "head_dim": 8, "expand_v": 2.0, "conv_size": 4}
    config |= {"efficient_attention_config": {"jet": jet, "swa": {"window_size": 100}}}
    state = 6 * 8 * 16 + 4 * 6 * 16
    assert kept(config, 1000) == [state * 32 // 16, 100 * 2 * 2 * 16, 1000 * 2 * 2 * 16]


def test_windows_of_dots3_note_are_512_where_its_config_has_none() -> None:
    config = {"model_type": "dots3_note_text", "num_hidden_layers": 7}
    assert windows(config) == [None, None, 512, 512, 512, None, 512]
    assert windows(config | {"sliding_window_size": 64}) == [None, None, 64, 64, 64, None, 64]
    assert windows(config | {"sliding_window": 32, "sliding_window_size": 64})[2] == 32


def test_blocks_that_run_again_over_a_window_keep_it() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "vocab_size": 100, "head_dim": 8}
    once = {"model_type": "iquestcoder", **sizes, "num_attention_heads": 4, "num_key_value_heads": 2}
    (single,) = kept(once, 1000)
    assert kept({**once, "model_type": "iquestloopcoder"}, 1000) == [single // 1000 * (1000 + 64)]


def test_keys_that_are_repeated_before_they_are_kept_count_for_every_head() -> None:
    config = {"model_type": "falcon_ocr", "dim": 768, "n_layers": 2, "n_heads": 16, "head_dim": 64, "n_kv_heads": 8}
    config |= {"ffn_dim": 2304, "channel_size": 3, "spatial_patch_size": 16, "temporal_patch_size": 1}
    assert kept({**config, "vocab_size": 100}, 1000) == [1000 * 2 * 16 * 64] * 2


def test_encoders_keep_nothing() -> None:
    config = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 64, "num_attention_heads": 4}
    assert set(cache_bytes(config, read_config(config), 512, 1, 16)) == {0}


def test_cross_attention_counts_the_source_too() -> None:
    config = {"model_type": "bart", "architectures": ["BartForConditionalGeneration"], "d_model": 64,
              "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
              "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "vocab_size": 64}  # fmt: skip
    assert cache_bytes(config, read_config(config), 10, 1, 16) == [0, 0] + [2 * 2 * 64 * 10 * 2] * 3


def test_a_decoder_that_is_the_whole_model_has_no_source() -> None:
    """BART as a language model; halves of other models are given theirs."""
    sizes = {"d_model": 64, "decoder_layers": 3, "decoder_attention_heads": 4, "decoder_ffn_dim": 96, "vocab_size": 64}
    alone = {"model_type": "bart", "architectures": ["BartForCausalLM"], **sizes}
    assert kept(alone, 10) == [2 * 64 * 10] * 3
    assert kept({"model_type": "trocr", "architectures": ["TrOCRForCausalLM"], **sizes}, 10) == [2 * 2 * 64 * 10] * 3


@pytest.mark.parametrize("model_type", ["openai-gpt", "timesfm", "timesfm2_5", "openai_privacy_filter"])
def test_what_generates_without_a_cache_keeps_none(model_type: str) -> None:
    assert cached({"model_type": model_type}) == 0


@pytest.mark.parametrize(("name", "stack"), [("BlipForQuestionAnswering", "text"), ("BarkModel", "fine_acoustics")])
def test_stacks_that_run_over_all_tokens_once_keep_nothing(name: str, stack: str) -> None:
    config = {"model_type": name[:4].lower(), "architectures": [name]}
    by_stack = {stack.name: block_caches(config, stack) for stack in read_config(config).stacks}
    assert not any(cache.per_token or cache.source for cache in by_stack[stack])
    assert any(cache.per_token for cache in chain(*by_stack.values()))


WRITERS = {
    "bert": {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96},
    "gpt2": {"n_layer": 3, "n_embd": 64, "n_head": 4},
}


@pytest.mark.parametrize("model_type", WRITERS)
def test_a_writer_behind_another_model_is_a_decoder_and_keeps_the_source_too(model_type: str) -> None:
    reads = {"is_decoder": True, "add_cross_attention": True}
    decoder = {"model_type": model_type, **WRITERS[model_type], **reads}
    encoder = {"model_type": "vit", "num_hidden_layers": 2}
    config = {"model_type": "vision-encoder-decoder", "encoder": encoder, "decoder": decoder}
    architecture = read_config(config)
    assert [stack.role for stack in architecture.stacks] == ["vision", "decoder"]
    assert cache_bytes(config, architecture, 300, 1, 16) == [0, 0] + [2 * 2 * 64 * 300 * 2] * 3
    image = 14 * 14 + 2  # is read whole, however little is written
    assert cache_bytes(config, architecture, 10, 1, 16) == [0, 0] + [2 * 64 * (10 + image) * 2] * 3


@pytest.mark.parametrize("name", [
    "meta-llama--Llama-4-Scout-17B-16E-Instruct", "deepseek-ai--DeepSeek-V3",
    "Qwen--Qwen3.5-27B", "nvidia--Nemotron-H-56B-Base-8K", "openai--gpt-oss-20b", "zai-org--GLM-5",
    "Qwen--Qwen3-VL-8B-Instruct", "XiaomiMiMo--MiMo-V2-Flash", "MiniMaxAI--MiniMax-M2.5",
    "deepseek-ai--DeepSeek-V4-Flash", "stepfun-ai--Step-3.7-Flash",
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
])  # fmt: skip
def test_real_configs_grow_with_the_context(name: str, real_configs: Path) -> None:
    config = json.loads((real_configs / f"{name}.json").read_text("utf-8"))
    architecture = read_config(config)
    short, long = (cache_bytes(config, architecture, tokens, 1, 16) for tokens in (4096, 65_536))
    assert len(short) == sum(len(stack.blocks) for stack in architecture.stacks)
    assert 0 < sum(short) < sum(long)


def test_a_nested_type_that_the_model_does_not_have_is_no_defect(llama: dict[str, Any]) -> None:
    """Falcon OCR keeps more heads than its matrices show. A Llama with a text_config of this type does not."""
    sizes = [
        cache_bytes(config, read_config(config), 4096, 1, 16)
        for config in (
            llama,
            {**llama, "text_config": {"model_type": "falcon_ocr"}},
            {**llama, "text_config": {"model_type": "mistral", "sliding_window": 8}},
        )
    ]
    assert sizes[0] == sizes[1] == sizes[2]


def published(name: str) -> dict[str, Any]:
    path = Path(__file__).parent / "architectures" / "configs" / "published.json"
    return json.loads(path.read_text("utf-8"))[name]["config"]


def test_the_second_half_of_phi_4_mini_flash_reads_the_first() -> None:
    """As modeling_phi4flash.py has it: only the last layer of attention of its own looks back without a window."""
    own = 2 * 20 * 64
    state = 2 * (16 + 4) * 2 * 2560  # in elements of 16 bits
    first = [state, own * 512] * 8 + [state, own * 10_000]
    assert kept(published("Phi-4-mini-flash"), 10_000) == first + [0] * 14


def test_hymba_keeps_wide_values_of_the_first_layer_of_a_group_and_a_state_in_each() -> None:
    """As modeling_hymba.py has it: 5 heads of 64 keys and 128 values, and 128 tokens before the context."""
    state = 2 * (16 + 4) * 2 * 1600  # in elements of 16 bits
    first = 5 * (64 + 128) * (10_000 + 128)
    own = [1, *(1, 0) * 7, 1, 1, 0, 0, *(1, 0) * 6, 1]
    assert kept(published("Hymba-1.5B"), 10_000) == [state + first * keeps for keeps in own]


def test_linear_attention_of_models_outside_the_library() -> None:
    """RWKV-7 as in flash-linear-attention: a matrix per head, and the last input of both halves."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 100}
    ranks = dict.fromkeys(("decay_low_rank_dim", "v_low_rank_dim", "a_low_rank_dim", "gate_low_rank_dim"), 16)
    rwkv = {"model_type": "rwkv7", **sizes, **ranks, "head_dim": 64}
    assert kept(rwkv, 1000) == [2 * (128 * 64 + 2 * 128)] * 2
    for older in ("rwkv5", "rwkv6"):
        assert kept({"model_type": older, **sizes, "head_size": 64}, 1000) == [2 * (128 * 64 + 2 * 128)] * 2
    flash = {"model_type": "rwkv6", "architectures": ["RWKV6ForCausalLM"], **sizes, "num_heads": 2, "expand_k": 0.5}
    flash |= {"expand_v": 1.0, "proj_low_rank_dim": 8, "gate_low_rank_dim": 8}
    assert kept(flash, 1000) == [2 * (128 * 32 + 2 * 128)] * 2
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "layer_group_size": 2}
    experts = {"num_experts": 2, "moe_intermediate_size": 32, "num_shared_experts": 1, "first_k_dense_replace": 1}
    ring = {"model_type": "bailing_moe_linear", **sizes, **heads, **experts}
    assert kept(ring, 1000) == [2 * 4 * 32 * 32, 1000 * 2 * 2 * 32]


def test_encoders_that_hear_while_the_decoder_writes_keep_their_windows() -> None:
    config: dict[str, Any] = {"model_type": "kyutai_speech_to_text"}
    by_stack = {}
    for stack in read_config(config).stacks:
        by_stack[stack.name] = [c.bytes(10_000, 1, 16) for c in block_caches(config, stack)]
    assert by_stack["codec_encoder"] == [250 * 2 * 512 * 2] * 8
    assert set(by_stack["codec_decoder"]) == {0}
    config = {"model_type": "nemotron_asr_streaming"}
    [stack] = read_config(config).stacks
    kernels = 1024 * 9  # of the convolution, whose inputs are kept at 32 bits
    assert {c.bytes(10_000, 1, 16) for c in block_caches(config, stack)} == {71 * 2 * 1024 * 2 + kernels * 4}


def test_guided_models_write_two_sequences() -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96}
    text = {"model_type": "qwen2", **sizes, "num_key_value_heads": 2, "vocab_size": 100}
    config = {"model_type": "vibevoice", "text_config": text}
    [stack] = (stack for stack in read_config(config).stacks if stack.role == "decoder")
    assert [c.per_token for c in block_caches(config, stack)] == [2 * 2 * 2 * 16] * 2
