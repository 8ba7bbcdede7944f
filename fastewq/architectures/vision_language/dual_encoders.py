"""Models with an image tower and a text tower, trained like CLIP: MetaCLIP 2, Chinese CLIP, AltCLIP, AIMv2, CLIPSeg."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    MAX_ENTRIES,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Each,
    Embedding,
    Family,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    length,
    linears,
    patches,
    quotient,
    tied,
    upsampling,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import BERT_EMBEDDINGS, PLAIN_BERT_LAYER, POOLER
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Part, Tensors, present, unless
from fastewq.architectures.vision.clip import (
    CLIP_LAYER,
    CLIP_TEXT,
    CLIP_VISION,
    PATCH_KERNEL,
    classified,
    projected,
    text_layers,
    vision_layers,
)

SEEN, READ = "vision_config.hidden_size", "text_config.hidden_size"

# -- towers -----------------------------------------------------------------------------------------------------------

CHINESE_TEXT = Assembly(BERT_EMBEDDINGS, text_layers("encoder.layer", *PLAIN_BERT_LAYER))
ALT_TEXT = Assembly(
    At("roberta", BERT_EMBEDDINGS, text_layers("encoder.layers", *PLAIN_BERT_LAYER)),
    Rest(Linear("transformation", "project_dim", WIDTH), Norm("pre_LN")),
)
MLCD_VISION = Assembly(
    Rest(
        Parameter("class_pos_emb", (1, lambda f: f[WIDTH] // f[HEADS] // 2)),
        Parameter("embeddings.class_embedding", (WIDTH,)),
        Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL, bias=False),
        Norm("pre_layrnorm"),
        Norm("post_layernorm"),
    ),
    vision_layers("encoder.layers", *CLIP_LAYER),
)

AIM_LAYER: tuple[Part, ...] = (
    *linears("attention", "k_proj v_proj q_proj out_proj", bias="qkv_bias"),
    *linears("ffn", "gate_proj up_proj", FFN, WIDTH, "mlp_bias"),
    Linear("ffn.down_proj", WIDTH, FFN, "mlp_bias"),
    Norm("rms_norm1", bias=False),
    Norm("rms_norm2", bias=False),
)
AIM_VISION = Assembly(
    Rest(
        Convolution("embeddings.patch_embed", WIDTH, "num_channels", PATCH_KERNEL),
        Norm("embeddings.rms_norm", bias=False),
        When(unless("is_native"), Embedding("embeddings.position_embedding", patches)),
        Norm("rms_norm", bias=False),
        When(
            "use_head",
            Parameter("head.cls_token", (1, 1, WIDTH)),
            *linears("head", "k_proj v_proj", bias="qkv_bias"),
            Linear("head.output_proj", WIDTH, WIDTH),
        ),
    ),
    vision_layers("encoder.layers", *AIM_LAYER, norm="rms"),
)
AIM_TEXT = Assembly(
    Rest(
        Embedding("embeddings.token_embedding", "vocab_size"),
        Embedding("embeddings.position_embedding", "max_position_embeddings"),
        Norm("rms_norm", bias=False),
    ),
    text_layers("encoder.layers", *AIM_LAYER, norm="rms"),
)


def kosmos_text(*more: Part) -> BodyBuilder:
    """Blocks of Magneto, with a norm inside the feed-forward; `more` are further tensors of a block."""
    return text_layers(
        "layers",
        *linears("self_attn", "k_proj v_proj q_proj out_proj", "embed_dim", "embed_dim"),
        *more,
        Norm("self_attn_layer_norm", "embed_dim"),
        Linear("ffn.fc1", "ffn_dim", "embed_dim"),
        Linear("ffn.fc2", "embed_dim", "ffn_dim"),
        Norm("ffn.ffn_layernorm", "ffn_dim"),
        Norm("final_layer_norm", "embed_dim"),
        count="layers",
        width="embed_dim",
        heads="attention_heads",
        ffn="ffn_dim",
        role="decoder",
    )


KOSMOS_AROUND = Rest(Embedding("embed_tokens", "vocab_size", "embed_dim"), Norm("layer_norm", "embed_dim"))
KOSMOS_TEXT = At(
    "model",
    KOSMOS_AROUND,
    kosmos_text(
        Norm("self_attn.inner_attn_ln", "embed_dim"),
        When(
            "add_cross_attention",
            *linears("encoder_attn", "k_proj v_proj q_proj out_proj", "embed_dim", "embed_dim"),
            Norm("encoder_attn_layer_norm", "embed_dim"),
        ),
    ),
)

# Kosmos-2.5 reads pages: its tower is Pix2Struct's, and its text tells what is image from what is not.
KOSMOS25_TEXT = At("model", KOSMOS_AROUND, Rest(Embedding("segment_emb", 2, "embed_dim")), kosmos_text())
INNER = "num_attention_heads*head_dim"
KOSMOS25_VISION = Assembly(
    Rest(
        Under(
            "embeddings",
            Linear("patch_projection", WIDTH, "patch_embed_hidden_size"),
            Embedding("row_embedder", "max_num_patches"),
            Embedding("column_embedder", "max_num_patches"),
        ),
        Norm("layernorm", bias=False),
    ),
    vision_layers(
        "encoder.layer",
        *linears("attention", "query key value", INNER, WIDTH, False),
        Linear("attention.output", WIDTH, INNER, False),
        *linears("mlp", "wi_0 wi_1", FFN, WIDTH, False),
        Linear("mlp.wo", WIDTH, FFN, False),
        Norm("pre_mlp_layer_norm", bias=False),
        Norm("pre_attention_layer_norm", bias=False),
        head_dim="head_dim",
        norm="rms",
    ),
)


def tower(path: str, body: BodyBuilder, projection: str) -> dict[str, BodyBuilder]:
    """A tower alone, and with the projection into the common space."""
    return {"Model": body, "ModelWithProjection": projected(path, body, projection)}


TOWERS: dict[str, Family] = {
    "metaclip_2_vision_model": Family("MetaClip2Vision", tower("vision_model", CLIP_VISION, "visual_projection")),
    "metaclip_2_text_model": Family("MetaClip2Text", tower("text_model", CLIP_TEXT, "text_projection")),
    "chinese_clip_vision_model": Family("ChineseCLIPVision", {"Model": CLIP_VISION}),
    "chinese_clip_text_model": Family(
        "ChineseCLIPText", {"Model": Assembly(CHINESE_TEXT, POOLER), "Unpooled": CHINESE_TEXT}, base="Unpooled"
    ),
    "altclip_vision_model": Family("AltCLIPVision", {"Model": CLIP_VISION}),
    "altclip_text_model": Family("AltCLIPText", {"Model": ALT_TEXT}),
    "aimv2_vision_model": Family("Aimv2Vision", {"Model": AIM_VISION}),
    "aimv2_text_model": Family("Aimv2Text", {"Model": AIM_TEXT}),
    "clipseg_vision_model": Family("CLIPSegVision", {"Model": CLIP_VISION}),
    "clipseg_text_model": Family("CLIPSegText", {"Model": CLIP_TEXT}),
    "git_vision_model": Family("GitVision", {"Model": At("vision_model", CLIP_VISION)}),
    "kosmos_2_vision_model": Family("Kosmos2Vision", {"Model": At("model", CLIP_VISION)}),
    "kosmos_2_text_model": Family("Kosmos2Text", {"Model": KOSMOS_TEXT}),
    "kosmos_2_5_vision_model": Family("Kosmos2_5Vision", {"Model": KOSMOS25_VISION}),
    "kosmos_2_5_text_model": Family("Kosmos2_5Text", {"Model": KOSMOS25_TEXT}),
}

# -- both towers ------------------------------------------------------------------------------------------------------


def sides(read: str = READ) -> BodyBuilder:
    """Both towers, their projections without bias, and the scale of the logits."""
    return Assembly(
        Nested("text_config", "text_model", TOWERS),
        Nested("vision_config", "vision_model", TOWERS),
        Rest(
            Parameter("logit_scale", ()),
            Linear("visual_projection", "projection_dim", SEEN, False),
            Linear("text_projection", "projection_dim", read, False),
        ),
    )


SIDES = sides()


SEEN_PATCH = "vision_config.patch_size"
QUARTER = quotient(SEEN_PATCH, 4)

SEGMENTER_LAYERS = vision_layers("layers", *CLIP_LAYER, count=length("extract_layers"), name="decoder")
SEGMENTER = At(
    "decoder",
    Rest(
        Linear("film_mul", "reduce_dim", "projection_dim"),
        Linear("film_add", "reduce_dim", "projection_dim"),
        When(
            unless("use_complex_transposed_convolution"),
            *upsampling("transposed_convolution", "reduce_dim", 1, SEEN_PATCH, SEEN_PATCH),
        ),
        When(
            "use_complex_transposed_convolution",
            Convolution("transposed_convolution.0", "reduce_dim", "reduce_dim", (3, 3)),
            *upsampling("transposed_convolution.2", "reduce_dim", quotient("reduce_dim", 2), QUARTER, QUARTER),
            *upsampling("transposed_convolution.4", quotient("reduce_dim", 2), 1, QUARTER, QUARTER),
        ),
        Each("reduces", length("extract_layers"), (Linear("", "reduce_dim", SEEN),)),
    ),
    lambda f, path: SEGMENTER_LAYERS(
        f.replaced(
            hidden_size=f["reduce_dim"],
            intermediate_size=f["decoder_intermediate_size"],
            num_attention_heads=f["decoder_num_attention_heads"],
        ),
        path,
    ),
)

# -- GIT and Kosmos-2: text that continues an image -------------------------------------------------------------------


def parameters(name: str, count: str, shape: tuple[Size, ...]) -> Part:
    """A list of bare tensors of one shape."""

    def part(f: Fields) -> Tensors:
        return tuple(t for i in range(f.count(count, high=MAX_ENTRIES)) for t in Parameter(f"{name}.{i}", shape)(f))

    return part


GIT = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size"),
        Embedding("embeddings.position_embeddings", "max_position_embeddings"),
        Norm("embeddings.LayerNorm"),
        Linear("visual_projection.visual_projection.0", WIDTH, SEEN),
        Norm("visual_projection.visual_projection.1"),
        When(
            present("num_image_with_embedding"),
            parameters("img_temporal_embedding", "num_image_with_embedding", (1, 1, SEEN)),
        ),
    ),
    text_layers("encoder.layer", *PLAIN_BERT_LAYER, name="decoder", role="decoder"),
    Nested("vision_config", "image_encoder", TOWERS),
)


def tied_nowhere(f: Fields) -> bool:
    """Whether neither the config nor its text config ties the LM head."""
    return not tied(f) and not tied(f.sub("text_config"))


KOSMOS = Assembly(
    Nested("vision_config", "vision_model", TOWERS),
    Nested("text_config", "text_model", TOWERS),
    Rest(
        Under(
            "image_to_text_projection",
            Parameter("latent_query", ("latent_query_num", "text_config.embed_dim")),
            Linear("dense", "text_config.embed_dim", SEEN),
            *linears("x_attn", "k_proj v_proj q_proj out_proj", "text_config.embed_dim", "text_config.embed_dim"),
        )
    ),
)


def kosmos_classes(untied: Option) -> dict[str, BodyBuilder]:
    head = Rest(Linear("text_model.lm_head", "text_config.vocab_size", "text_config.embed_dim", False, untied))
    return {"Model": KOSMOS, "ForConditionalGeneration": Assembly(KOSMOS, head)}


def text_untied(f: Fields) -> bool:
    return not tied(f.sub("text_config"))


IMAGE_TEXT: Mapping[str, Family] = {
    **TOWERS,
    "mlcd": Family("MLCDVision", {"Model": MLCD_VISION}),
    "mlcd_vision_model": Family("MLCDVision", {"Model": MLCD_VISION}),
    "metaclip_2": Family(
        "MetaClip2",
        {"Model": SIDES, "ForImageClassification": classified(Nested("vision_config", "vision_model", TOWERS))},
    ),
    "chinese_clip": Family("ChineseCLIP", {"Model": SIDES}),
    "altclip": Family("AltCLIP", {"Model": sides("text_config.project_dim")}),
    "aimv2": Family("Aimv2", {"Model": SIDES}),
    "clipseg": Family(
        "CLIPSeg",
        {"Model": SIDES, "ForImageSegmentation": Assembly(At("clip", SIDES), SEGMENTER)},
        "ForImageSegmentation",
    ),
    "git": Family(
        "Git",
        {
            "Model": GIT,
            "ForCausalLM": Assembly(At("git", GIT), Rest(Linear("output", "vocab_size", WIDTH, weight=UNTIED))),
        },
        "ForCausalLM",
    ),
    "kosmos-2": Family("Kosmos2", kosmos_classes(tied_nowhere), "ForConditionalGeneration"),
    "kosmos-2.5": Family("Kosmos2_5", kosmos_classes(text_untied), "ForConditionalGeneration"),
}
