"""The towers of vision-language models: what turns patches of an image, or frames of a sound, into tokens."""

from __future__ import annotations

from collections.abc import Callable

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    WIDTH,
    Assembly,
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
    When,
    entry,
    length,
    linears,
    measure,
    patches,
    plus,
    quotient,
    scaled,
    sizes,
    times,
    unless,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import Option, Part, Size
from fastewq.architectures.vision import CLIP_LAYER, PATCH_KERNEL, vision_layers

# -- the Qwen-VL line -----------------------------------------------------------------------------------------------

PATCH_VOLUME = ("temporal_patch_size", "patch_size", "patch_size")


def merged(width: Size) -> Size:
    """Features of the patches that are merged into one token."""
    return lambda f: measure(f, width) * f.size("spatial_merge_size") ** 2


def qwen_tower(
    *mlp: Part, width: str = WIDTH, ffn: Size = FFN, norm_bias: Option = True, patch_bias: Option = False
) -> BodyBuilder:
    """Fused attention, two norms and the feed-forward `mlp` in every block."""
    return Assembly(
        Rest(Convolution("patch_embed.proj", width, "in_channels", PATCH_VOLUME, patch_bias)),
        vision_layers(
            "blocks",
            Norm("norm1", width, norm_bias),
            Norm("norm2", width, norm_bias),
            Linear("attn.qkv", f"3*{width}", width),
            Linear("attn.proj", width, width),
            *mlp,
            count="depth",
            width=width,
            heads="num_heads",
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
QWEN2_5_VL_TOWER = Assembly(
    qwen_tower(*linears("mlp", "gate_proj up_proj", FFN, WIDTH), Linear("mlp.down_proj", WIDTH, FFN), norm_bias=False),
    Rest(
        Norm("merger.ln_q", bias=False),
        Linear("merger.mlp.0", merged(WIDTH), merged(WIDTH)),
        Linear("merger.mlp.2", "out_hidden_size", merged(WIDTH)),
    ),
)


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


CHANNELS = [entry("subsampling_conv_channels", i) for i in (0, 1)]
GEMMA4_AUDIO = Assembly(
    Rest(
        Under(
            "subsample_conv_projection",
            Convolution("layer0.conv", CHANNELS[0], 1, (3, 3), bias=False),
            Norm("layer0.norm", CHANNELS[0], False),
            Convolution("layer1.conv", CHANNELS[1], CHANNELS[0], (3, 3), bias=False),
            Norm("layer1.norm", CHANNELS[1], False),
            Linear("input_proj_linear", WIDTH, gemma4_audio_features, False),
        ),
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


INTERNVL_VISION = Assembly(
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
        "encoder.layer",
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


def step_field(name: str, older: str) -> Callable[[Fields], int]:
    """A field of Step's vision config, which may have an older spelling that goes first."""
    return lambda f: f.size(older) if older in f else f.size(name)


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

TOWERS: dict[str, Family] = {
    "qwen2_vl_vision": Family("Qwen2VisionTransformer", {"PretrainedModel": QWEN2_VL_TOWER}, base="PretrainedModel"),
    "qwen2_5_vl_vision": Family(
        "Qwen2_5_VisionTransformer", {"PretrainedModel": QWEN2_5_VL_TOWER}, base="PretrainedModel"
    ),
    "qwen3_vl_vision": Family("Qwen3VLVision", {"Model": QWEN3_VL_TOWER}),
    "qwen3_vl_moe_vision": Family("Qwen3VLMoeVision", {"Model": QWEN3_VL_TOWER}),
    "qwen3_5_vision": Family("Qwen3_5Vision", {"Model": QWEN3_5_TOWER}),
    "qwen3_5_moe_vision": Family("Qwen3_5MoeVision", {"Model": QWEN3_5_TOWER}),
    "glm4v_vision": Family("Glm4vVision", {"Model": GLM4V_TOWER}),
    "glm4v_moe_vision": Family("Glm4vMoeVision", {"Model": GLM4V_TOWER}),
    "pixtral": Family("PixtralVision", {"Model": PIXTRAL}),
    "gemma4_vision": Family("Gemma4Vision", {"Model": GEMMA4_VISION}),
    "gemma4_audio": Family("Gemma4Audio", {"Model": GEMMA4_AUDIO}),
    "llama4_vision_model": Family("Llama4Vision", {"Model": LLAMA4_VISION}),
    "kimi_k25_vision": Family("Kimi_K25Vision", {"Model": KIMI_K25_VISION}),
    "idefics3_vision": Family("Idefics3Vision", {"Transformer": IDEFICS_VISION}, "Transformer", "Transformer"),
    "smolvlm_vision": Family("SmolVLMVision", {"Transformer": IDEFICS_VISION}, "Transformer", "Transformer"),
    "idefics2_vision": Family("Idefics2Vision", {"Transformer": IDEFICS_VISION}, "Transformer", "Transformer"),
    "internvl_vision": Family("InternVLVision", {"Model": INTERNVL_VISION}),
    "step3p5_vision": Family("Step3p7Vision", {"Model": STEP_VISION}),
}
