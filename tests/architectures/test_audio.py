"""Speech models: stacks that listen, and options that add or drop tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastewq.architecture import Architecture
from fastewq.config import read_config
from fastewq.errors import InvalidConfig, UnsupportedArchitecture


def read(model_type: str, name: str, **fields: Any) -> Architecture:
    return read_config({"model_type": model_type, "architectures": [name], **fields})


def test_whisper_listens_and_writes() -> None:
    listens, writes = read("whisper", "WhisperForConditionalGeneration").stacks
    assert (listens.role, writes.role) == ("audio", "decoder")
    assert listens.blocks[0].path == "model.encoder.layers.0"
    assert writes.blocks[3].path == "model.decoder.layers.3"


def test_published_size_of_whisper_tiny() -> None:
    assert read("whisper", "WhisperForConditionalGeneration").parameters == 37_760_640


def test_only_the_first_wavlm_block_holds_the_position_table() -> None:
    (stack,) = read("wavlm", "WavLMModel").stacks
    sizes = [block.layout.parameters for block in stack.blocks]
    assert sizes[0] - sizes[1] == 320 * 12


def test_masking_rates_decide_on_the_mask_vector() -> None:
    masked = read("wav2vec2", "Wav2Vec2Model")
    plain = read("wav2vec2", "Wav2Vec2Model", mask_time_prob=0.0, mask_feature_prob=0.0)
    assert masked.parameters - plain.parameters == 768


@pytest.mark.parametrize("value", ["batch", None, 3])
def test_unknown_norm_of_the_feature_encoder_is_refused(value: Any) -> None:
    with pytest.raises(InvalidConfig, match="feat_extract_norm"):
        read("wav2vec2", "Wav2Vec2Model", feat_extract_norm=value)


@pytest.mark.parametrize("value", [[], [512, -1], [512] * 1000, "512", [512, 2.5]])
def test_hostile_lists_of_widths_are_refused(value: Any) -> None:
    with pytest.raises(InvalidConfig, match="conv_"):
        read("wav2vec2", "Wav2Vec2Model", conv_dim=value)


def test_vibevoice_of_its_authors_is_the_librarys_in_other_words() -> None:
    """microsoft/VibeVoice-1.5B: there the two factors of its sounds are no parameters."""
    path = Path(__file__).parent / "configs" / "published.json"
    config = json.loads(path.read_text("utf-8"))["VibeVoice-1.5B"]["config"]
    tokenizer = {"model_type": "vibevoice_acoustic_tokenizer_encoder", "hidden_size": 128}
    head = {"hidden_size": 1536, "latent_size": 64, "intermediate_size": 4608, "num_hidden_layers": 4}
    library = {"text_config": config["decoder_config"], "semantic_model_config": tokenizer}
    named = {name: config[name] for name in ("model_type", "architectures", "torch_dtype")}
    other = read_config(named | library | {"diffusion_head_config": head})
    whole = read_config(config)
    assert whole.exact, whole.warnings
    assert whole.parameters == other.parameters - 2
    assert whole.stacks == other.stacks
    deeper = config["acoustic_tokenizer_config"] | {"encoder_depths": "3-3-3-3-3-3-9"}
    added = read_config(config | {"acoustic_tokenizer_config": deeper}).parameters - whole.parameters
    last = [stack.blocks[-1].layout.parameters for stack in whole.stacks if stack.name == "audio_encoder"]
    assert added == 2 * last[0]
    for name, value in {"decoder_ratios": [8, 5], "encoder_depths": "3-x"}.items():
        with pytest.raises(InvalidConfig, match=f"acoustic_tokenizer_config.{name}"):
            read_config(config | {"acoustic_tokenizer_config": deeper | {name: value}})
    misnamed = {"texts_config" if name == "decoder_config" else name: value for name, value in config.items()}
    unread = read_config(misnamed)
    assert not unread.exact
    assert any("texts_config is not known" in warning for warning in unread.warnings), unread.warnings


def test_cohere_asr_of_nemo_is_the_librarys_in_other_words() -> None:
    encoder = {"feat_in": 128, "n_layers": 48, "d_model": 1280, "subsampling_factor": 8, "ff_expansion_factor": 4}
    encoder |= {"subsampling_conv_channels": 256, "n_heads": 8, "conv_kernel_size": 9}
    decoder = {"max_sequence_length": 1024, "hidden_size": 1024, "inner_size": 4096, "num_layers": 8}
    decoder |= {"num_attention_heads": 8}
    nemo = {"model_type": "cohere_asr", "encoder": encoder, "transf_decoder": {"config_dict": decoder}}
    nemo |= {"transf_encoder": {"num_layers": 0, "hidden_size": 1024}, "head": {"num_classes": 16384, "hidden_size": 9}}
    whole = read_config(nemo)
    assert whole.exact, whole.warnings
    assert whole.stacks == read_config({"model_type": "cohere_asr"}).stacks
    small = nemo | {
        "encoder": encoder | {"n_layers": 3},
        "transf_decoder": {"config_dict": decoder | {"num_layers": 2}},
    }
    assert [len(stack.blocks) for stack in read_config(small).stacks] == [3, 2]
    with pytest.raises(UnsupportedArchitecture, match=r"transf_encoder\.num_layers"):
        read_config(nemo | {"transf_encoder": {"num_layers": 1}})


def test_qwen3_asr_of_its_authors_nests_both_configs_once_more() -> None:
    """Qwen/Qwen3-ASR-0.6B."""
    text = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16}
    text |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "model_type": "qwen3"}
    heard = {"d_model": 896, "encoder_layers": 18, "encoder_attention_heads": 14, "encoder_ffn_dim": 3584}
    heard |= {"output_dim": 1024, "num_mel_bins": 128, "downsample_hidden_size": 480}
    kind = {"model_type": "qwen3_asr", "architectures": ["Qwen3ASRForConditionalGeneration"], "dtype": "bfloat16"}
    thinker = {"audio_config": heard | {"model_type": "qwen3_asr_audio_encoder"}, "text_config": text}
    whole = read_config(kind | {"thinker_config": thinker})
    assert whole.exact, whole.warnings
    flat = read_config(kind | {"audio_config": heard | {"model_type": "qwen3_asr_encoder"}, "text_config": text})
    assert (whole.stacks, whole.outside) == (flat.stacks, flat.outside)
    with pytest.raises(UnsupportedArchitecture, match=r"thinker_config\.classify_num is 5000"):
        read_config(kind | {"thinker_config": thinker | {"classify_num": 5000}})


def test_descripts_codec_takes_what_its_class_derives_from_a_config_that_has_it() -> None:
    whole = read_config({"model_type": "dac", "dtype": "float32"})
    assert whole.parameters == 76_620_777  # descript/dac_44khz, and within the file of Parler-TTS Multilingual
    assert read_config({"model_type": "dac", "hidden_size": 1024, "upsampling_ratios": [8, 8, 4, 2]}).parameters == (
        whole.parameters
    )
    assert read_config({"model_type": "dac", "hidden_size": 512}).parameters < whole.parameters


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"decoder_hidden_size": 8}, "decoder_hidden_size is 8; expected at least 16, as it is halved 4 times"),
        ({"downsampling_ratios": [2] * 9}, "downsampling_ratios is list of 9; expected at most 8 entries"),
        ({"upsampling_ratios": [2] * 9}, "upsampling_ratios is list of 9; expected at most 8 entries"),
        ({"hidden_size": 0}, "hidden_size is 0; expected an integer from 1"),
    ],
)
def test_what_descripts_codec_cannot_be(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        read_config({"model_type": "dac", **changed})
