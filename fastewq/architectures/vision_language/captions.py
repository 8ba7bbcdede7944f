"""BLIP and its successors: a tower, a small transformer that queries it (Q-Former), and a text model."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    FFN,
    WIDTH,
    Assembly,
    At,
    Convolution,
    Embedding,
    Family,
    In,
    Layers,
    Linear,
    Named,
    Nested,
    Norm,
    Parameter,
    Rest,
    Variant,
    When,
    linears,
    patches,
    plus,
    tied,
)
from fastewq.architectures.body import Body, BodyBuilder
from fastewq.architectures.encoders.bert import BERT_MLM, POOLER
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.parts import Option, Part, join
from fastewq.architectures.seq2seq.t5 import SEQ2SEQ
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision.clip import PATCH_KERNEL, vision_layers

# -- towers and text halves -----------------------------------------------------------------------------------------


def biased(f: Fields) -> bool:
    return f.flag("qkv_bias", True)


BLIP_VISION = Assembly(
    Rest(
        Parameter("embeddings.class_embedding", (1, 1, WIDTH)),
        Parameter("embeddings.position_embedding", (1, plus(patches, 1), WIDTH), "embedding"),
        Convolution("embeddings.patch_embedding", WIDTH, 3, PATCH_KERNEL),
        Norm("post_layernorm"),
    ),
    vision_layers(
        "encoder.layers",
        Linear("self_attn.qkv", "3*hidden_size", WIDTH, biased),
        Linear("self_attn.projection", WIDTH, WIDTH),
        Norm("layer_norm1"),
        Linear("mlp.fc1", FFN, WIDTH),
        Linear("mlp.fc2", WIDTH, FFN),
        Norm("layer_norm2"),
    ),
)


def blip_attention(name: str, source: Size = WIDTH, inner: str = "self") -> tuple[Part, ...]:
    return (
        Linear(f"{name}.{inner}.query", WIDTH, WIDTH),
        *linears(f"{name}.{inner}", "key value", WIDTH, source),
        Linear(f"{name}.output.dense", WIDTH, WIDTH),
        Norm(f"{name}.output.LayerNorm"),
    )


def feed_forward(suffix: str = "") -> tuple[Part, ...]:
    return (
        Linear(f"intermediate{suffix}.dense", FFN, WIDTH),
        Linear(f"output{suffix}.dense", WIDTH, FFN),
        Norm(f"output{suffix}.LayerNorm"),
    )


BLIP_TEXT = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size"),
        Embedding("embeddings.position_embeddings", "max_position_embeddings"),
        Norm("embeddings.LayerNorm"),
    ),
    Layers(
        "encoder.layer",
        (
            *blip_attention("attention"),
            When("is_decoder", *blip_attention("crossattention", "encoder_hidden_size")),
            *feed_forward(),
        ),
        name="text",
    ),
)

# -- Q-Former -------------------------------------------------------------------------------------------------------


def crossing_schedule(f: Fields, count: int) -> list[str]:
    every = f["cross_attention_frequency"]
    return ["cross" if i % every == 0 else "plain" for i in range(count)]


def qformer(text: Option) -> Layers:
    """Blocks that attend to the image now and then; with `text` they have a second feed-forward for text."""
    return Layers(
        "encoder.layer",
        (
            *blip_attention("attention", inner="attention"),
            *feed_forward("_query"),
            When(text, *feed_forward()),
        ),
        name="qformer",
        variants={
            "cross": Variant(blip_attention("crossattention", "encoder_hidden_size", "attention")),
            "plain": Variant(),
        },
        schedule=crossing_schedule,
    )


BLIP2_QFORMER = Assembly(Rest(Norm("layernorm")), qformer("use_qformer_text_input"))
INSTRUCT_QFORMER = Assembly(
    Rest(
        Embedding("embeddings.word_embeddings", "vocab_size"),
        Embedding("embeddings.position_embeddings", "max_position_embeddings"),
        Norm("embeddings.layernorm"),
    ),
    qformer(True),
)

# -- whole models ---------------------------------------------------------------------------------------------------

EYE = "vision_config.hidden_size"
MOUTH = "text_config.hidden_size"
QUERY = "qformer_config.hidden_size"
BLIP_SEES = In("vision_config", BLIP_VISION, path="vision_model")
PROJECTIONS = Rest(
    Parameter("logit_scale", ()),
    Linear("visual_projection", "projection_dim", EYE, False),
    Linear("text_projection", "projection_dim", MOUTH, False),
)


def reads(path: str, *builders: BodyBuilder) -> BodyBuilder:
    return In("text_config", *builders, path=path, encoder_hidden_size=EYE)


BLIP_DECODER = Assembly(Named("decoder", At("bert", BLIP_TEXT)), BERT_MLM)


def blip_writes(f: Fields, path: str) -> Body:
    """The text decoder; its head is tied where the config or its text config says so."""
    text = f.sub("text_config")
    ties = tied(f) or tied(text)
    decided = text.replaced(encoder_hidden_size=f[EYE], tie_word_embeddings=ties)
    return BLIP_DECODER(decided, join(path, "text_decoder"))


BLIP_ENCODES = reads("text_encoder", BLIP_TEXT)
BLIP: dict[str, BodyBuilder] = {
    "Model": Assembly(reads("text_model", BLIP_TEXT, POOLER), BLIP_SEES, PROJECTIONS),
    "ForConditionalGeneration": Assembly(BLIP_SEES, blip_writes),
    "ForQuestionAnswering": Assembly(BLIP_SEES, BLIP_ENCODES, blip_writes),
    "ForImageTextRetrieval": Assembly(
        BLIP_SEES,
        BLIP_ENCODES,
        Rest(
            Linear("vision_proj", "image_text_hidden_size", EYE),
            Linear("text_proj", "image_text_hidden_size", MOUTH),
            Linear("itm_head", 2, MOUTH),
        ),
    ),
}


def writes(f: Fields, path: str) -> Body:
    """The language model with its head: a decoder alone, or an encoder-decoder."""
    ending = "ForConditionalGeneration" if f.sub("text_config").model_type in SEQ2SEQ else "ForCausalLM"
    return Nested("text_config", "language_model", TEXT, ending)(f, path)


def queried(former: BodyBuilder, language_model: BodyBuilder) -> BodyBuilder:
    return Assembly(
        Rest(Parameter("query_tokens", (1, "num_query_tokens", QUERY))),
        BLIP_SEES,
        In("qformer_config", former, path="qformer", encoder_hidden_size=EYE),
        Rest(Linear("language_projection", MOUTH, QUERY)),
        language_model,
    )


def instructed(model_type: str, prefix: str) -> dict[str, Family]:
    """BLIP-2 whose Q-Former reads the instruction, too."""
    classes = {
        "Model": queried(INSTRUCT_QFORMER, Nested("text_config", "language_model", TEXT)),
        "ForConditionalGeneration": queried(INSTRUCT_QFORMER, writes),
    }
    return {
        model_type: Family(prefix, classes, "ForConditionalGeneration"),
        f"{model_type}_qformer": Family(f"{prefix}QFormer", {"Model": INSTRUCT_QFORMER}),
        f"{model_type}_vision_model": Family(f"{prefix}Vision", {"Model": BLIP_VISION}),
    }


CAPTIONS: dict[str, Family] = {
    "blip": Family("Blip", BLIP, "ForConditionalGeneration"),
    "blip-2": Family(
        "Blip2",
        {ending: queried(BLIP2_QFORMER, writes) for ending in ("Model", "ForConditionalGeneration")},
        "ForConditionalGeneration",
    ),
    "blip_text_model": Family(
        "BlipText", {"Model": Assembly(BLIP_TEXT, POOLER), "LMHeadModel": Assembly(At("bert", BLIP_TEXT), BERT_MLM)}
    ),
    "blip_vision_model": Family("BlipVision", {"Model": BLIP_VISION}),
    "blip_2_qformer": Family("Blip2QFormer", {"Model": BLIP2_QFORMER}),
    "blip_2_vision_model": Family("Blip2Vision", {"Model": BLIP_VISION}),
    **instructed("instructblip", "InstructBlip"),
    **instructed("instructblipvideo", "InstructBlipVideo"),
}
