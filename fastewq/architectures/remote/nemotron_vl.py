"""Nemotron Nano VL and Nemotron Parse: RADIO's tower, as its own repository has it, before Llama, Nemotron-H or mBART.

That code is never run; each entry follows its published definition, which the comment above it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    FFN,
    UNTIED,
    WIDTH,
    Adjusted,
    Assembly,
    Convolution,
    Each,
    Family,
    In,
    Linear,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    When,
)
from fastewq.architectures.audio.speech import AUDIO
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Tensors, present
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.multimodal import nested
from fastewq.architectures.seq2seq.bart import Side, bart_layer
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision.clip import vision_layers
from fastewq.errors import UnsupportedArchitecture

# -- RADIO: nvidia/C-RADIOv2-H, hf_model.py, vit_patch_generator.py and cls_token.py; vLLM, models/radio.py ------------

VITS: Mapping[str, tuple[int, int, int]] = {
    "vit_base_patch16_224": (768, 12, 12),
    "vit_large_patch16_224": (1024, 24, 16),
    "vit_huge_patch16_224": (1280, 32, 16),
}
"""Names of the timm library -> width, blocks and heads; the feed-forward is four times as wide."""
NOTHING_MORE: Mapping[str, tuple[int, ...]] = {
    "adaptor_names": (),
    "feature_normalizer_config": (),
    "inter_feature_normalizer_config": (),
    "separate_video_embedder": (True,),
}
"""What would add tensors, or take some away, if it were other than this."""
OF_REPOSITORY = "radio of a repository"
MAX_TEACHERS = 64


def radio_tokens(args: Fields) -> int:
    """One token for each teacher, and registers up to a multiple."""
    teachers = args.value("teachers")
    if not isinstance(teachers, list | tuple) or not 0 < len(teachers) <= MAX_TEACHERS:
        raise args.refuse("teachers", teachers, f"a list of at most {MAX_TEACHERS} teachers")
    names = [teacher.get("name") if isinstance(teacher, Mapping) else None for teacher in teachers]
    if not all(isinstance(name, str) for name in names):
        raise args.refuse("teachers", teachers, "a list of objects, each with a name")
    tokens = len(set(names)) if args.flag("cls_token_per_teacher") else 1
    if args.has("cpe_num_registers"):
        return tokens + args.count("cpe_num_registers")
    multiple = args["register_multiple"]
    return tokens + multiple - tokens % multiple


def radio(f: Fields, name: str = "vision_config") -> Mapping[str, Any]:
    """The tower's sizes, some of which follow from the arguments that its training was started with."""
    nested(f, name)
    seen = f.sub(name)
    nested(seen, "args")
    args = seen.sub("args")
    vit = args.text("model")
    if vit not in VITS:
        raise UnsupportedArchitecture(f"{args.where('model')} is {vit[:80]!r}; of RADIO, {list(VITS)} are known")
    args.require("model_norm", (False,))
    for unknown, harmless in NOTHING_MORE.items():
        seen.require(unknown, harmless)
    width, depth, heads = VITS[vit]
    patch = seen.size("patch_size", 16)
    side = round((args["cpe_max_size"] if args.has("cpe_max_size") else seen["max_resolution"]) / patch)
    return {
        "model_type": OF_REPOSITORY,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "patch_pixels": 3 * patch**2,
        "frames": seen.size("video_temporal_patch_size", 1),
        "positions": side**2,
        "tokens": radio_tokens(args),
    }


def sees_frames(f: Fields) -> bool:
    """Whether a patch of a video is several frames deep; else videos are read frame by frame."""
    return f["frames"] > 1


RADIO = Assembly(
    Rest(
        Parameter("patch_generator.pos_embed", (1, "positions", WIDTH), "embedding"),
        Linear("patch_generator.embedder", WIDTH, "patch_pixels", False),
        When(sees_frames, Linear("patch_generator.video_embedder", WIDTH, "frames*patch_pixels", False)),
        Parameter("patch_generator.cls_token.token", ("tokens", WIDTH)),
    ),
    vision_layers(
        "blocks",
        Norm("norm1"),
        Linear("attn.qkv", "3*hidden_size", WIDTH),
        Linear("attn.proj", WIDTH, WIDTH),
        Norm("norm2"),
        Linear("mlp.fc1", FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, FFN),
    ),
)
RADIO_EYES: Mapping[str, Model] = {OF_REPOSITORY: Family("Radio", {"Model": RADIO})}


def with_radio(f: Fields) -> Fields:
    seen = radio(f)
    f.require("video_temporal_patch_size", (seen["frames"],))
    return f.replaced(vision_config=seen, llm_config={"model_type": "llama", **nested(f, "llm_config")})


def deaf(f: Fields) -> Fields:
    f.require("sound_config", ())
    seeing = with_radio(f)
    seeing.sub("vision_config").require("frames", (1,))
    return seeing


def hearing(f: Fields) -> Fields:
    """The same; of what hears, the file says another type than the library has, and leaves out that it has no bias."""
    f.sub("llm_config", "").require("num_nextn_predict_layers", (0,))
    f = with_radio(f)
    if not f.has("sound_config"):
        return f
    heard = {"attention_bias": False, **nested(f, "sound_config"), "model_type": "parakeet_encoder"}
    return f.replaced(sound_config=heard)


def shuffled(f: Fields) -> int:
    """Features of a pixel-shuffled token."""
    return f.size("vit_hidden_size", 1280) * int(1 / f.number("downsample_ratio", low=1e-3)) ** 2


SPOKEN = "llm_config.hidden_size"


def nano_vl(bias: bool) -> Assembly:
    """`bias`: whether the projector has any."""
    return Assembly(
        Nested("vision_config", "vision_model.radio_model.model", RADIO_EYES),
        Nested("llm_config", "language_model", TEXT, "ForCausalLM"),
        Rest(
            Norm("mlp1.0", shuffled, bias),
            Linear("mlp1.1", "projector_hidden_size", shuffled, bias),
            Linear("mlp1.3", SPOKEN, "projector_hidden_size", bias),
        ),
    )


HEARD = "sound_config.projection_hidden_size"


def sound_bias(f: Fields) -> bool:
    return f.sub("sound_config").flag("projection_bias", False)


NANO_OMNI = Adjusted(
    Assembly(
        nano_vl(bias=False),
        Only(
            present("sound_config"),
            Nested("sound_config", "sound_encoder.encoder", AUDIO),
            Rest(
                Under(
                    "sound_projection",
                    Norm("norm", "sound_config.hidden_size", False),
                    Linear("linear1", HEARD, "sound_config.hidden_size", sound_bias),
                    Linear("linear2", SPOKEN, HEARD, sound_bias),
                )
            ),
        ),
    ),
    hearing,
)


# -- Nemotron Parse: nvidia/NVIDIA-Nemotron-Parse-v1.1, hf_nemotron_parse_modeling.py. mBART reads, without positions --

READS = {
    "vocab_size": 250027,
    "d_model": 1024,
    "decoder_layers": 12,
    "decoder_attention_heads": 16,
    "decoder_ffn_dim": 4096,
}
"""What its class assumes of the decoder."""
NECK = 1024


READER = Side(bart_layer("decoder", cross=True), embedding_norm=True, final_norm=True).build("decoder", True)


def parse(f: Fields) -> Fields:
    decoder = {**READS, **nested(f, "decoder"), "extra": f.count("num_extra_heads", 0, high=64)}
    return f.replaced(encoder=radio(f, "encoder"), decoder={**decoder, "model_type": ""})


def next_tokens(f: Fields) -> Tensors:
    """Two matrices for each further token that is predicted at once."""
    matrix = Linear("", "d_model", "d_model")
    return (*Each("extra_heads", "extra", (matrix,))(f), *Each("extra_proj", "extra", (matrix,))(f))


NEMOTRON_PARSE = Adjusted(
    Assembly(
        Nested("encoder", "encoder.model_encoder.radio_model.model", RADIO_EYES),
        Rest(
            Under(
                "encoder",
                Convolution("conv1", NECK, "encoder.hidden_size", (1,)),
                Norm("layer_norm1", NECK),
                Convolution("conv2", NECK, NECK, (1, 4), bias=False),
                Norm("layer_norm2", NECK),
                Linear("sum_proj", NECK, "3*encoder.hidden_size"),
                Norm("layer_norm3", NECK),
            ),
            Linear("lm_head", "decoder.vocab_size", "decoder.d_model", False, UNTIED),
        ),
        In("decoder", READER, Rest(Under("decoder", next_tokens)), path=""),
    ),
    parse,
)

REMOTE_NEMOTRON_VL: Mapping[str, Model] = {
    "nemotron_parse": one_class("NemotronParse", "ForConditionalGeneration", NEMOTRON_PARSE),
    # nvidia/Llama-3.1-Nemotron-Nano-VL-8B-V1, modeling.py; vLLM, models/nemotron_vl.py
    "Llama_Nemotron_Nano_VL": one_class("Llama_Nemotron_Nano_VL", "", Adjusted(nano_vl(bias=True), deaf)),
    # nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16, modeling.py; vLLM, models/nano_nemotron_vl.py
    "NemotronH_Nano_VL_V2": one_class("NemotronH_Nano_VL_V2", "", Adjusted(nano_vl(bias=False), deaf)),
    # nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-BF16; vLLM, models/nano_nemotron_vl.py and parakeet.py
    "NemotronH_Nano_Omni_Reasoning_V3": one_class("NemotronH_Nano_Omni_Reasoning_V3", "", NANO_OMNI),
}
