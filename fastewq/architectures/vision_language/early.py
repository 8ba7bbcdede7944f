"""Image-text models from before towers were put before language models: FLAVA, BridgeTower, LXMERT and Pix2Struct."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    FFN,
    HEADS,
    TEXT_HEAD,
    UNTIED,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Each,
    Embedding,
    Expect,
    Family,
    In,
    Layers,
    Linear,
    Named,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    When,
    equals,
    linears,
    patches,
    plus,
    quotient,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.encoders.bert import (
    BERT,
    BERT_FEED_FORWARD,
    CROSS_ATTENTION,
    PLAIN_BERT_LAYER,
    POOLER,
    POST_NORMS,
    SELF_ATTENTION,
    word_embeddings,
)
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Part, Tensors, unless
from fastewq.architectures.vision.clip import PATCH_KERNEL, text_layers, vision_layers
from fastewq.architectures.vision.images import older_vit_layer, patch_embedding, position_table, token

# -- FLAVA: ViT's blocks for text, for images and for both ------------------------------------------------------------

FLAVA_END = Rest(Norm("layernorm"), Linear("pooler.dense", WIDTH, WIDTH))
FLAVA_TEXT = Assembly(word_embeddings(), text_layers("encoder.layer", *older_vit_layer()), FLAVA_END)
FLAVA_IMAGE = Assembly(
    Rest(
        token("cls_token"),
        When("mask_token", token("mask_token")),
        position_table(plus(patches, 1)),
        patch_embedding(),
    ),
    vision_layers("encoder.layer", *older_vit_layer()),
    FLAVA_END,
)
FLAVA_BOTH = Assembly(
    Rest(When("use_cls_token", Parameter("cls_token", (1, 1, WIDTH)))),
    Layers("encoder.layer", older_vit_layer(), name="both"),
    FLAVA_END,
)
TEXT, IMAGE, BOTH = (f"{name}_config.{WIDTH}" for name in ("text", "image", "multimodal"))
FLAVA = Assembly(
    In("text_config", FLAVA_TEXT, path="text_model"),
    In("image_config", FLAVA_IMAGE, path="image_model"),
    In("multimodal_config", FLAVA_BOTH, path="multimodal_model"),
    Rest(
        Linear("image_projection", "projection_dim", IMAGE),
        Linear("text_projection", "projection_dim", TEXT),
        Linear("image_to_mm_projection", BOTH, IMAGE),
        Linear("text_to_mm_projection", BOTH, TEXT),
        Parameter("logit_scale", ()),
    ),
)


def codebook_group(number: int, inputs: Size, outputs: Size) -> Part:
    """Residual blocks of four convolutions, the first of which may widen."""

    def block(name: str, entering: Size) -> Part:
        inner = quotient(outputs, 4)
        return Under(
            name,
            When(lambda f: f[entering] != f[outputs], Convolution("id_path", outputs, entering, (1, 1))),
            Convolution("res_path.path.conv_1", inner, entering, (3, 3)),
            Convolution("res_path.path.conv_2", inner, inner, (3, 3)),
            Convolution("res_path.path.conv_3", inner, inner, (3, 3)),
            Convolution("res_path.path.conv_4", outputs, inner, (1, 1)),
        )

    def part(f: Fields) -> Tensors:
        blocks = f.count("num_blocks_per_group", high=64)
        path = f"blocks.group_{number}.group"
        return tuple(t for i in range(blocks) for t in block(f"{path}.block_{i + 1}", outputs if i else inputs)(f))

    return part


FLAVA_CODEBOOK = Rest(
    Convolution("blocks.input", WIDTH, "input_channels", (7, 7)),
    codebook_group(1, WIDTH, WIDTH),
    codebook_group(2, WIDTH, f"2*{WIDTH}"),
    codebook_group(3, f"2*{WIDTH}", f"4*{WIDTH}"),
    codebook_group(4, f"4*{WIDTH}", f"8*{WIDTH}"),
    Convolution("blocks.output.conv", "vocab_size", f"8*{WIDTH}", (1, 1)),
)
MASKED = Rest(
    Linear("transform.dense", WIDTH, WIDTH),
    Norm("transform.LayerNorm"),
    Linear("decoder", "vocab_size", WIDTH, bias=False),
    Parameter("bias", ("vocab_size",), "bias"),
)


def masked(name: str, config: str) -> BodyBuilder:
    """A head whose bias is tied to its matrix's, unless nothing is tied."""
    own = Rest(When(UNTIED, Parameter(f"{name}.decoder.bias", (f"{config}.vocab_size",), "bias")))
    return Assembly(In(config, MASKED, path=name), own)


FLAVA_TRAINS = Assembly(
    At("flava", FLAVA),
    Only("init_codebook", In("image_codebook_config", FLAVA_CODEBOOK, path="image_codebook")),
    masked("mim_head", "image_config"),
    masked("mlm_head", "text_config"),
    masked("mmm_image_head", "image_config"),
    masked("mmm_text_head", "text_config"),
    Rest(Linear("itm_head.pooler.dense", WIDTH, WIDTH), Linear("itm_head.seq_relationship", 2, WIDTH)),
)

# -- BridgeTower: RoBERTa and CLIP's tower, joined by blocks that look at each other ----------------------------------


def kept_layers(f: Fields) -> int:
    return f.layers() - f.flag("remove_last_layer")


BRIDGE_VISION = Assembly(
    Rest(
        Parameter("embeddings.class_embedding", (WIDTH,)),
        Convolution("embeddings.patch_embedding", WIDTH, "num_channels", PATCH_KERNEL, bias=False),
        Embedding("embeddings.position_embedding", plus(patches, 1)),
        Norm("ln_pre"),
        Norm("ln_post"),
        When(unless("share_layernorm"), Each("ln_separate", "num_hidden_layers", (Norm(""),))),
    ),
    vision_layers(
        "transformer.resblocks",
        Parameter("attn.in_proj_weight", (f"3*{WIDTH}", WIDTH)),
        Parameter("attn.in_proj_bias", (f"3*{WIDTH}",), "bias"),
        Linear("attn.out_proj", WIDTH, WIDTH),
        Norm("ln_1"),
        Linear("mlp.c_fc", f"4*{WIDTH}", WIDTH),
        Linear("mlp.c_proj", WIDTH, f"4*{WIDTH}"),
        Norm("ln_2"),
        count=kept_layers,
        heads=quotient(WIDTH, 64),
        head_dim=64,
        ffn=f"4*{WIDTH}",
    ),
)


def crossing(kind: str) -> BodyBuilder:
    """As many as the outer config has layers, as wide as the text's."""
    layers = Layers(
        f"cross_modal_{kind}_layers",
        (
            *SELF_ATTENTION,
            *CROSS_ATTENTION,
            Norm("crossattention.output.LayerNorm"),
            *BERT_FEED_FORWARD,
            *POST_NORMS,
        ),
        name=f"cross_{kind}",
    )
    return In("text_config", layers, path="", num_hidden_layers="num_hidden_layers")


LINK = (
    When(equals("link_tower_type", "scaled_add"), Parameter("scaled_factor", ())),
    When(equals("link_tower_type", "interpolate"), Parameter("beta", ())),
    Norm("LayerNorm"),
)


def links(f: Fields) -> int:
    return max(f.layers() - 1, 0)


def bridge(kind: str, seen: str) -> tuple[Part, ...]:
    transform, link = f"cross_modal_{kind}_transform", f"cross_modal_{kind}_link_tower"
    shared, each = "share_cross_modal_transformer_layers", "share_link_tower_layers"
    return (
        When(shared, Linear(transform, WIDTH, seen)),
        When(unless(shared), Each(transform, "num_hidden_layers", (Linear("", WIDTH, seen),))),
        When(each, Under(link, *LINK)),
        When(unless(each), Each(link, links, LINK)),
        Linear(f"cross_modal_{kind}_pooler.dense", WIDTH, WIDTH),
        Norm(f"cross_modal_{kind}_layernorm"),
    )


BRIDGETOWER = Assembly(
    Expect("link_tower_type", "add", "scaled_add", "interpolate"),
    In("vision_config", BRIDGE_VISION, path="vision_model.visual"),
    Named("text", In("text_config", BERT, POOLER, path="text_model")),
    crossing("image"),
    crossing("text"),
    Rest(
        *bridge("text", f"text_config.{WIDTH}"),
        *bridge("image", f"vision_config.{WIDTH}"),
        Embedding("token_type_embeddings", 2),
    ),
)
WORDS, CONTRASTED = "text_config.vocab_size", "contrastive_hidden_size"


def bridged(*heads: Part) -> BodyBuilder:
    return Assembly(At("bridgetower", BRIDGETOWER), Rest(*heads))


# -- LXMERT: BERT's blocks for text, for detected objects and for both ------------------------------------------------


def lxmert_attention(name: str, inner: str) -> tuple[Part, ...]:
    return (
        *linears(f"{name}.{inner}", "query key value"),
        Linear(f"{name}.output.dense", WIDTH, WIDTH),
        Norm(f"{name}.output.LayerNorm"),
    )


def lxmert_feed_forward(side: str) -> tuple[Part, ...]:
    return (
        Linear(f"{side}_inter.dense", FFN, WIDTH),
        Linear(f"{side}_output.dense", WIDTH, FFN),
        Norm(f"{side}_output.LayerNorm"),
    )


LXMERT = Assembly(
    word_embeddings(),
    Layers("encoder.layer", PLAIN_BERT_LAYER, count="l_layers", name="text"),
    Layers("encoder.r_layers", PLAIN_BERT_LAYER, count="r_layers", name="objects"),
    Layers(
        "encoder.x_layers",
        (
            *lxmert_attention("visual_attention", "att"),
            *lxmert_attention("lang_self_att", "self"),
            *lxmert_attention("visn_self_att", "self"),
            *lxmert_feed_forward("lang"),
            *lxmert_feed_forward("visn"),
        ),
        count="x_layers",
        name="both",
    ),
    Rest(
        Under(
            "encoder.visn_fc",
            Linear("visn_fc", WIDTH, "visual_feat_dim"),
            Norm("visn_layer_norm"),
            Linear("box_fc", WIDTH, "visual_pos_dim"),
            Norm("box_layer_norm"),
        ),
        Linear("pooler.dense", WIDTH, WIDTH),
    ),
)
LXMERT_ANSWERS = Under(
    "answer_head.logit_fc",
    Linear("0", f"2*{WIDTH}", WIDTH),
    Norm("2", f"2*{WIDTH}"),
    Linear("3", "num_qa_labels", f"2*{WIDTH}"),
)


def learns(name: str) -> Option:
    return lambda f: f.flag(f"visual_{name}_loss", True)


LXMERT_TRAINS: tuple[Part, ...] = (
    Under(
        "cls",
        Parameter("predictions.bias", ("vocab_size",), "bias"),
        Linear("predictions.transform.dense", WIDTH, WIDTH),
        Norm("predictions.transform.LayerNorm"),
        Linear("predictions.decoder", "vocab_size", WIDTH, False, UNTIED),
        Linear("seq_relationship", 2, WIDTH),
    ),
    When(
        "task_obj_predict",
        Under(
            "obj_predict_head",
            Linear("transform.dense", WIDTH, WIDTH),
            Norm("transform.LayerNorm"),
            When(learns("obj"), Linear("decoder_dict.obj", "num_object_labels", WIDTH)),
            When(learns("attr"), Linear("decoder_dict.attr", "num_attr_labels", WIDTH)),
            When(learns("feat"), Linear("decoder_dict.feat", "visual_feat_dim", WIDTH)),
        ),
    ),
    When("task_qa", LXMERT_ANSWERS),
)

# -- Pix2Struct: T5's blocks over patches of an image -----------------------------------------------------------------


def pix2struct_tower(places: Size, head_dim: str, ffn: Size) -> BodyBuilder:
    """Each patch is told its row and its column, `places` of them at most."""
    inner = f"{HEADS}*{head_dim}"
    return Assembly(
        Rest(
            Linear("embeddings.patch_projection", WIDTH, "patch_embed_hidden_size"),
            Embedding("embeddings.row_embedder", places),
            Embedding("embeddings.column_embedder", places),
            Norm("layernorm", bias=False),
        ),
        vision_layers(
            "encoder.layer",
            *linears("attention", "query key value", inner, WIDTH, False),
            Linear("attention.output", WIDTH, inner, False),
            *linears("mlp", "wi_0 wi_1", ffn, WIDTH, False),
            Linear("mlp.wo", WIDTH, ffn, False),
            Norm("pre_mlp_layer_norm", bias=False),
            Norm("pre_attention_layer_norm", bias=False),
            head_dim=head_dim,
            ffn=ffn,
            norm="rms",
        ),
    )


PIX2STRUCT_VISION = pix2struct_tower("seq_len", "d_kv", "d_ff")


def pix2struct_attention(name: str) -> tuple[Part, ...]:
    return (
        *linears(f"{name}.attention", "query key value output", bias=False),
        Norm(f"{name}.layer_norm", bias=False),
    )


PIX2STRUCT_TEXT = Assembly(
    Rest(Embedding("embed_tokens", "vocab_size"), Norm("final_layer_norm", bias=False)),
    Layers(
        "layer",
        (
            *pix2struct_attention("self_attention"),
            *pix2struct_attention("encoder_decoder_attention"),
            *linears("mlp.DenseReluDense", "wi_0 wi_1", "d_ff", WIDTH, False),
            Linear("mlp.DenseReluDense.wo", WIDTH, "d_ff", False),
            Norm("mlp.layer_norm", bias=False),
        ),
        count="num_layers",
        name="decoder",
        role="decoder",
        heads="num_heads",
        ffn="d_ff",
        norm="rms",
        first=(
            Embedding(
                "self_attention.attention.relative_attention_bias", "relative_attention_num_buckets", "num_heads"
            ),
        ),
    ),
)
PIX2STRUCT = Assembly(
    In("vision_config", PIX2STRUCT_VISION, path="encoder"),
    In("text_config", PIX2STRUCT_TEXT, path="decoder"),
    Rest(Linear("decoder.lm_head", WORDS, f"text_config.{WIDTH}", False, UNTIED)),
)

GENERATES = "ForConditionalGeneration"
EARLY_IMAGE_TEXT: Mapping[str, Family] = {
    "flava": Family("Flava", {"Model": FLAVA, "ForPreTraining": FLAVA_TRAINS}),
    "flava_text_model": Family("FlavaText", {"Model": FLAVA_TEXT}),
    "flava_image_model": Family("FlavaImage", {"Model": FLAVA_IMAGE}),
    "flava_multimodal_model": Family("FlavaMultimodal", {"Model": FLAVA_BOTH}),
    "flava_image_codebook": Family("FlavaImageCodebook", {"": FLAVA_CODEBOOK}, "", ""),
    "bridgetower": Family(
        "BridgeTower",
        {
            "Model": BRIDGETOWER,
            "ForMaskedLM": bridged(
                Linear("mlm_score.transform.dense", WIDTH, WIDTH),
                Norm("mlm_score.transform.LayerNorm"),
                Linear("mlm_score.decoder", WORDS, WIDTH, False, UNTIED),
                Parameter("mlm_score.bias", (WORDS,), "bias"),
            ),
            "ForImageAndTextRetrieval": bridged(Linear("itm_score.fc", 2, f"2*{WIDTH}")),
            "ForContrastiveLearning": bridged(
                Linear("itc_text_head.fc", CONTRASTED, WIDTH),
                Linear("itc_image_head.fc", CONTRASTED, WIDTH),
                Linear("itc_cross_modal_head.fc", CONTRASTED, f"2*{WIDTH}"),
                Parameter("logit_scale", ()),
            ),
        },
    ),
    "lxmert": Family(
        "Lxmert",
        {
            "Model": LXMERT,
            "ForPreTraining": Assembly(At("lxmert", LXMERT), Rest(*LXMERT_TRAINS)),
            "ForQuestionAnswering": Assembly(At("lxmert", LXMERT), Rest(LXMERT_ANSWERS)),
        },
    ),
    "pix2struct": Family("Pix2Struct", {GENERATES: PIX2STRUCT}, GENERATES, GENERATES),
    "pix2struct_text_model": Family(
        "Pix2StructText",
        {"Model": Assembly(PIX2STRUCT_TEXT, TEXT_HEAD)},
    ),
    "pix2struct_vision_model": Family("Pix2StructVision", {"Model": PIX2STRUCT_VISION}),
}
