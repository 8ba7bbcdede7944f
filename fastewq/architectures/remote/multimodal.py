"""Vision-language models that the transformers library does not have: their code lies in the model's repository.

That code is never run; each entry follows its published definition, which the comment above it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    WIDTH,
    Adjusted,
    Assembly,
    At,
    Convolution,
    Embedding,
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
    When,
    adjusted,
    patches,
    plus,
    quotient,
    scaled,
    sizes,
    times,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Option, Part, present, unless
from fastewq.architectures.remote.deepseek_vl import TIMM_SIGLIP
from fastewq.architectures.remote.heads import one_class
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision.clip import CLIP_LAYER, FUSED_LAYERS, PATCH_KERNEL, VISION, vision_layers
from fastewq.architectures.vision.towers import TOWERS
from fastewq.architectures.vision_language.ernie_vl import EYES as ERNIE_EYES
from fastewq.architectures.vision_language.ernie_vl import RESAMPLER as ERNIE_RESAMPLER
from fastewq.architectures.vision_language.ernie_vl import TEXT as ERNIE_TEXT
from fastewq.architectures.vision_language.multimodal import (
    EYE,
    EYES,
    GENERATE,
    INTERNVL,
    LM_HEAD,
    LM_HEAD_OF_EITHER,
    MOUTH,
    kimi_merged,
    sees,
    shuffled,
    speaking,
    speaks,
    two_layers,
)
from fastewq.errors import UnsupportedArchitecture

# -- InternVL: OpenGVLab/InternVL2-8B, modeling_internvl_chat.py and modeling_intern_vit.py ---------------------------


def channels(f: Fields) -> int:
    return f.size("num_channels", 3)


def layer_norms(f: Fields) -> bool:
    return bool(f.value("norm_type", "rms_norm") == "layer_norm")


def qkv_bias(f: Fields) -> bool:
    return f.flag("qkv_bias", False)


def normalizes_queries(f: Fields) -> bool:
    return f.flag("qk_normalization", True)


INTERN_PATCHES = Rest(
    Parameter("embeddings.class_embedding", (1, 1, WIDTH)),
    Convolution("embeddings.patch_embedding", WIDTH, channels, ("patch_size", "patch_size")),
    Parameter("embeddings.position_embedding", (1, plus(patches, 1), WIDTH), "embedding"),
)


def intern_vit(attended: Size = WIDTH) -> Assembly:
    """The tower; `attended` is how wide the heads of its attention are together."""
    return Assembly(
        INTERN_PATCHES,
        vision_layers(
            "encoder.layers",
            Parameter("ls1", (WIDTH,)),
            Parameter("ls2", (WIDTH,)),
            Linear("attn.qkv", lambda f: 3 * f[attended], WIDTH, qkv_bias),
            When(
                normalizes_queries,
                Norm("attn.q_norm", attended, bias=False),
                Norm("attn.k_norm", attended, bias=False),
            ),
            Linear("attn.proj", WIDTH, attended),
            Linear("mlp.fc1", FFN, WIDTH),
            Linear("mlp.fc2", WIDTH, FFN),
            Norm("norm1", bias=layer_norms),
            Norm("norm2", bias=layer_norms),
        ),
    )


INTERN_EYES: Mapping[str, Model] = {
    "intern_vit_6b": Family("InternVision", {"Model": intern_vit()}),
    "intern_vit_patch": Family("InternVisionPatch", {"Model": INTERN_PATCHES}),
}


INTERN_PROJECTOR = Rest(
    Norm("mlp1.0", shuffled),
    Linear("mlp1.1", "llm_config.hidden_size", shuffled),
    Linear("mlp1.3", "llm_config.hidden_size", "llm_config.hidden_size"),
)
INTERNVL_CHAT = Assembly(
    Nested("vision_config", "vision_model", INTERN_EYES),
    Nested("llm_config", "language_model", TEXT, "ForCausalLM"),
    INTERN_PROJECTOR,
)


def first_class(config: Mapping[str, Any]) -> Any:
    """The first of `architectures` of a nested config."""
    named = config.get("architectures")
    return named[0] if isinstance(named, list | tuple) and named else None


def mono(f: Fields) -> Fields:
    """OpenGVLab/Mono-InternVL-2B names the classes alone: patches without a tower, and experts in the text model."""
    seen, spoken = nested(f, "vision_config"), nested(f, "llm_config")
    if first_class(spoken) == "InternLM2VEForCausalLM":
        f = f.replaced(llm_config={**spoken, "model_type": "internlm2_ve"})
    if first_class(seen) == "InternVisionPatchModel":
        f = f.replaced(vision_config={**seen, "model_type": "intern_vit_patch"})
    return f


INTERN_S1 = ("InternS1ForConditionalGeneration", "InternS1Model")


def interns1(f: Fields) -> Fields:
    """The same with the library's name for the tower."""
    seen = dict(nested(f, "vision_config"))
    if seen.get("model_type") == "interns1_vision":
        seen["model_type"] = "internvl_vision"
    return f.replaced(vision_config=seen)


# -- NVLM: nvidia/NVLM-D-72B, modeling_nvlm_d.py and modeling_intern_vit.py. A wider projector; idle heads ------------


def with_idle_heads(f: Fields) -> int:
    """Seven heads beside those that the config says, so that eight devices can share the attention."""
    return (f[HEADS] + 7) * f.divided(WIDTH, HEADS)


NVLM_EYES: Mapping[str, Model] = {"intern_vit_6b": Family("InternVision", {"Model": intern_vit(with_idle_heads)})}
NVLM = Assembly(
    Nested("vision_config", "vision_model", NVLM_EYES),
    Nested("llm_config", "language_model", TEXT, "ForCausalLM"),
    Rest(
        Norm("mlp1.0", shuffled),
        Linear("mlp1.1", "llm_config.intermediate_size", shuffled, False),
        Linear("mlp1.3", "llm_config.hidden_size", "llm_config.intermediate_size", False),
    ),
)

# -- Ovis 2: AIDC-AI/Ovis2-8B, modeling_ovis.py and modeling_aimv2.py. An image becomes a mixture of visual words -----


def use_bias(f: Fields) -> bool:
    return f.flag("use_bias", False)


def aimv2(positions: Option = True) -> Assembly:
    """The tower; without `positions` rotations alone tell patches apart."""
    return Assembly(
        Rest(
            Convolution("preprocessor.patchifier.proj", WIDTH, channels, ("patch_size", "patch_size")),
            Norm("preprocessor.patchifier.norm", bias=False),
            When(positions, Parameter("preprocessor.pos_embed", (1, patches, WIDTH), "embedding")),
            Norm("trunk.post_trunk_norm", bias=False),
        ),
        vision_layers(
            "trunk.blocks",
            Linear("attn.qkv", "3*hidden_size", WIDTH, qkv_bias),
            Linear("attn.proj", WIDTH, WIDTH, use_bias),
            Norm("norm_1", bias=False),
            Linear("mlp.fc1", FFN, WIDTH, use_bias),
            Linear("mlp.fc2", WIDTH, FFN, use_bias),
            Linear("mlp.fc3", FFN, WIDTH, use_bias),
            Norm("norm_2", bias=False),
            norm="rms",
        ),
    )


AIM_EYES: Mapping[str, Model] = {"aimv2": Family("AIMv2", {"Model": aimv2()})}
INDICATORS = 5
"""Visual words that no patch becomes: they mark where images, rows and columns begin and end."""


def visual_words(f: Fields) -> int:
    words = f.count("vocab_size", low=INDICATORS + 1)
    return words - INDICATORS


def strided(f: Fields) -> int:
    return f["backbone_config.hidden_size"] * f.size("hidden_stride", 1) ** 2


OVIS = Assembly(
    In(
        "visual_tokenizer_config",
        Expect("depths", None),
        Nested("backbone_config", "backbone", AIM_EYES),
        Rest(Linear("head.0", visual_words, strided, False), Norm("head.1", visual_words)),
        path="visual_tokenizer",
    ),
    Rest(Embedding("vte", "visual_tokenizer_config.vocab_size", "llm_config.hidden_size")),
    Nested("llm_config", "llm", TEXT, "ForCausalLM"),
)

# -- AndesVL: OPPOer/AndesVL-4B-Instruct, modeling_andesvl.py and modeling_aimv2_navit_rope.py. Ovis 2's tower ---------

ANDES_EYES: Mapping[str, Model] = {
    "aimv2": Family("Aimv2Vision", {"Model": aimv2(lambda f: f.flag("preserve_original_pe", False))})
}
ANDES_VL = Assembly(
    Nested("vision_config", "vision_encoder", ANDES_EYES),
    Nested("text_config", "language_model", TEXT, "ForCausalLM"),
    Rest(Linear("mlp.0", times(4, EYE), times(4, EYE)), Linear("mlp.2", MOUTH, times(4, EYE))),
)

# -- Ovis 2.5: AIDC-AI/Ovis2.5-2B, modeling_ovis2_5.py -----------------------------------------------------------------

OVIS2_5_INDICATORS = 4


def linear_patches(f: Fields) -> bool:
    """Patches come flat where their number is given; else a convolution cuts them out of an image."""
    return f.count("num_patches", low=-1) > 0


def original_positions(f: Fields) -> int:
    return f["num_patches"] if linear_patches(f) else (f["image_size"] // f["patch_size"]) ** 2


def patch_volume(f: Fields) -> int:
    return channels(f) * f["patch_size"] ** 2


SIGLIP_NAVIT = At(
    "vision_model",
    Rest(
        When(linear_patches, Linear("embeddings.patch_embedding", WIDTH, patch_volume)),
        When(
            unless(linear_patches),
            Convolution("embeddings.patch_embedding", WIDTH, channels, ("patch_size", "patch_size")),
        ),
        When("preserve_original_pe", Embedding("embeddings.position_embedding", original_positions)),
        Norm("post_layernorm"),
    ),
    vision_layers("encoder.layers", *CLIP_LAYER),
)
NAVIT_EYES: Mapping[str, Model] = {"siglip2_navit": Family("Siglip2Navit", {"Model": SIGLIP_NAVIT})}


def ovis2_5_words(f: Fields) -> int:
    words = f.count("visual_vocab_size", low=OVIS2_5_INDICATORS + 1)
    return words - OVIS2_5_INDICATORS


def ovis2_5_features(f: Fields) -> int:
    return f["vit_config.hidden_size"] * f.sub("vit_config").size("hidden_stride", 2) ** 2


OVIS2_5 = Assembly(
    Nested("vit_config", "visual_tokenizer.vit", NAVIT_EYES),
    Rest(
        Linear("visual_tokenizer.head.0", ovis2_5_words, ovis2_5_features, False),
        Norm("visual_tokenizer.head.1", ovis2_5_words),
        Embedding("vte", "visual_vocab_size", "llm_config.hidden_size"),
    ),
    Nested("llm_config", "llm", TEXT, "ForCausalLM"),
)

# -- Kimi-VL: moonshotai/Kimi-VL-A3B-Instruct, modeling_kimi_vl.py -----------------------------------------------------

MOON_VIT = Assembly(
    Rest(
        Convolution("patch_embed.proj", WIDTH, 3, ("patch_size", "patch_size")),
        Parameter("patch_embed.pos_emb.weight", ("init_pos_emb_height", "init_pos_emb_width", WIDTH), "embedding"),
        Norm("encoder.final_layernorm"),
    ),
    vision_layers(
        "encoder.blocks",
        Norm("norm0"),
        Norm("norm1"),
        Linear("mlp.fc0", FFN, WIDTH),
        Linear("mlp.fc1", WIDTH, FFN),
        Linear("wqkv", "3*hidden_size", WIDTH),
        Linear("wo", WIDTH, WIDTH),
        head_dim=quotient(WIDTH, HEADS),
    ),
)
MOON_EYES: Mapping[str, Model] = {"moonvit": Family("MoonVit", {"Model": MOON_VIT})}


KIMI_VL = Assembly(
    Nested("vision_config", "vision_tower", MOON_EYES),
    Rest(
        Under(
            "multi_modal_projector",
            Norm("pre_norm", EYE),
            Linear("linear_1", kimi_merged, kimi_merged),
            Linear("linear_2", MOUTH, kimi_merged),
        )
    ),
    Nested("text_config", "language_model", TEXT, "ForCausalLM"),
)

# -- MiniCPM-V: openbmb/MiniCPM-V-2_6, modeling_minicpmv.py and resampler.py. The text model's fields are at the top --

MINICPM_SPEAKS = {"2.5": "llama", "2.6": "qwen2", "4": "llama", "4.0": "llama", "4.5": "qwen3"}
FIRST_TOWER = "vit_so400m_patch14_siglip_384.webli"
FIRST_TOWER_SIZES = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "image_size": 384}
FIRST_TOWER_LAYERS = 27


def nested(f: Fields, name: str) -> Mapping[str, Any]:
    """A nested config as sent, which counts as read."""
    value = f.value(name)
    if not isinstance(value, Mapping):
        raise f.refuse(name, value, "an object")
    f.sub(name, "")
    return value


def minicpm_speaks(f: Fields, language: str) -> Fields:
    """The same with a nested config for the text model, whose fields are at the top; `language` is its type."""
    return f.replaced(model_type=language).unflattened("text_config")


def minicpm_sees(f: Fields, drops_last: bool) -> dict[str, Any]:
    """The tower's config with what the class decides."""
    seen = nested(f, "vision_config")
    depth = f.sub("vision_config").layers() - drops_last
    decided = {"num_hidden_layers": depth, "vision_use_head": False, "model_type": "siglip_vision_model"}
    return {"num_channels": 3, **seen, **decided}


def numbered(f: Fields) -> str:
    """The version, which is a number in some files and a string in others."""
    version = f.value("version")
    return f"{version:.20}" if isinstance(version, str) else f"{f.number('version'):g}"


def minicpmv(f: Fields) -> Fields:
    version = numbered(f)
    if version not in MINICPM_SPEAKS:
        raise UnsupportedArchitecture(f"version is {version}; of minicpmv, {list(MINICPM_SPEAKS)} are known")
    sees = minicpm_sees(f, f.flag("drop_vision_last_layer", False))
    return minicpm_speaks(f, MINICPM_SPEAKS[version]).replaced(vision_config=sees)


RESAMPLER: tuple[Part, ...] = (
    Parameter("query", ("query_num", MOUTH)),
    Linear("kv_proj", MOUTH, EYE, False),
    Parameter("attn.in_proj_weight", (times(3, MOUTH), MOUTH), "linear"),
    Parameter("attn.in_proj_bias", (times(3, MOUTH),), "bias"),
    Linear("attn.out_proj", MOUTH, MOUTH),
    *(Norm(name, MOUTH) for name in ("ln_q", "ln_kv", "ln_post")),
    Parameter("proj", (MOUTH, MOUTH), "linear"),
)
MINICPM_EYES = Assembly(Nested("vision_config", "vpm", VISION), Rest(Under("resampler", *RESAMPLER)))
MINICPM_MOUTH = Nested("text_config", "llm", TEXT, "ForCausalLM")


def first_minicpmv(f: Fields) -> Fields:
    """MiniCPM-V and MiniCPM-V 2, openbmb/MiniCPM-V-2: they have no version, and a tower of the timm library."""
    f.choice("vision_encoder", (FIRST_TOWER,))
    depth = FIRST_TOWER_LAYERS - f.flag("drop_vision_last_layer", True)
    sees = {**FIRST_TOWER_SIZES, "num_hidden_layers": depth, "patch_size": 14, "model_type": ""}
    return f.replaced(model_type="minicpm").unflattened("text_config").replaced(vision_config=sees)


FIRST_MINICPMV = Assembly(
    In("vision_config", TIMM_SIGLIP, path="vpm"),
    Rest(Under("resampler", *RESAMPLER, Parameter("pos_embed", ("query_num", MOUTH), "embedding"))),
    MINICPM_MOUTH,
)
VERSIONED = present("version")
MINICPMV = Assembly(
    Only(VERSIONED, Adjusted(Assembly(MINICPM_EYES, MINICPM_MOUTH), minicpmv)),
    Only(unless(VERSIONED), Adjusted(FIRST_MINICPMV, first_minicpmv)),
)

# -- Phi-3-vision: microsoft/Phi-3.5-vision-instruct, modeling_phi3_v.py and image_embedding_phi3_v.py ----------------


CLIP_336 = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "image_size": 336,
    "patch_size": 14,
}


def phi3_v(f: Fields) -> Fields:
    """The image processor names a CLIP model, whose sizes the code knows."""
    seen, embed = (f.sub(name, "") for name in ("img_processor", "embd_layer"))
    seen.choice("model_name", ("openai/clip-vit-large-patch14-336",))
    embed.choice("projection_cls", ("mlp",))
    embed.choice("use_hd_transform", (True,))
    embed.choice("with_learnable_separator", (True,))
    return f.replaced(model_type="phi3", vision_config=CLIP_336).unflattened("text_config")


PHI3_V = Adjusted(
    Assembly(
        Nested("text_config", "", TEXT, "ForCausalLM"),
        At(
            "model.vision_embed_tokens",
            Nested("vision_config", "img_processor.vision_model", VISION),
            Rest(
                Parameter("glb_GN", (1, 1, "4*vision_config.hidden_size")),
                Parameter("sub_GN", (1, 1, 1, "4*vision_config.hidden_size")),
                Linear("img_projection.0", WIDTH, "4*vision_config.hidden_size"),
                Linear("img_projection.2", WIDTH, WIDTH),
            ),
        ),
    ),
    phi3_v,
)

# -- Step-3: stepfun-ai/step3, vision_encoder.py and modeling_step3.py ------------------------------------------------

STEP3_VISION = Assembly(
    Rest(
        Parameter("embeddings.class_embedding", (1, WIDTH)),
        Convolution("embeddings.patch_embedding", WIDTH, "num_channels", ("patch_size", "patch_size")),
        Embedding("embeddings.position_embedding", plus(patches, 1)),
    ),
    vision_layers(
        "transformer.layers",
        Norm("layer_norm1"),
        Linear("self_attn.qkv_proj", "3*hidden_size", WIDTH),
        Linear("self_attn.out_proj", WIDTH, WIDTH),
        Norm("layer_norm2"),
        Linear("mlp.fc1", FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, FFN),
    ),
)
STEP3_EYES: Mapping[str, Model] = {"step3_vision_encoder": Family("Step3Vision", {"Model": STEP3_VISION})}
SEEN = "vision_config.output_hidden_size"


def step3(f: Fields) -> Fields:
    """The same with a model_type in each nested config, which the file leaves to its class."""
    types = {"text_config": "step3_text", "vision_config": "step3_vision_encoder"}
    return f.replaced(**{name: {"model_type": kind, **nested(f, name)} for name, kind in types.items()})


STEP3_VL = Adjusted(
    Assembly(
        Nested("vision_config", "vision_model", STEP3_EYES),
        Rest(
            Convolution("vit_downsampler", SEEN, EYE, (2, 2)),
            Convolution("vit_downsampler2", times(2, SEEN), SEEN, (3, 3)),
            Linear("vit_large_projector", MOUTH, times(2, SEEN), "projector_bias"),
        ),
        Nested("text_config", "", TEXT, "ForCausalLM"),
    ),
    step3,
)

# -- Step3-VL: stepfun-ai/Step3-VL-10B; vLLM, models/step_vl.py. Perception Encoder before Qwen3 ---------------------

STEP_FFN = scaled("width", "mlp_ratio")
PERCEPTION = Assembly(
    Expect("use_rope2d", True),
    Rest(
        Convolution("conv1", "width", 3, ("patch_size", "patch_size"), bias=False),
        When("use_ln_pre", Norm("ln_pre", "width")),
        When("use_ln_post", Norm("ln_post", "width")),
        When("use_cls_token", Parameter("class_embedding", ("width",))),
        When(
            "use_abs_posemb",
            Parameter(
                "positional_embedding", (plus(patches, lambda f: int(f.flag("use_cls_token"))), "width"), "embedding"
            ),
        ),
        Convolution("vit_downsampler1", times(2, "width"), "width", (3, 3)),
        Convolution("vit_downsampler2", times(4, "width"), times(2, "width"), (3, 3)),
    ),
    vision_layers(
        "transformer.resblocks",
        Norm("ln_1", "width"),
        Norm("ln_2", "width"),
        Parameter("attn.in_proj_weight", ("3*width", "width"), "linear"),
        Parameter("attn.in_proj_bias", ("3*width",), "bias"),
        Linear("attn.out_proj", "width", "width"),
        When(present("ls_init_value"), Parameter("ls_1.gamma", ("width",)), Parameter("ls_2.gamma", ("width",))),
        Linear("mlp.c_fc", STEP_FFN, "width"),
        Linear("mlp.c_proj", "width", STEP_FFN),
        count="layers",
        width="width",
        heads="heads",
        ffn=STEP_FFN,
    ),
)


def step_vl(f: Fields) -> Fields:
    """The same with the type of the text model, which the file can leave to its class."""
    return f.replaced(
        text_config={"model_type": "qwen3", **nested(f, "text_config")},
        vision_config={**nested(f, "vision_config"), "model_type": ""},
    )


STEP_VL = Adjusted(
    Assembly(
        In("vision_config", PERCEPTION, path="vision_model"),
        Rest(Linear("vit_large_projector", MOUTH, times(4, "vision_config.width"), "projector_bias")),
        Nested("text_config", "", TEXT, "ForCausalLM"),
    ),
    step_vl,
)

# -- LLaVA-OneVision 1.5: lmms-lab/LLaVA-OneVision-1.5-8B-Instruct, modeling_llavaonevision1_5.py. Qwen3 speaks --------


def merged_square(f: Fields) -> int:
    return f[WIDTH] * f.size("spatial_merge_size", 2) ** 2


RICE = Assembly(
    Rest(
        Convolution("patch_embed.proj", WIDTH, "in_channels", ("patch_size", "patch_size"), bias=False),
        Parameter("class_embedding", (WIDTH,)),
        Parameter("class_pos_emb", (1, quotient(quotient(WIDTH, "num_heads"), 2)), "embedding"),
        Norm("pre_layernorm"),
        Norm("merger.ln_q"),
        Linear("merger.mlp.0", merged_square, merged_square),
        Linear("merger.mlp.2", "text_hidden_size", merged_square),
    ),
    FUSED_LAYERS,
)
LLAVA_ONEVISION_1_5 = Assembly(
    Nested("vision_config", "visual", {"rice_vit": Family("RiceTransformer", {"Model": RICE})}),
    Nested("text_config", "", {"LLaVAOneVision1_5_text": TEXT["qwen3"]}, "ForCausalLM"),
)

# -- dots.ocr: rednote-hilab/dots.ocr, modeling_dots_ocr.py and modeling_dots_vision.py. Qwen2 speaks -----------------


def merged_dots(f: Fields) -> int:
    return f["embed_dim"] * f["spatial_merge_size"] ** 2


DOTS_VISION = Assembly(
    Rest(
        Convolution("patch_embed.patchifier.proj", "embed_dim", "num_channels", ("patch_size", "patch_size")),
        Norm("patch_embed.patchifier.norm", "embed_dim", False),
        When(lambda f: f.flag("post_norm", True), Norm("post_trunk_norm", "embed_dim", False)),
        Norm("merger.ln_q", "embed_dim"),
        Linear("merger.mlp.0", merged_dots, merged_dots),
        Linear("merger.mlp.2", WIDTH, merged_dots),
    ),
    vision_layers(
        "blocks",
        Norm("norm1", "embed_dim", False),
        Linear("attn.qkv", "3*embed_dim", "embed_dim", use_bias),
        Linear("attn.proj", "embed_dim", "embed_dim", use_bias),
        Norm("norm2", "embed_dim", False),
        Linear("mlp.fc1", FFN, "embed_dim", use_bias),
        Linear("mlp.fc2", "embed_dim", FFN, use_bias),
        Linear("mlp.fc3", FFN, "embed_dim", use_bias),
        width="embed_dim",
        norm="rms",
    ),
)
DOTS_EYES: Mapping[str, Model] = {"dots_vit": Family("DotsVision", {"Model": DOTS_VISION})}


def dots_ocr(f: Fields) -> Fields:
    """The same with a model_type in each nested config; the text model's fields are at the top."""
    f.require("attention_bias", (True,))
    seen = {"model_type": "dots_vit", **nested(f, "vision_config")}
    return f.replaced(model_type="qwen2").unflattened("text_config").replaced(vision_config=seen)


DOTS_OCR = Adjusted(
    Assembly(
        Nested("vision_config", "vision_tower", DOTS_EYES),
        Nested("text_config", "", TEXT, "ForCausalLM"),
    ),
    dots_ocr,
)

# -- Keye-VL: Kwai-Keye/Keye-VL-8B-Preview, modeling_keye.py. SigLIP with two tables of positions before Qwen3 --------

KEYE = {
    "vocab_size": 152_064,
    "hidden_size": 8192,
    "intermediate_size": 29_568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}
"""What its class assumes of the text model, where Qwen3's assumes other sizes."""
KEYE_POSITIONS = 32_768


def keye(f: Fields) -> Fields:
    """The same with a nested config for each side; the text model's fields are at the top."""
    seen = {"patch_size": 14, **nested(f, "vision_config"), "model_type": "siglip_vision_model"}
    told = f.replaced(**{name: size for name, size in KEYE.items() if not f.has(name)})
    if not f.has("head_dim"):
        told = told.replaced(head_dim=told.divided(WIDTH, HEADS))
    return told.replaced(model_type="qwen3").unflattened("text_config").replaced(vision_config=seen)


def keye_vl(normalized: Size) -> Adjusted:
    """`normalized` is how wide the norm before the projector is."""
    return Adjusted(
        Assembly(
            Nested("vision_config", "visual.vision_model", VISION),
            Rest(
                Embedding("visual.vision_model.embeddings.packing_position_embedding", KEYE_POSITIONS, EYE),
                Under(
                    "mlp_AR",
                    Norm("pre_norm", normalized),
                    Linear("linear_1", times(4, EYE), times(4, EYE)),
                    Linear("linear_2", MOUTH, times(4, EYE)),
                ),
            ),
            Nested("text_config", "", TEXT, "ForCausalLM"),
        ),
        keye,
    )


# -- OpenCUA: xlangai/OpenCUA-7B, modeling_opencua.py and configuration_opencua.py. Qwen2.5-VL's parts under new names -


def opencua(f: Fields) -> Fields:
    """The same with the model_type that the class assumes in each nested config."""
    speaks = {"model_type": "qwen2", **nested(f, "text_config")}
    return f.replaced(
        text_config=speaks, vision_config={**nested(f, "vision_config"), "model_type": "qwen2_5_vl_vision"}
    )


OPENCUA = Adjusted(
    Assembly(
        Nested("vision_config", "vision_tower", EYES, "PretrainedModel"),
        Nested("text_config", "language_model", TEXT, "ForCausalLM"),
    ),
    opencua,
)

# -- MiniMax-VL-01: MiniMaxAI/MiniMax-VL-01, modeling_minimax_vl_01.py. Its CLIP has no norm at the end ----------------

MINIMAX_CLIP = At(
    "vision_model",
    Rest(
        Parameter("embeddings.class_embedding", (WIDTH,)),
        Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL, bias=False),
        Embedding("embeddings.position_embedding", plus(patches, 1)),
        Norm("pre_layrnorm"),
    ),
    vision_layers("encoder.layers", *CLIP_LAYER),
)
MINIMAX_EYES: Mapping[str, Model] = {"clip_vision_model": Family("CLIPVision", {"Model": MINIMAX_CLIP})}


def projector_bias(f: Fields) -> bool:
    return f.flag("multimodal_projector_bias", True)


MINIMAX_VL = Assembly(
    Nested("vision_config", "vision_tower", MINIMAX_EYES),
    Nested("text_config", "language_model", TEXT, "ForCausalLM"),
    Rest(Parameter("image_newline", (MOUTH,)), two_layers("multi_modal_projector", EYE, projector_bias)),
)

# -- Isaac: PerceptronAI/Isaac-0.1, modular_isaac.py. Two matrices without biases between SigLIP 2 and Qwen3 ----------


def isaac(f: Fields) -> Fields:
    """The same with a nested config for each side; the text model's fields are at the top."""
    seen = {**nested(f, "vision_config"), "model_type": "siglip2_vision_model", "vision_use_head": False}
    return f.replaced(model_type="qwen3").unflattened("text_config").replaced(vision_config=seen)


def gathered(f: Fields) -> int:
    """Features of a square of patches."""
    return f[EYE] * f.sub("vision_config").count("pixel_shuffle_scale_factor", 1, low=1) ** 2


ISAAC = Adjusted(
    Assembly(
        Nested("text_config", "", TEXT, "ForCausalLM"),
        At(
            "model.vision_embedding",
            Nested("vision_config", "0", VISION),
            Rest(
                Linear("1", lambda f: 4 * gathered(f), gathered, False),
                Linear("3", MOUTH, lambda f: 4 * gathered(f), False),
            ),
        ),
    ),
    isaac,
)

# -- Llama Nemotron VL: nvidia/llama-nemotron-embed-vl-1b-v2, modeling_llama_nemotron_vl.py. InternVL's projector ------

LLAMA_NEMOTRON_VL = Assembly(
    Nested("vision_config", "vision_model.vision_model", VISION),
    Nested("llm_config", "language_model", {"llama_bidirec": TEXT["llama_bidirec"]}),
    INTERN_PROJECTOR,
)

# -- LocateAnything: nvidia/LocateAnything-3B, modeling_locateanything.py. Kimi's tower before Qwen2 -------------------

LOCATE_ANYTHING = Assembly(
    Expect("mlp_connector_layers", 2),
    Expect("use_backbone_lora", 0, None),  # with a rank, the modules are wrapped and have other names
    Expect("use_llm_lora", 0, None),
    Nested("vision_config", "vision_model", MOON_EYES),
    Nested("text_config", "language_model", TEXT, "ForCausalLM"),
    Rest(Norm("mlp1.0", kimi_merged), Linear("mlp1.1", MOUTH, kimi_merged), Linear("mlp1.3", MOUTH, MOUTH)),
)

# -- Eagle 2.5 and 3: nvidia/Eagle2.5-8B, modeling_eagle2_5_vl.py; NVIDIA/Isaac-GR00T, modeling_eagle3_vl.py -----------

EAGLE = Assembly(
    Expect("mlp_connector_layers", 2),
    Expect("use_backbone_lora", 0, None),
    Expect("use_llm_lora", 0, None),
    Nested("vision_config", "vision_model.vision_model", VISION),
    Nested("text_config", "language_model", TEXT, "ForCausalLM"),
    Rest(Norm("mlp1.0", shuffled), Linear("mlp1.1", MOUTH, shuffled), Linear("mlp1.3", MOUTH, MOUTH)),
)

# -- VideoLLaMA 3 before the library had it: DAMO-NLP-SG/VideoLLaMA3-7B, modeling_videollama3.py -----------------------

VIDEO_EYES = {"video_llama_3_vision": TOWERS["video_llama_3_vision"]}


def videollama3(f: Fields) -> Fields:
    """The same with a nested config for each side; the text model's fields are at the top."""
    f.choice("mm_projector_type", ("mlp2x_gelu",))
    sees = {**nested(f, "vision_encoder_config"), "model_type": "video_llama_3_vision"}
    return f.replaced(model_type="qwen2").unflattened("text_config").replaced(vision_config=sees)


VIDEO_LLAMA3 = Adjusted(
    Assembly(
        Nested("text_config", "", TEXT, "ForCausalLM"),
        At(
            "model",
            Nested("vision_config", "vision_encoder", VIDEO_EYES),
            Rest(Linear("mm_projector.readout.0", MOUTH, EYE), Linear("mm_projector.readout.2", MOUTH, MOUTH)),
        ),
    ),
    videollama3,
)

# -- R-4B and Bee: YannQi/R-4B, Open-Bee/Bee-8B-RL; vLLM, models/rvl.py and bee.py. LLaVA-OneVision, normalized images -


def normalized(inner: Size) -> dict[str, BodyBuilder]:
    """LLaVA-OneVision whose projector has a norm before it and `inner` features between its matrices."""
    projector = Under(
        "multi_modal_projector", Norm("pre_norm", EYE), Linear("linear_1", inner, EYE), Linear("linear_2", MOUTH, inner)
    )
    newline = Parameter("image_newline", (MOUTH,))
    return speaking(sees("vision_tower"), Rest(newline, projector), speaks("language_model"), lm_head=LM_HEAD_OF_EITHER)


# -- Mage-VL: microsoft/Mage-VL, modeling_mage_vl.py. A tower of its own before Qwen3 ----------------------------------

MAGE_VISION = Assembly(
    Expect("layer_norm_type", "layer_norm"),
    Expect("use_head", False),
    Expect("use_patch_position_encoding", False),
    Rest(
        Convolution("embeddings.patch_embedding", WIDTH, channels, ("patch_size", "patch_size"), bias=False),
        Norm("layernorm_pre"),
        Norm("merger.ln_q"),
        Linear("merger.mlp.0", merged_square, merged_square),
        Linear("merger.mlp.2", "out_hidden_size", merged_square),
    ),
    vision_layers(
        "encoder.layers",
        Norm("layer_norm1"),
        Linear("self_attn.qkv", "3*hidden_size", WIDTH),
        Linear("self_attn.proj", WIDTH, WIDTH),
        Norm("layer_norm2"),
        Linear("mlp.fc1", FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, FFN),
    ),
)


def mage(f: Fields) -> Fields:
    """The same with the model_type that the class assumes in each nested config."""
    speaks = {"model_type": "qwen3", **nested(f, "text_config")}
    return f.replaced(text_config=speaks, vision_config={**nested(f, "vision_config"), "model_type": ""})


MAGE_VL = Adjusted(
    Assembly(
        At(
            "model",
            Nested("text_config", "language_model", TEXT),
            In("vision_config", MAGE_VISION, path="visual"),
        ),
        LM_HEAD,
    ),
    mage,
)

# -- ERNIE 4.5 VL before the library had it: baidu/ERNIE-4.5-VL-28B-A3B-PT, modeling_ernie4_5_vl.py --------------------


def of_both_kinds(f: Fields, name: str) -> tuple[int, ...]:
    """A number for text and one for images; one may stand for both."""
    value = f.value(name)
    return sizes(f, name, 2)[:2] if isinstance(value, list | tuple) else (f[name],)


def ernie_vl(f: Fields) -> Fields:
    """The same as the library has it: nested configs, one number of experts, and which layers have them."""
    first, last = min(of_both_kinds(f, "moe_layer_start_index")), max(of_both_kinds(f, "moe_layer_end_index"))
    step, layers = f.size("moe_layer_interval", 1), f.layers()
    experts = set(of_both_kinds(f, "moe_num_experts"))
    if len(experts) > 1:
        raise f.refuse("moe_num_experts", f.value("moe_num_experts"), "as many for images as for text")
    seen = f.sub("vision_config", "")
    sees = {
        **nested(f, "vision_config"),
        "model_type": "ernie4_5_vl_moe_vision",
        "intermediate_size": seen[WIDTH] * seen["mlp_ratio"],
        "temporal_merge_size": f.size("temporal_conv_size", 2),
    }
    speaks = f.replaced(
        model_type="ernie4_5_vl_moe_text",
        moe_num_experts=experts.pop(),
        moe_num_shared_experts=f.value("moe_num_shared_experts", None) or 0,
        mlp_layer_types=["sparse" if first <= i <= last and (i + 1) % step == 0 else "dense" for i in range(layers)],
    )
    return speaks.unflattened("text_config").replaced(vision_config=sees)


ERNIE_4_5_VL = Adjusted(
    Assembly(
        Nested("vision_config", "vision_model", ERNIE_EYES),
        At("model", Nested("text_config", "", ERNIE_TEXT), ERNIE_RESAMPLER),
        LM_HEAD,
    ),
    ernie_vl,
)

REMOTE_MULTIMODAL: Mapping[str, Family] = {
    "andesvl-aimv2-qwen3": one_class("AndesVL", "ForConditionalGeneration", ANDES_VL),
    # apple/aimv2-large-patch14-224, modeling_aimv2.py: the tower alone; its config says `aimv2`, as the library's pair
    "aimv2_tower": one_class("AIMv2", "Model", Assembly(Expect("is_native", False), aimv2())),
    # OpenGVLab/InternViT-300M-448px: the tower alone
    "intern_vit_6b": one_class("InternVision", "Model", intern_vit()),
    "step_robotics": one_class("StepVL", "ForConditionalGeneration", STEP_VL),
    "ernie4_5_moe_vl": one_class("Ernie4_5_VLMoe", "ForConditionalGeneration", ERNIE_4_5_VL),
    "locateanything": one_class("LocateAnything", "ForConditionalGeneration", LOCATE_ANYTHING),
    "mage_vl": one_class("MageVL", "ForConditionalGeneration", MAGE_VL),
    "llama_nemotron_vl": one_class("LlamaNemotronVL", "Model", LLAMA_NEMOTRON_VL),
    "isaac": one_class("Isaac", "ForConditionalGeneration", ISAAC),
    "minimax_vl_01": one_class("MiniMaxVL01", "ForConditionalGeneration", MINIMAX_VL),
    "opencua": one_class("OpenCUA", "ForConditionalGeneration", OPENCUA),
    "Keye": one_class("Keye", "ForConditionalGeneration", keye_vl(EYE)),
    # Kwai-Keye/Keye-VL-1_5-8B; vLLM, models/keye_vl1_5.py: four patches are normalized together
    "KeyeVL1_5": one_class("KeyeVL1_5", "ForConditionalGeneration", keye_vl(times(4, EYE))),
    "dots_ocr": one_class("DotsOCR", "ForCausalLM", DOTS_OCR),
    "llavaonevision1_5": one_class("LLaVAOneVision1_5_", "ForConditionalGeneration", LLAVA_ONEVISION_1_5),
    "step3_vl": one_class("Step3VL", "ForConditionalGeneration", STEP3_VL),
    # Skywork/Skywork-R1V-38B: InternVL under another name
    "skywork_chat": one_class("SkyworkR1VChat", "Model", INTERNVL_CHAT),
    "NVLM_D": one_class("NVLM_D_", "Model", NVLM),
    "ovis": one_class("Ovis", "", OVIS),
    "ovis2_5": one_class("Ovis2_5", "", OVIS2_5),
    # AIDC-AI/Ovis2.6-30B-A3B: the same before a mixture of experts; vLLM, models/ovis2_5.py
    "ovis2_6": one_class("Ovis2_6", "ForCausalLM", OVIS2_5),
    "ovis2_6_moe": one_class("Ovis2_6_Moe", "ForCausalLM", OVIS2_5),
    "eagle_2_5_vl": one_class("Eagle2_5_VL", "ForConditionalGeneration", EAGLE),
    "eagle_3_vl": one_class("Eagle3_VL", "ForConditionalGeneration", EAGLE),
    "videollama3_qwen2": one_class("Videollama3Qwen2", "ForCausalLM", VIDEO_LLAMA3),
    # h2oai/h2ovl-mississippi-2b, modeling_h2ovl_chat.py: InternVL with another language model
    "h2ovl_chat": one_class("H2OVLChat", "Model", INTERNVL_CHAT),
    # internlm/Intern-S1, modeling_interns1.py: the library's InternVL under another name
    "interns1": Family("InternS1", adjusted(speaking(*INTERNVL), interns1), GENERATE, classes=INTERN_S1),
    "internvl_chat": one_class("InternVLChat", "Model", Adjusted(INTERNVL_CHAT, mono)),
    "R": Family("R", normalized(MOUTH), GENERATE, classes=("RForConditionalGeneration", "RModel")),
    "bee": Family("Bee", normalized(times(4, MOUTH)), GENERATE, classes=("BeeForConditionalGeneration", "BeeModel")),
    "minicpmv": one_class("MiniCPMV", "", MINICPMV),
    "phi3_v": one_class("Phi3V", "ForCausalLM", PHI3_V),
    "kimi_vl": one_class("KimiVL", "ForConditionalGeneration", KIMI_VL),
}
