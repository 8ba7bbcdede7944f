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
    Each,
    Embedding,
    Family,
    Layers,
    Linear,
    Norm,
    Parameter,
    Rest,
    Under,
    Variant,
    When,
    entry,
    length,
    linears,
    pair,
    patches,
    plus,
    quotient,
    scaled,
    sizes,
    times,
    unless,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Part, Tensors, parameter
from fastewq.architectures.vision import CLIP_LAYER, PATCH_KERNEL, vision_layers

# -- the Qwen-VL line -----------------------------------------------------------------------------------------------

PATCH_VOLUME = ("temporal_patch_size", "patch_size", "patch_size")


def merged(width: Size) -> Size:
    """Features of the patches that are merged into one token."""
    return lambda f: f[width] * f["spatial_merge_size"] ** 2


def qwen_tower(
    *mlp: Part,
    width: str = WIDTH,
    ffn: Size = FFN,
    norm_bias: Option = True,
    patch_bias: Option = False,
    kv_heads: str = "num_heads",
) -> BodyBuilder:
    """Fused attention, two norms and the feed-forward `mlp` in every block."""

    def qkv(f: Fields) -> int:
        return f[width] + 2 * f[kv_heads] * (f[width] // f["num_heads"])

    return Assembly(
        Rest(Convolution("patch_embed.proj", width, "in_channels", PATCH_VOLUME, patch_bias)),
        vision_layers(
            "blocks",
            Norm("norm1", width, norm_bias),
            Norm("norm2", width, norm_bias),
            Linear("attn.qkv", qkv if kv_heads != "num_heads" else f"3*{width}", width),
            Linear("attn.proj", width, width),
            *mlp,
            count="depth",
            width=width,
            heads="num_heads",
            kv_heads=kv_heads,
            ffn=ffn,
            norm="layer" if norm_bias else "rms",
        ),
    )


QWEN2_VL_FFN = scaled("embed_dim", "mlp_ratio")
QWEN2_VL_TOWER = Assembly(
    qwen_tower(
        Linear("mlp.fc1", QWEN2_VL_FFN, "embed_dim"),
        Linear("mlp.fc2", "embed_dim", QWEN2_VL_FFN),
        width="embed_dim",
        ffn=QWEN2_VL_FFN,
    ),
    Rest(
        Norm("merger.ln_q", "embed_dim"),
        Linear("merger.mlp.0", merged("embed_dim"), merged("embed_dim")),
        Linear("merger.mlp.2", WIDTH, merged("embed_dim")),
    ),
)


def qwen2_5_tower(kv_heads: str = "num_heads") -> BodyBuilder:
    return Assembly(
        qwen_tower(
            *linears("mlp", "gate_proj up_proj", FFN, WIDTH),
            Linear("mlp.down_proj", WIDTH, FFN),
            norm_bias=False,
            kv_heads=kv_heads,
        ),
        Rest(
            Norm("merger.ln_q", bias=False),
            Linear("merger.mlp.0", merged(WIDTH), merged(WIDTH)),
            Linear("merger.mlp.2", "out_hidden_size", merged(WIDTH)),
        ),
    )


QWEN2_5_VL_TOWER = qwen2_5_tower()


def qwen3_merger(norm: Size) -> tuple[Part, ...]:
    return (
        Norm("norm", norm),
        Linear("linear_fc1", merged(WIDTH), merged(WIDTH)),
        Linear("linear_fc2", "out_hidden_size", merged(WIDTH)),
    )


QWEN3_5_TOWER = Assembly(
    qwen_tower(Linear("mlp.linear_fc1", FFN, WIDTH), Linear("mlp.linear_fc2", WIDTH, FFN), patch_bias=True),
    Rest(Embedding("pos_embed", "num_position_embeddings"), Under("merger", *qwen3_merger(WIDTH))),
)
QWEN3_VL_TOWER = Assembly(
    QWEN3_5_TOWER,
    Rest(Each("deepstack_merger_list", length("deepstack_visual_indexes"), qwen3_merger(merged(WIDTH)))),
)

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

# -- Pixtral, Gemma 4, Llama 4, Kimi, Step, Idefics, InternVL --------------------------------------------------------

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
QUERIES = "num_attention_heads*head_dim"
KEYS = "num_key_value_heads*head_dim"
GEMMA4_VISION = Assembly(
    Rest(
        Parameter("patch_embedder.position_embedding_table", (2, "position_embedding_size", WIDTH), "embedding"),
        Linear("patch_embedder.input_proj", WIDTH, "3*patch_size*patch_size", False),
    ),
    vision_layers(
        "encoder.layers",
        Linear("self_attn.q_proj.linear", QUERIES, WIDTH, False),
        Linear("self_attn.k_proj.linear", KEYS, WIDTH, False),
        Linear("self_attn.v_proj.linear", KEYS, WIDTH, False),
        Linear("self_attn.o_proj.linear", WIDTH, QUERIES, False),
        Norm("self_attn.q_norm", "head_dim", False),
        Norm("self_attn.k_norm", "head_dim", False),
        *linears("mlp", "gate_proj.linear up_proj.linear", FFN, WIDTH, False),
        Linear("mlp.down_proj.linear", WIDTH, FFN, False),
        Norm("input_layernorm", bias=False),
        Norm("post_attention_layernorm", bias=False),
        Norm("pre_feedforward_layernorm", bias=False),
        Norm("post_feedforward_layernorm", bias=False),
        kv_heads="num_key_value_heads",
        head_dim="head_dim",
        norm="rms",
    ),
)


def gemma4_audio_feed_forward(name: str) -> Part:
    return Under(
        name,
        Linear("ffw_layer_1.linear", "4*hidden_size", WIDTH, False),
        Linear("ffw_layer_2.linear", WIDTH, "4*hidden_size", False),
        Norm("pre_layer_norm", bias=False),
        Norm("post_layer_norm", bias=False),
    )


def gemma4_audio_features(f: Fields) -> int:
    """Inputs of the projection after two strided convolutions."""
    first, second = sizes(f, "subsampling_conv_channels", 2)[:2]
    return first // 4 * second


def subsampling(first: str, second: str, channels: str, features: Size) -> Part:
    """Two strided convolutions, a norm after each, and a projection; `channels` is a list in the config."""
    one, two = entry(channels, 0), entry(channels, 1)
    return Under(
        "subsample_conv_projection",
        Convolution(f"{first}.conv", one, 1, (3, 3), bias=False),
        Norm(f"{first}.norm", one, False),
        Convolution(f"{second}.conv", two, one, (3, 3), bias=False),
        Norm(f"{second}.norm", two, False),
        Linear("input_proj_linear", WIDTH, features, False),
    )


GEMMA4_AUDIO = Assembly(
    Rest(
        subsampling("layer0", "layer1", "subsampling_conv_channels", gemma4_audio_features),
        Linear("output_proj", "output_proj_dims", WIDTH),
    ),
    Layers(
        "layers",
        (
            gemma4_audio_feed_forward("feed_forward1"),
            gemma4_audio_feed_forward("feed_forward2"),
            Parameter("self_attn.per_dim_scale", (quotient(WIDTH, HEADS),)),
            *linears("self_attn", "q_proj.linear k_proj.linear v_proj.linear post.linear relative_k_proj", bias=False),
            Linear("lconv1d.linear_start.linear", "2*hidden_size", WIDTH, False),
            Linear("lconv1d.linear_end.linear", WIDTH, WIDTH, False),
            Convolution("lconv1d.depthwise_conv1d", WIDTH, 1, ("conv_kernel_size",), bias=False),
            Norm("lconv1d.pre_layer_norm", bias=False),
            Norm("lconv1d.conv_norm", bias=False),
            Norm("norm_pre_attn", bias=False),
            Norm("norm_post_attn", bias=False),
            Norm("norm_out", bias=False),
        ),
        name="audio",
        role="audio",
        ffn="4*hidden_size",
        norm="rms",
    ),
)


def gemma3n_audio_feed_forward(name: str) -> Part:
    return Under(
        name,
        Norm("pre_layer_norm", bias=False),
        Linear("ffw_layer_1", "4*hidden_size", WIDTH, False),
        Linear("ffw_layer_2", WIDTH, "4*hidden_size", False),
        Norm("post_layer_norm", bias=False),
    )


def gemma3n_audio_features(f: Fields) -> int:
    """Inputs of the projection: each convolution, of a kernel of 3 with padding, halves the frequencies."""
    f.require("sscp_conv_kernel_size", ([[3, 3], [3, 3]],))
    f.require("sscp_conv_stride_size", ([[2, 2], [2, 2]],))
    once = (f["input_feat_size"] + 1) // 2
    return (once + 1) // 2 * sizes(f, "sscp_conv_channel_size", 2)[-1]


GEMMA3N_HEADS = "conf_num_attention_heads"
GEMMA3N_AUDIO = Assembly(
    Rest(
        subsampling("conv_0", "conv_1", "sscp_conv_channel_size", gemma3n_audio_features),
    ),
    Layers(
        "conformer",
        (
            gemma3n_audio_feed_forward("ffw_layer_start"),
            Norm("attention.pre_attn_norm", bias=False),
            Parameter("attention.attn.per_dim_scale", (quotient(WIDTH, GEMMA3N_HEADS),)),
            *linears(
                "attention.attn",
                "relative_position_embedding.pos_proj q_proj k_proj v_proj",
                WIDTH,
                WIDTH,
                False,
            ),
            Linear("attention.post", WIDTH, WIDTH, False),
            Norm("attention.post_norm", bias=False),
            Norm("lconv1d.pre_layer_norm", bias=False),
            Linear("lconv1d.linear_start", "2*hidden_size", WIDTH, False),
            Convolution("lconv1d.depthwise_conv1d", WIDTH, 1, ("conf_conv_kernel_size",), bias=False),
            Norm("lconv1d.conv_norm", bias=False),
            Linear("lconv1d.linear_end", WIDTH, WIDTH, False),
            gemma3n_audio_feed_forward("ffw_layer_end"),
            Norm("norm", bias=False),
        ),
        count="conf_num_hidden_layers",
        name="audio",
        role="audio",
        heads=GEMMA3N_HEADS,
        ffn="4*hidden_size",
        norm="rms",
    ),
)


def mobilenet(f: Fields) -> Tensors:
    """The one tower Gemma 3n has, counted as a whole: `timm.create_model("mobilenetv5_300m_enc", num_classes=0)`."""
    f.choice("architecture", ("mobilenetv5_300m_enc",))
    return parameter("timm_model", 294_126_912, role="conv")


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
    vision_layers(
        "model.layers",
        *linears("self_attn", "q_proj k_proj v_proj o_proj"),
        Linear("mlp.fc1", FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, FFN),
        Norm("input_layernorm"),
        Norm("post_attention_layernorm"),
    ),
)
KIMI_K25_VISION = Assembly(
    Rest(
        Convolution("patch_embed.proj", WIDTH, 3, ("patch_size", "patch_size")),
        Parameter("patch_embed.pos_emb.position_embeddings", ("pos_emb_height", "pos_emb_width", WIDTH), "embedding"),
        Norm("final_layernorm"),
    ),
    vision_layers(
        "layers",
        Norm("norm1"),
        Norm("norm2"),
        *linears("attn", "proj q_proj k_proj v_proj"),
        Linear("mlp.fc1", FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, FFN),
    ),
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


def got_positions(window: bool) -> tuple[Part, ...]:
    """Relative positions along both sides, of the window or of the whole image."""

    def rows(axis: int) -> Size:
        def count(f: Fields) -> int:
            whole = pair(f, "image_size")[axis] // pair(f, "patch_size")[axis]
            return 2 * (f["window_size"] if window else whole) - 1

        return count

    dim = quotient(WIDTH, HEADS)
    return tuple(
        When("use_rel_pos", Parameter(f"attn.rel_pos_{axis}", (rows(i), dim), "embedding"))
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
    "minimax_m3_vl_vision": Family("MiniMaxM3VLVision", {"Model": MINIMAX_M3_VISION}),
    "qwen2_vl_vision": Family(
        "Qwen2VisionTransformer", {"PretrainedModel": QWEN2_VL_TOWER}, default="PretrainedModel", base="PretrainedModel"
    ),
    "qwen2_5_vl_vision": Family(
        "Qwen2_5_VisionTransformer",
        {"PretrainedModel": QWEN2_5_VL_TOWER},
        default="PretrainedModel",
        base="PretrainedModel",
    ),
    "exaone4_5_vision": Family("Exaone4_5_Vision", {"Model": qwen2_5_tower("num_key_value_heads")}),
    "qwen3_vl_vision": Family("Qwen3VLVision", {"Model": QWEN3_VL_TOWER}),
    "qwen3_vl_moe_vision": Family("Qwen3VLMoeVision", {"Model": QWEN3_VL_TOWER}),
    "qwen3_5_vision": Family("Qwen3_5Vision", {"Model": QWEN3_5_TOWER}),
    "qwen3_5_moe_vision": Family("Qwen3_5MoeVision", {"Model": QWEN3_5_TOWER}),
    "glm4v_vision": Family("Glm4vVision", {"Model": GLM4V_TOWER}),
    "glm4v_moe_vision": Family("Glm4vMoeVision", {"Model": GLM4V_TOWER}),
    "pixtral": Family("PixtralVision", {"Model": PIXTRAL}),
    "gemma4_vision": Family("Gemma4Vision", {"Model": GEMMA4_VISION}),
    "gemma3n_audio": Family("Gemma3nAudio", {"Encoder": GEMMA3N_AUDIO}, "Encoder", "Encoder"),
    "gemma3n_vision": Family("Gemma3nVision", {"Model": Rest(mobilenet)}),
    "gemma4_audio": Family("Gemma4Audio", {"Model": GEMMA4_AUDIO}),
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
