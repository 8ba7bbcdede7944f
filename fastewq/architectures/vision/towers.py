"""The towers of vision-language models: what turns patches of an image, or frames of a sound, into tokens."""

from __future__ import annotations

from collections.abc import Callable

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    MAX_ENTRIES,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Embedding,
    Family,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    Variant,
    When,
    linears,
    pair,
    patches,
    plus,
    quotient,
    scaled,
    times,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Part, unless
from fastewq.architectures.vision.clip import CLIP_LAYER, PATCH_KERNEL, plain_layer, vision_layers
from fastewq.architectures.vision.gemma_towers import GEMMA_TOWERS
from fastewq.architectures.vision.qwen_towers import PATCH_VOLUME, QWEN_TOWERS

# -- GLM-V ----------------------------------------------------------------------------------------------------------

GLM4V_TOWER = Assembly(
    Rest(
        Embedding("embeddings.position_embedding", patches),
        Convolution("patch_embed.proj", WIDTH, "in_channels", PATCH_VOLUME),
        Norm("post_conv_layernorm", bias=False),
        Norm("post_layernorm", bias=False),
        Convolution("downsample", "out_hidden_size", WIDTH, ("spatial_merge_size", "spatial_merge_size")),
        Linear("merger.proj", "out_hidden_size", "out_hidden_size", False),
        Norm("merger.post_projection_norm", "out_hidden_size"),
        *linears("merger", "gate_proj up_proj", FFN, "out_hidden_size", False),
        Linear("merger.down_proj", "out_hidden_size", FFN, False),
    ),
    vision_layers(
        "blocks",
        Norm("norm1", bias=False),
        Norm("norm2", bias=False),
        Linear("attn.qkv", "3*hidden_size", WIDTH, "attention_bias"),
        Linear("attn.proj", WIDTH, WIDTH, False),
        *linears("mlp", "gate_proj up_proj", "out_hidden_size", WIDTH, False),
        Linear("mlp.down_proj", WIDTH, "out_hidden_size", False),
        count="depth",
        heads="num_heads",
        ffn="out_hidden_size",
        norm="rms",
    ),
)

# -- Pixtral, Llama 4, Kimi, Idefics ----------------------------------------------------------------------------------

PIXTRAL = Assembly(
    Rest(Convolution("patch_conv", WIDTH, "num_channels", PATCH_KERNEL, bias=False), Norm("ln_pre", bias=False)),
    vision_layers(
        "transformer.layers",
        Norm("attention_norm", bias=False),
        *linears("feed_forward", "gate_proj up_proj", FFN, WIDTH, False),
        Linear("feed_forward.down_proj", WIDTH, FFN, False),
        *linears("attention", "k_proj v_proj q_proj o_proj", bias=False),
        Norm("ffn_norm", bias=False),
        norm="rms",
    ),
)
LLAMA4_VISION = Assembly(
    Rest(
        Parameter("class_embedding", (WIDTH,)),
        Parameter("positional_embedding_vlm", (plus(patches, 1), WIDTH), "embedding"),
        Linear("patch_embedding.linear", WIDTH, "num_channels*patch_size*patch_size", False),
        Norm("layernorm_pre"),
        Norm("layernorm_post"),
        Linear("vision_adapter.mlp.fc1", "projector_input_dim", FFN, False),
        Linear("vision_adapter.mlp.fc2", "projector_output_dim", "projector_output_dim", False),
    ),
    vision_layers("model.layers", *plain_layer("self_attn", "o_proj", ("input_layernorm", "post_attention_layernorm"))),
)
KIMI_K25_VISION = Assembly(
    Rest(
        Convolution("patch_embed.proj", WIDTH, 3, ("patch_size", "patch_size")),
        Parameter("patch_embed.pos_emb.position_embeddings", ("pos_emb_height", "pos_emb_width", WIDTH), "embedding"),
        Norm("final_layernorm"),
    ),
    vision_layers("layers", *plain_layer("attn", "proj", ("norm1", "norm2"))),
)
IDEFICS_VISION = Assembly(
    Rest(
        Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL),
        Embedding("embeddings.position_embedding", patches),
        Norm("post_layernorm"),
    ),
    vision_layers("encoder.layers", *CLIP_LAYER),
)

# -- InternVL and Step: layer scale, optional parts -------------------------------------------------------------------


def layer_norms(f: Fields) -> bool:
    return bool(f.choice("norm_type", ("layer_norm", "rms_norm")) == "layer_norm")


def internvl_tower(layers: str) -> BodyBuilder:
    """A tower with layer scale; `layers` is the path of its blocks."""
    return Assembly(
        Rest(
            Under(
                "embeddings",
                Parameter("cls_token", (1, 1, WIDTH)),
                When("use_mask_token", Parameter("mask_token", (1, 1, WIDTH))),
                When(
                    "use_absolute_position_embeddings",
                    Parameter("position_embeddings", (1, plus(patches, 1), WIDTH), "embedding"),
                ),
                Convolution("patch_embeddings.projection", WIDTH, "num_channels", PATCH_KERNEL),
            ),
            When(unless("use_mean_pooling"), Norm("layernorm")),
        ),
        vision_layers(
            layers,
            Parameter("lambda_1", (WIDTH,)),
            Parameter("lambda_2", (WIDTH,)),
            *linears("attention", "q_proj k_proj v_proj", bias="attention_bias"),
            Linear("attention.projection_layer", WIDTH, WIDTH),
            When("use_qk_norm", Norm("attention.q_norm", bias=False), Norm("attention.k_norm", bias=False)),
            Linear("mlp.fc1", FFN, WIDTH),
            Linear("mlp.fc2", WIDTH, FFN),
            Norm("layernorm_before", bias=layer_norms),
            Norm("layernorm_after", bias=layer_norms),
        ),
    )


INTERNVL_VISION = internvl_tower("encoder.layer")


def step_field(name: str, older: str) -> Callable[[Fields], int]:
    """A field of Step's vision config, which may have an older spelling that goes first."""
    return lambda f: f[older] if f.has(older) else f[name]


STEP_WIDTH = step_field(WIDTH, "width")
STEP_FFN: Size = scaled(STEP_WIDTH, "mlp_ratio")
STEP_VISION = Assembly(
    Rest(
        Convolution("embeddings.patch_embedding", STEP_WIDTH, "num_channels", PATCH_KERNEL, bias=False),
        Embedding("embeddings.position_embedding", patches, STEP_WIDTH),
        Norm("pre_layernorm", STEP_WIDTH),
        Convolution("downsampler1", times(2, STEP_WIDTH), STEP_WIDTH, (3, 3)),
        Convolution("downsampler2", times(4, STEP_WIDTH), times(2, STEP_WIDTH), (3, 3)),
    ),
    vision_layers(
        "layers",
        Parameter("lambda_1", (STEP_WIDTH,)),
        Parameter("lambda_2", (STEP_WIDTH,)),
        *linears("self_attn", "k_proj v_proj q_proj out_proj", STEP_WIDTH, STEP_WIDTH),
        Linear("mlp.fc1", STEP_FFN, STEP_WIDTH),
        Linear("mlp.fc2", STEP_WIDTH, STEP_FFN),
        Norm("layernorm_before", STEP_WIDTH),
        Norm("layernorm_after", STEP_WIDTH),
        count=step_field("num_hidden_layers", "layers"),
        width=STEP_WIDTH,
        heads=step_field(HEADS, "heads"),
        ffn=STEP_FFN,
    ),
)

# -- Mllama: a local and a global transformer over tiles ---------------------------------------------------------------

MLLAMA_LAYER: tuple[Part, ...] = (
    *linears("self_attn", "q_proj k_proj v_proj o_proj", bias=False),
    Linear("mlp.fc1", FFN, WIDTH),
    Linear("mlp.fc2", WIDTH, FFN),
    Norm("input_layernorm"),
    Norm("post_attention_layernorm"),
)


def aspect_ratios(f: Fields) -> int:
    """Rows of the tables by aspect ratio: the ratios and the padding."""
    ratios = f.value("supported_aspect_ratios", None)
    if ratios is None:
        return 9
    if not isinstance(ratios, list | tuple) or len(ratios) > MAX_ENTRIES:
        raise f.refuse("supported_aspect_ratios", ratios, f"a list of at most {MAX_ENTRIES} pairs")
    return len(ratios) + 1


def tile_positions(f: Fields) -> int:
    return f["max_num_tiles"] * (patches(f) + 1) * f[WIDTH]


MLLAMA_VISION = Assembly(
    Rest(
        Parameter("class_embedding", (WIDTH,)),
        Convolution("patch_embedding", WIDTH, "num_channels", PATCH_KERNEL, bias=False),
        Parameter("gated_positional_embedding.gate", (1,)),
        Parameter("gated_positional_embedding.embedding", (plus(patches, 1), WIDTH), "embedding"),
        Embedding("gated_positional_embedding.tile_embedding", aspect_ratios, tile_positions),
        *(
            part
            for name in ("pre", "post")
            for part in (
                Parameter(f"{name}_tile_positional_embedding.gate", (1,)),
                Embedding(f"{name}_tile_positional_embedding.embedding", aspect_ratios, "max_num_tiles*hidden_size"),
            )
        ),
        Norm("layernorm_pre"),
        Norm("layernorm_post"),
    ),
    vision_layers("transformer.layers", *MLLAMA_LAYER, heads="attention_heads"),
    vision_layers(
        "global_transformer.layers",
        *MLLAMA_LAYER,
        Parameter("gate_attn", (1,)),
        Parameter("gate_ffn", (1,)),
        count="num_global_layers",
        name="vision_global",
        heads="attention_heads",
    ),
)

# -- documents: GLM-OCR, PaddleOCR, GOT-OCR ---------------------------------------------------------------------------

OUT = "out_hidden_size"


def glm_ocr_context(f: Fields) -> int:
    return f[OUT] * f["in_channels"]


def glm_ocr_tower(context: Size) -> BodyBuilder:
    """Fused attention with normed queries and keys; `context` is the inner width of the merger."""
    return Assembly(
        Rest(
            Convolution("patch_embed.proj", WIDTH, "in_channels", PATCH_VOLUME),
            Norm("post_layernorm", bias=False),
            Convolution("downsample", OUT, WIDTH, ("spatial_merge_size", "spatial_merge_size")),
            Linear("merger.proj", OUT, OUT, False),
            Norm("merger.post_projection_norm", OUT),
            *linears("merger", "gate_proj up_proj", context, OUT, False),
            Linear("merger.down_proj", OUT, context, False),
        ),
        vision_layers(
            "blocks",
            Norm("norm1", bias=False),
            Norm("norm2", bias=False),
            Linear("attn.qkv", "3*hidden_size", WIDTH, "attention_bias"),
            Linear("attn.proj", WIDTH, WIDTH, "attention_bias"),
            Norm("attn.q_norm", quotient(WIDTH, "num_heads"), False),
            Norm("attn.k_norm", quotient(WIDTH, "num_heads"), False),
            *linears("mlp", "gate_proj up_proj", FFN, WIDTH, "attention_bias"),
            Linear("mlp.down_proj", WIDTH, FFN, "attention_bias"),
            count="depth",
            heads="num_heads",
            norm="rms",
        ),
    )


GLM_OCR_VISION = glm_ocr_tower(glm_ocr_context)
PADDLE_OCR_VISION = At("vision_model", IDEFICS_VISION)


def got_positions(window: bool, attention: str = "attn", option: str = "use_rel_pos") -> tuple[Part, ...]:
    """Relative positions along both sides, of the window or of the whole image."""

    def rows(axis: int) -> Size:
        def count(f: Fields) -> int:
            whole = pair(f, "image_size")[axis] // pair(f, "patch_size")[axis]
            return 2 * (f["window_size"] if window else whole) - 1

        return count

    dim = quotient(WIDTH, HEADS)
    return tuple(
        When(option, Parameter(f"{attention}.rel_pos_{axis}", (rows(i), dim), "embedding"))
        for i, axis in enumerate("hw")
    )


def got_schedule(f: Fields, count: int) -> list[str]:
    whole = f.value("global_attn_indexes")
    if not isinstance(whole, list | tuple) or not all(type(i) is int for i in whole):
        raise f.refuse("global_attn_indexes", whole, "a list of layer indices")
    windowed = f.count("window_size") > 0
    return ["window" if windowed and i not in whole else "whole" for i in range(count)]


GOT_OCR_VISION = Assembly(
    Rest(
        When(
            "use_abs_pos",
            Parameter(
                "pos_embed",
                (1, quotient("image_size", "patch_size"), quotient("image_size", "patch_size"), WIDTH),
                "embedding",
            ),
        ),
        Convolution("patch_embed.projection", WIDTH, "num_channels", PATCH_KERNEL),
        Convolution("neck.conv1", "output_channels", WIDTH, (1, 1), bias=False),
        Norm("neck.layer_norm1", "output_channels"),
        Convolution("neck.conv2", "output_channels", "output_channels", (3, 3), bias=False),
        Norm("neck.layer_norm2", "output_channels"),
    ),
    vision_layers(
        "layers",
        Norm("layer_norm1"),
        Linear("attn.qkv", "3*hidden_size", WIDTH, "qkv_bias"),
        Linear("attn.proj", WIDTH, WIDTH),
        Norm("layer_norm2"),
        Linear("mlp.lin1", "mlp_dim", WIDTH),
        Linear("mlp.lin2", WIDTH, "mlp_dim"),
        ffn="mlp_dim",
        variants={"window": Variant(got_positions(window=True)), "whole": Variant(got_positions(window=False))},
        schedule=got_schedule,
    ),
)
VIDEO_LLAMA3_VISION = Assembly(
    Rest(Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL), Norm("post_layernorm")),
    vision_layers("encoder.layers", *CLIP_LAYER),
)


def ovis_words(f: Fields) -> int:
    """Visual words that the tower itself can produce; the rest are marks around an image."""
    return f["vocab_size"] - f.count("num_visual_indicator_tokens")


def ovis_features(f: Fields) -> int:
    return f[WIDTH] * f["hidden_stride"] ** 2


OVIS2_VISION = Assembly(
    At(
        "transformer",
        Rest(
            Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL),
            Embedding("embeddings.position_embedding", patches),
            Norm("embeddings.rms_norm", bias=False),
            Norm("rms_norm", bias=False),
        ),
        vision_layers(
            "encoder.layers",
            *linears("attention", "k_proj v_proj q_proj out_proj", bias="qkv_bias"),
            *linears("ffn", "gate_proj up_proj", FFN, WIDTH, "mlp_bias"),
            Linear("ffn.down_proj", WIDTH, FFN, "mlp_bias"),
            Norm("rms_norm1", bias=False),
            Norm("rms_norm2", bias=False),
            norm="rms",
        ),
    ),
    Rest(Linear("head_linear", ovis_words, ovis_features, False), Norm("head_norm", ovis_words)),
)

MINIMAX_M3_VISION = Assembly(
    Rest(
        Convolution(
            "embeddings.proj", WIDTH, "num_channels", ("temporal_patch_size", "patch_size", "patch_size"), bias=False
        ),
        Norm("pre_layrnorm"),
    ),
    vision_layers("layers", *CLIP_LAYER),
)

TOWERS: dict[str, Family] = {
    **QWEN_TOWERS,
    **GEMMA_TOWERS,
    "minimax_m3_vl_vision": Family("MiniMaxM3VLVision", {"Model": MINIMAX_M3_VISION}),
    "glm4v_vision": Family("Glm4vVision", {"Model": GLM4V_TOWER}),
    "glm4v_moe_vision": Family("Glm4vMoeVision", {"Model": GLM4V_TOWER}),
    "pixtral": Family("PixtralVision", {"Model": PIXTRAL}),
    "llama4_vision_model": Family("Llama4Vision", {"Model": LLAMA4_VISION}),
    "kimi_k25_vision": Family("Kimi_K25Vision", {"Model": KIMI_K25_VISION}),
    "idefics3_vision": Family("Idefics3Vision", {"Transformer": IDEFICS_VISION}, "Transformer", "Transformer"),
    "smolvlm_vision": Family("SmolVLMVision", {"Transformer": IDEFICS_VISION}, "Transformer", "Transformer"),
    "idefics2_vision": Family("Idefics2Vision", {"Transformer": IDEFICS_VISION}, "Transformer", "Transformer"),
    "internvl_vision": Family("InternVLVision", {"Model": INTERNVL_VISION}),
    "qianfan_ocr_vision": Family("QianfanOCRVision", {"Model": internvl_tower("layers")}),
    "mllama_vision_model": Family("MllamaVision", {"Model": MLLAMA_VISION}),
    "glm_ocr_vision": Family("GlmOcrVision", {"Model": GLM_OCR_VISION}),
    "paddleocr_vl_vision": Family("PaddleOCRVision", {"Model": PADDLE_OCR_VISION}),
    "got_ocr2_vision": Family("GotOcr2Vision", {"Model": GOT_OCR_VISION}),
    "video_llama_3_vision": Family("VideoLlama3Vision", {"Model": VIDEO_LLAMA3_VISION}),
    "ovis2_vision": Family("Ovis2Vision", {"Model": OVIS2_VISION}),
    "step3p5_vision": Family("Step3p7Vision", {"Model": STEP_VISION}),
}
