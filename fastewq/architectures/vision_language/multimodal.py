"""Vision-language models: a tower that reads images, a projector, and a language model that also runs alone."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    MAX_ENTRIES,
    TEXT_HEAD,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Embedding,
    Family,
    In,
    Layers,
    Linear,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    When,
    adjusted,
    linears,
    sizes,
    tied,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.decoders.linear_attention import lfm2_tied
from fastewq.architectures.fields import MAX_SIZE, Fields, Size
from fastewq.architectures.heads import Model, labels
from fastewq.architectures.parts import Option, Part, present, unless
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision.clip import VISION
from fastewq.architectures.vision.towers import STEP_WIDTH, TOWERS

EYES: Mapping[str, Model] = {**VISION, **TOWERS}

EYE = "vision_config.hidden_size"
MOUTH = "text_config.hidden_size"


def sees(path: str) -> BodyBuilder:
    """The tower of `vision_config`."""
    return Nested("vision_config", path, EYES)


def speaks(path: str, ending: str = "") -> BodyBuilder:
    """The language model of `text_config`."""
    return Nested("text_config", path, TEXT, ending)


LM_HEAD = Rest(Linear("lm_head", "text_config.vocab_size", MOUTH, False, weight=UNTIED))


OWN_LM_HEAD = Rest(Linear("lm_head", "text_config.vocab_size", MOUTH, False))
"""Never tied, whatever the config says: the class does not name the embedding as its alias."""


def text_untied(f: Fields) -> bool:
    return not tied(f.sub("text_config"))


def untied_everywhere(f: Fields) -> bool:
    return not tied(f) and text_untied(f)


LM_HEAD_OF_EITHER = Rest(Linear("lm_head", "text_config.vocab_size", MOUTH, False, weight=untied_everywhere))
"""Tied where the config or its text config says so: files of the library's version 4 have it in the latter."""


def speaking(*builders: BodyBuilder, lm_head: BodyBuilder = LM_HEAD, **more: BodyBuilder) -> dict[str, BodyBuilder]:
    """The model without and with its language-modelling head; `more` are classes with another head."""
    # nested models first: a type that is not known is named before a projector misses its sizes
    ordered = sorted(builders, key=lambda build: not isinstance(build, Nested))
    inner = At("model", *ordered)
    return {
        "Model": Assembly(*ordered),
        "ForConditionalGeneration": Assembly(inner, lm_head),
        **{name: Assembly(inner, head) for name, head in more.items()},
    }


def once_flat(classes: dict[str, BodyBuilder]) -> dict[str, BodyBuilder]:
    """Model classes whose older files have no `text_config`, but its fields at the top."""
    return adjusted(classes, lambda f: f.unflattened("text_config"))


SCORE = Rest(Linear("score", labels, MOUTH, False))
BIASED_SCORE = Rest(Linear("score", labels, MOUTH))

# -- LLaVA ----------------------------------------------------------------------------------------------------------


def feature_layers(f: Fields) -> int:
    """Layers of the tower whose outputs are concatenated."""
    layers = f.value("vision_feature_layer")
    return len(layers) if isinstance(layers, list | tuple) and layers else 1


def all_features(f: Fields) -> int:
    return f[EYE] * feature_layers(f)


def two_layers(path: str, seen: Size, bias: Option = True) -> Part:
    return Under(path, Linear("linear_1", MOUTH, seen, bias), Linear("linear_2", MOUTH, MOUTH, bias))


LLAVA_PROJECTOR = Rest(two_layers("multi_modal_projector", all_features, "multimodal_projector_bias"))
LLAVA = (sees("vision_tower"), LLAVA_PROJECTOR, speaks("language_model"))
LLAVA_NEXT = (Rest(Parameter("image_newline", (MOUTH,))), *LLAVA)

# -- projectors that merge neighbouring patches ---------------------------------------------------------------------


def shuffled(f: Fields) -> int:
    """Features of a pixel-shuffled token: InternVL's `downsample_ratio` squared."""
    return f[EYE] * int(1 / f.number("downsample_ratio", low=1e-3)) ** 2


INTERNVL = (
    sees("vision_tower"),
    Rest(Norm("multi_modal_projector.layer_norm", shuffled), two_layers("multi_modal_projector", shuffled)),
    speaks("language_model"),
)
IDEFICS3 = (
    sees("vision_model"),
    Rest(
        Linear(
            "connector.modality_projection.proj", MOUTH, "vision_config.hidden_size*scale_factor*scale_factor", False
        )
    ),
    speaks("text_model"),
)
MISTRAL3 = (
    sees("vision_tower"),
    Rest(
        Under(
            "multi_modal_projector",
            Norm("norm", EYE, False),
            Linear(
                "patch_merger.merging_layer",
                EYE,
                "vision_config.hidden_size*spatial_merge_size*spatial_merge_size",
                False,
            ),
            Linear("linear_1", MOUTH, all_features, "multimodal_projector_bias"),
            Linear("linear_2", MOUTH, MOUTH, "multimodal_projector_bias"),
        )
    ),
    speaks("language_model"),
)


def kimi_merged(f: Fields) -> int:
    rows, columns = sizes(f.sub("vision_config"), "merge_kernel_size", 2)[:2]
    return f[EYE] * rows * columns


def step_width(f: Fields) -> int:
    """Features after Step's two strided convolutions."""
    return 4 * STEP_WIDTH(f.sub("vision_config"))


KIMI_K25 = (
    sees("vision_tower"),
    Rest(
        Under(
            "mm_projector",
            Norm("pre_norm", "projection_hidden_size"),
            Linear("in_proj", kimi_merged, kimi_merged),
            Linear("out_proj", MOUTH, kimi_merged),
        )
    ),
    speaks("language_model"),
)
GEMMA3 = (
    sees("vision_tower"),
    Rest(
        Parameter("multi_modal_projector.mm_input_projection_weight", (EYE, MOUTH), "linear"),
        Norm("multi_modal_projector.mm_soft_emb_norm", EYE, False),
    ),
    speaks("language_model"),
)
PALIGEMMA = (
    sees("vision_tower"),
    Rest(Linear("multi_modal_projector.linear", "projection_dim", EYE)),
    speaks("language_model"),
)
GEMMA4 = (
    Only(
        present("vision_config"),
        sees("vision_tower"),
        Rest(Linear("embed_vision.embedding_projection", MOUTH, EYE, False)),
    ),
    speaks("language_model"),
    Only(
        present("audio_config"),
        Nested("audio_config", "audio_tower", TOWERS),
        Rest(Linear("embed_audio.embedding_projection", MOUTH, "audio_config.output_proj_dims", False)),
    ),
)
HYPERCLOVAX = (
    sees("vision_model"),
    Rest(Linear("projector", MOUTH, "vision_config.out_hidden_size")),
    speaks("language_model"),
)


def tower_of_qwen(f: Fields) -> Fields:
    """HyperCLOVA X's files name the whole of Qwen2.5-VL where they mean its tower."""
    nested = f.value("vision_config", None)
    if not isinstance(nested, Mapping) or nested.get("model_type") != "qwen2_5_vl":
        return f
    return f.replaced(vision_config={**nested, "model_type": "qwen2_5_vl_vision"})


def unified_patch(f: Fields) -> int:
    """Numbers in one patch of several, of three colours."""
    return 3 * (f["patch_size"] * f["pooling_kernel_size"]) ** 2


def sound_width(f: Fields) -> int:
    """Samples of a sound that become one token; the class takes the width from any of four names."""
    names = [name for name in ("hidden_size", "output_proj_dims", "audio_samples_per_token") if f.has(name)]
    widths = {f[name] for name in names}
    if len(widths) > 1:
        raise f.refuse(names[0], f[names[0]], f"the same as {names[1]}")
    return widths.pop() if widths else f["audio_embed_dim"]


GEMMA4_UNIFIED = (
    Only(
        present("vision_config"),
        In(
            "vision_config",
            Rest(
                Norm("patch_ln1", unified_patch),
                Linear("patch_dense", "mm_embed_dim", unified_patch),
                Norm("patch_ln2", "mm_embed_dim"),
                Parameter("pos_embedding", ("mm_posemb_size", 2, "mm_embed_dim"), "embedding"),
                Norm("pos_norm", "mm_embed_dim"),
                Linear("multimodal_embedder.embedding_projection", "spoken", "output_proj_dims", False),
            ),
            path="embed_vision",
            spoken=MOUTH,
        ),
    ),
    speaks("language_model"),
    Only(
        present("audio_config"),
        In(
            "audio_config",
            Rest(Linear("embedding_projection", "spoken", sound_width, False)),
            path="embed_audio",
            spoken=MOUTH,
        ),
    ),
)


def into_gemma3n(kind: str) -> BodyBuilder:
    """What brings images or sounds into the text model: words of their own, norms, a projection."""
    width = f"{kind}_config.hidden_size"
    return Rest(
        Under(
            f"embed_{kind}",
            Embedding("embedding", f"{kind}_config.vocab_size", width),
            Norm("hard_embedding_norm", width, False),
            Norm("soft_embedding_norm", width, False),
            Linear("embedding_projection", MOUTH, width, False),
        )
    )


GEMMA3N = (
    Nested("vision_config", "vision_tower", TOWERS),
    speaks("language_model"),
    Nested("audio_config", "audio_tower", TOWERS),
    into_gemma3n("vision"),
    into_gemma3n("audio"),
)
STEP3P7 = (
    sees("vision_model"),
    speaks("language_model"),
    Rest(Linear("multi_modal_projector", MOUTH, step_width, "projector_bias")),
)
QWEN_VL = (sees("visual"), speaks("language_model"))
EXAONE4_5 = (
    sees("visual"),
    Nested("text_config", "language_model", {**TEXT, "exaone4_5_text": TEXT["exaone4"]}),
)
LLAMA4 = Assembly(
    sees("vision_model"),
    Rest(Linear("multi_modal_projector.linear_1", MOUTH, "vision_config.vision_output_dim", False)),
    speaks("language_model", "ForCausalLM"),
)


def sampled(factor: str) -> Size:
    """Features of the neighbouring patches that become one token."""
    return lambda f: f[EYE] * f[factor] ** 2


VIP_LLAVA = (
    sees("vision_tower"),
    Rest(
        Norm("multi_modal_projector.projector_layernorm", all_features),
        two_layers("multi_modal_projector", all_features),
    ),
    speaks("language_model"),
)
VIDEO_LLAVA = (
    Nested("vision_config", "video_tower", EYES, name="video"),
    Nested("vision_config", "image_tower", EYES, name="vision"),
    *LLAVA[1:],
)


def gated_merge(width: Size, *extra: Part) -> Part:
    """Two layers with a SwiGLU between them, which halves the width."""
    return Under(
        "multi_modal_projector",
        *extra,
        Linear("linear_1", width, sampled("downsample_factor")),
        Linear("linear_2", MOUTH, lambda f: f[width] // 2),
    )


def aya_width(f: Fields) -> int:
    return f["alignment_intermediate_size"] if f.has("alignment_intermediate_size") else f[MOUTH]


COHERE2_VISION = (sees("vision_tower"), Rest(gated_merge("alignment_intermediate_size")), speaks("language_model"))
AYA_VISION = (
    sees("vision_tower"),
    Rest(gated_merge(aya_width, Norm("layernorm", sampled("downsample_factor")))),
    speaks("language_model"),
)
LFM2_VL = (
    sees("vision_tower"),
    Rest(
        Under(
            "multi_modal_projector",
            When("projector_use_layernorm", Norm("layer_norm", sampled("downsample_factor"))),
            Linear("linear_1", "projector_hidden_size", sampled("downsample_factor"), "projector_bias"),
            Linear("linear_2", MOUTH, "projector_hidden_size", "projector_bias"),
        )
    ),
    speaks("language_model"),
)
LFM2_HEAD = Rest(Linear("lm_head", "text_config.vocab_size", MOUTH, False, weight=unless(lfm2_tied)))
GOT_OCR2 = (
    sees("vision_tower"),
    Rest(
        Under(
            "multi_modal_projector",
            Convolution(
                "conv_upsampler1",
                "2*vision_config.output_channels",
                "vision_config.output_channels",
                (3, 3),
                bias=False,
            ),
            Convolution("conv_upsampler2", MOUTH, "2*vision_config.output_channels", (3, 3), bias=False),
            Linear("multimodal_projector", MOUTH, MOUTH),
        )
    ),
    speaks("language_model"),
)
OVIS2 = (
    sees("vision_tower"),
    speaks("language_model"),
    Rest(Embedding("visual_embeddings_table", "vision_config.vocab_size", "hidden_size")),
)
MLLAMA = (
    sees("vision_model"),
    speaks("language_model"),
    Rest(Linear("multi_modal_projector", MOUTH, "vision_config.vision_output_dim")),
)


def merged_features(f: Fields) -> int:
    """Of the neighbouring patches that become one token."""
    return f[EYE] * f.sub("vision_config")["spatial_merge_size"] ** 2


DEEPSEEK_VL = (
    sees("vision_model"),
    Rest(Linear("aligner.linear1", MOUTH, EYE), Linear("aligner.linear2", MOUTH, MOUTH)),
    speaks("language_model"),
)
FUYU = (
    speaks("language_model"),
    Rest(Linear("vision_embed_tokens", MOUTH, "patch_size*patch_size*num_channels")),
)
PADDLE_OCR = (
    sees("visual"),
    speaks("language_model"),
    Rest(
        Norm("projector.pre_norm", EYE),
        Linear("projector.linear_1", merged_features, merged_features),
        Linear("projector.linear_2", MOUTH, merged_features),
    ),
)
LIGHTON_OCR = (
    sees("vision_encoder"),
    Rest(
        Under(
            "vision_projection",
            Norm("norm", EYE, False),
            Linear("patch_merger.merging_layer", EYE, sampled("spatial_merge_size"), False),
            Linear("linear_1", MOUTH, EYE, False),
            Linear("linear_2", MOUTH, MOUTH, False),
        )
    ),
    speaks("language_model"),
)
VIDEO_LLAMA3 = (
    sees("vision_model"),
    Rest(Linear("projector.readout.0", MOUTH, EYE), Linear("projector.readout.2", MOUTH, MOUTH)),
    speaks("language_model"),
)

# -- perceivers: latent queries read the image ------------------------------------------------------------------------

IDEFICS2_PERCEIVER = Assembly(
    Rest(Parameter("latents", ("resampler_n_latents", WIDTH)), Norm("norm", bias=False)),
    Layers(
        "layers",
        (
            Norm("input_latents_norm", bias=False),
            Norm("input_context_norm", bias=False),
            Linear("self_attn.q_proj", "resampler_n_heads*resampler_head_dim", WIDTH, False),
            *linears("self_attn", "k_proj v_proj", "num_key_value_heads*resampler_head_dim", WIDTH, False),
            Linear("self_attn.o_proj", WIDTH, "resampler_n_heads*resampler_head_dim", False),
            Norm("post_attention_layernorm", bias=False),
            *linears("mlp", "gate_proj up_proj", "4*hidden_size", WIDTH, False),
            Linear("mlp.down_proj", WIDTH, "4*hidden_size", False),
        ),
        count="resampler_depth",
        name="resampler",
        role="vision",
        heads="resampler_n_heads",
        kv_heads="num_key_value_heads",
        head_dim="resampler_head_dim",
        ffn="4*hidden_size",
        norm="rms",
    ),
)
IDEFICS2 = (
    sees("vision_model"),
    Rest(
        Under(
            "connector.modality_projection",
            *linears("", "gate_proj up_proj", "text_config.intermediate_size", EYE, False),
            Linear("down_proj", MOUTH, "text_config.intermediate_size", False),
        )
    ),
    In("perceiver_config", IDEFICS2_PERCEIVER, path="connector.perceiver_resampler", hidden_size=MOUTH),
    speaks("text_model"),
)


def aria_queries(f: Fields) -> int:
    """Queries for the largest image: the highest value of `projector_patch_to_query_dict`."""
    if f.has("max_value_projector_patch_to_query_dict"):
        return f["max_value_projector_patch_to_query_dict"]
    table = f.value("projector_patch_to_query_dict", None)
    if table is None:
        return 256
    values = list(table.values()) if isinstance(table, Mapping) else []
    if not values or len(values) > MAX_ENTRIES or not all(type(v) is int and 0 < v <= MAX_SIZE for v in values):
        raise f.refuse("projector_patch_to_query_dict", table, "an object of positive integers")
    return int(max(values))


ARIA = (
    sees("vision_tower"),
    Rest(
        Under(
            "multi_modal_projector",
            Parameter("query", (aria_queries, EYE)),
            *linears("cross_attn", "q_proj k_proj v_proj", EYE, EYE, False),
            Parameter("cross_attn.multihead_attn.in_proj_weight", ("3*vision_config.hidden_size", EYE), "linear"),
            Parameter("cross_attn.multihead_attn.in_proj_bias", ("3*vision_config.hidden_size",), "bias"),
            Linear("cross_attn.multihead_attn.out_proj", EYE, EYE),
            Linear("cross_attn.linear", EYE, EYE),
            Norm("cross_attn.layer_norm", EYE),
            Norm("cross_attn.layer_norm_kv", EYE),
            Norm("layer_norm", EYE),
            Linear("feed_forward.linear_in", MOUTH, EYE, False),
            Linear("feed_forward.linear_out", MOUTH, MOUTH, False),
        )
    ),
    speaks("language_model"),
)

MINIMAX_M3 = (
    sees("vision_tower"),
    Rest(
        Under(
            "multi_modal_projector",
            Linear("linear_1", "projector_hidden_size", EYE),
            Linear("linear_2", MOUTH, "projector_hidden_size"),
            Linear(
                "merge_linear_1",
                "projector_hidden_size",
                lambda f: f[MOUTH] * f.sub("vision_config")["spatial_merge_size"] ** 2,
            ),
            Linear("merge_linear_2", MOUTH, "projector_hidden_size"),
        )
    ),
    speaks("language_model"),
)

GENERATE = "ForConditionalGeneration"
MULTIMODAL: dict[str, Family] = {
    "llava": Family("Llava", speaking(*LLAVA, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "llava_next": Family("LlavaNext", speaking(*LLAVA_NEXT), GENERATE),
    "llava_next_video": Family("LlavaNextVideo", speaking(*LLAVA_NEXT, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "llava_onevision": Family("LlavaOnevision", speaking(*LLAVA_NEXT, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "qwen2_vl": Family("Qwen2VL", once_flat(speaking(*QWEN_VL, lm_head=LM_HEAD_OF_EITHER)), GENERATE),
    "qwen2_5_vl": Family("Qwen2_5_VL", once_flat(speaking(*QWEN_VL, lm_head=LM_HEAD_OF_EITHER)), GENERATE),
    "qwen3_vl": Family("Qwen3VL", speaking(*QWEN_VL), GENERATE),
    "qwen3_vl_moe": Family("Qwen3VLMoe", speaking(*QWEN_VL), GENERATE),
    "qwen3_5": Family(
        "Qwen3_5",
        speaking(*QWEN_VL, ForSequenceClassification=SCORE, ForTokenClassification=BIASED_SCORE),
        GENERATE,
    ),
    "qwen3_5_moe": Family("Qwen3_5Moe", speaking(*QWEN_VL), GENERATE),
    "glm4v": Family("Glm4v", speaking(*QWEN_VL, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "glm4v_moe": Family("Glm4vMoe", speaking(*QWEN_VL, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    **dict.fromkeys(("glm46v", "glmga"), Family("Glm46V", speaking(*QWEN_VL), GENERATE)),
    "exaone4_5": Family("Exaone4_5_", speaking(*EXAONE4_5), GENERATE),
    "internvl": Family("InternVL", speaking(*INTERNVL), GENERATE),
    "qianfan_ocr": Family("QianfanOCR", speaking(*INTERNVL), GENERATE),
    "idefics3": Family("Idefics3", speaking(*IDEFICS3), GENERATE),
    "smolvlm": Family("SmolVLM", speaking(*IDEFICS3), GENERATE),
    "mistral3": Family("Mistral3", speaking(*MISTRAL3), GENERATE),
    "mistral_large4": Family("MistralLarge4", speaking(*MISTRAL3), GENERATE),
    "kimi_k25": Family("Kimi_K25", speaking(*KIMI_K25), GENERATE, classes=("KimiK25ForConditionalGeneration",)),
    "gemma3": Family("Gemma3", speaking(*GEMMA3, ForSequenceClassification=SCORE), GENERATE),
    "shieldgemma2": Family(
        "ShieldGemma2",
        {"ForImageClassification": At("model", speaking(*GEMMA3, lm_head=LM_HEAD_OF_EITHER)[GENERATE])},
        "ForImageClassification",
        "ForImageClassification",
    ),
    "gemma3n": Family("Gemma3n", speaking(*GEMMA3N), GENERATE),
    "gemma4_unified": Family("Gemma4Unified", speaking(*GEMMA4_UNIFIED), GENERATE),
    "gemma4": Family("Gemma4", speaking(*GEMMA4), GENERATE),
    "embedding_gemma2": Family("EmbeddingGemma2", {"Model": Assembly(*GEMMA4)}),
    "hyperclovax_vision_v2": Family("HyperCLOVAXVisionV2", adjusted(speaking(*HYPERCLOVAX), tower_of_qwen), GENERATE),
    "paligemma": Family("PaliGemma", speaking(*PALIGEMMA), GENERATE),
    "vipllava": Family("VipLlava", speaking(*VIP_LLAVA), GENERATE),
    "video_llava": Family("VideoLlava", speaking(*VIDEO_LLAVA), GENERATE),
    "cohere2_vision": Family("Cohere2Vision", speaking(*COHERE2_VISION), GENERATE),
    "aya_vision": Family("AyaVision", speaking(*AYA_VISION), GENERATE),
    "lfm2_vl": Family("Lfm2Vl", speaking(*LFM2_VL, lm_head=LFM2_HEAD), GENERATE, tied=lfm2_tied),
    "lfm2-vl": Family("Lfm2Vl", speaking(*LFM2_VL, lm_head=LFM2_HEAD), GENERATE, tied=lfm2_tied),
    "got_ocr2": Family("GotOcr2", speaking(*GOT_OCR2), GENERATE),
    "glm_ocr": Family("GlmOcr", speaking(*QWEN_VL, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "paddleocr_vl": Family("PaddleOCRVL", once_flat(speaking(*PADDLE_OCR, lm_head=LM_HEAD_OF_EITHER)), GENERATE),
    "lighton_ocr": Family("LightOnOcr", speaking(*LIGHTON_OCR), GENERATE),
    "video_llama_3": Family("VideoLlama3", speaking(*VIDEO_LLAMA3, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "ovis2": Family("Ovis2", speaking(*OVIS2, lm_head=TEXT_HEAD), GENERATE),
    "mllama": Family("Mllama", speaking(*MLLAMA, lm_head=OWN_LM_HEAD), GENERATE),
    "idefics2": Family("Idefics2", speaking(*IDEFICS2), GENERATE),
    "aria": Family("Aria", speaking(*ARIA), GENERATE),
    "llama4": Family("Llama4", {"ForConditionalGeneration": LLAMA4}, GENERATE, base=GENERATE),
    "deepseek_vl": Family("DeepseekVL", speaking(*DEEPSEEK_VL), GENERATE),
    "fuyu": Family(
        "Fuyu", {"Model": Assembly(*FUYU), "ForCausalLM": Assembly(At("model", *FUYU), LM_HEAD)}, "ForCausalLM"
    ),
    "minimax_m3_vl": Family(
        "MiniMaxM3VL",
        speaking(*MINIMAX_M3, lm_head=LM_HEAD_OF_EITHER),
        GENERATE,
        classes=("MiniMaxM3SparseForConditionalGeneration",),
    ),
    "step3p7": Family("Step3p7", speaking(*STEP3P7), GENERATE),
}
