"""DeepSeek-VL2: SigLIP's tower, a projector of squares of patches, one of three mixtures of experts; DeepSeek-OCR.

Follows deepseek-ai/deepseek-vl2, modeling_deepseek_vl_v2.py, siglip_vit.py and configuration_deepseek.py, which are
never run. Both models have one model_type; only DeepSeek-OCR's config has widths for several towers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Adjusted,
    Assembly,
    Convolution,
    Expect,
    Family,
    In,
    Linear,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    patches,
)
from fastewq.architectures.decoders.latent import LATENT_LINE
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Tensors, linear, unless
from fastewq.architectures.remote.deepseek_ocr import OCR, sent
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.remote.moe import REMOTE_MOE
from fastewq.architectures.vision.clip import vision_layers

VISION: Final = {"width": 1024, "layers": 24, "heads": 16, "mlp_ratio": 4.0, "image_size": 384, "patch_size": 16}
PROJECTOR: Final = {"input_dim": 1152, "n_embed": 2048, "depth": 2, "mlp_ratio": 1, "downsample_ratio": 2}
LANGUAGE: Final[Mapping[str, Any]] = {
    "vocab_size": 102400,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "moe_intermediate_size": 1407,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "qk_nope_head_dim": 128,
    "first_k_dense_replace": 0,
    "attention_bias": False,
    "tie_word_embeddings": False,
}
"""What the repository's config classes assume of fields that a file leaves out."""


def completed(f: Fields) -> Fields:
    """The same with a config for each part, in the words of other models."""
    vision = f.sub("vision_config", "").replaced(**{**VISION, **sent(f, "vision_config")})
    language = {**LANGUAGE, **sent(f, "language_config")}
    if not language.get("use_mla", True):
        language["model_type"] = "deepseek"
    else:
        language["model_type"] = "deepseek_v3" if language.get("topk_method") == "noaux_tc" else "deepseek_v2"
    return f.replaced(
        language_config=language,
        projector_config={**PROJECTOR, **sent(f, "projector_config"), "model_type": ""},
        vision_config={
            "model_type": "",
            "class_token": vision.flag("class_token", False),
            "global_pool": vision.text("global_pool", "map"),
            "hidden_size": vision["width"],
            "intermediate_size": int(vision["width"] * vision.number("mlp_ratio", high=64.0)),
            "num_hidden_layers": vision.layers("layers"),
            "num_attention_heads": vision["heads"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
    )


BLOCK = (
    Norm("norm1"),
    Linear("attn.qkv", "3*hidden_size", WIDTH),
    Linear("attn.proj", WIDTH, WIDTH),
    Norm("norm2"),
    Linear("mlp.fc1", FFN, WIDTH),
    Linear("mlp.fc2", WIDTH, FFN),
)
TIMM_SIGLIP = Assembly(
    Rest(
        Convolution("patch_embed.proj", WIDTH, 3, ("patch_size", "patch_size")),
        Parameter("pos_embed", (1, patches, WIDTH), "embedding"),
        Norm("norm"),
    ),
    vision_layers("blocks", *BLOCK),
)
"""As the timm library has it, without the pooling."""
SIGLIP = Assembly(
    Expect("class_token", False),
    Expect("global_pool", "map"),
    TIMM_SIGLIP,
    Rest(
        Under(
            "attn_pool",
            Parameter("latent", (1, 1, WIDTH)),
            Linear("q", WIDTH, WIDTH),
            Linear("kv", "2*hidden_size", WIDTH),
            Linear("proj", WIDTH, WIDTH),
            Norm("norm"),
            Linear("mlp.fc1", FFN, WIDTH),
            Linear("mlp.fc2", WIDTH, FFN),
        ),
    ),
)


def projector(f: Fields) -> Tensors:
    """Matrices with a function between each two: their numbers are even."""
    width, inner = f["n_embed"], f["n_embed"] * f["mlp_ratio"]
    depth, read = f.count("depth", low=2, high=64), f["input_dim"] * f["downsample_ratio"] ** 2
    widths = [read, *[inner] * (depth - 1), width]
    return tuple(t for i in range(depth) for t in linear(f"layers.{2 * i}", widths[i + 1], widths[i], True))


EMBEDDED = "projector_config.n_embed"
LANGUAGE_MODELS: Mapping[str, Model] = {
    "deepseek": REMOTE_MOE["deepseek"],
    "deepseek_v2": LATENT_LINE["deepseek_v2"],
    "deepseek_v3": LATENT_LINE["deepseek_v3"],
}
VL2 = Adjusted(
    Assembly(
        Expect("tile_tag", "2D"),
        In("vision_config", SIGLIP, path="vision"),
        In(
            "projector_config",
            Expect("projector_type", "downsample_mlp_gelu"),
            Expect("token_pooling", False),
            Rest(projector),
            path="projector",
        ),
        Rest(Parameter("image_newline", (EMBEDDED,)), Parameter("view_seperator", (EMBEDDED,))),
        Nested("language_config", "language", LANGUAGE_MODELS, "ForCausalLM"),
    ),
    completed,
)


def several_towers(f: Fields) -> bool:
    return isinstance(f.sub("vision_config", "").value("width", None), Mapping)


DEEPSEEK_VL: Mapping[str, Family] = {
    "deepseek_vl_v2": one_class(
        "DeepseekVLV2",
        "ForCausalLM",
        Assembly(Only(several_towers, OCR), Only(unless(several_towers), VL2)),
        "DeepseekOCRForCausalLM",
        "DeepseekOCR2ForCausalLM",
    ),
    # baidu/Unlimited-OCR, modeling_unlimitedocr.py: DeepSeek-OCR with windows
    "unlimited-ocr": one_class("UnlimitedOCR", "ForCausalLM", OCR),
}
