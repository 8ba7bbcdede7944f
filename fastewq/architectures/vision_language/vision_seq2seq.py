"""Models joined of two with configs of their own: an encoder of images, sound or text with a decoder, or two encoders.

TrOCR, VisionEncoderDecoder, SpeechEncoderDecoder, EncoderDecoder and VisionTextDualEncoder.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    UNTIED,
    Assembly,
    At,
    Embedding,
    Expect,
    Family,
    Linear,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    When,
    linears,
    plus,
)
from fastewq.architectures.audio.speech import AUDIO
from fastewq.architectures.body import Body, BodyBuilder
from fastewq.architectures.decoders.dense import GPT2
from fastewq.architectures.encoders.bert_relatives import ENCODERS
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import LMHead, Model, decoder
from fastewq.architectures.parts import field_or
from fastewq.architectures.seq2seq.bart import bart_attention, bart_feed_forward, bart_stack
from fastewq.architectures.text import TEXT
from fastewq.architectures.vision.clip import VISION
from fastewq.architectures.vision.images import IMAGES
from fastewq.architectures.vision.swin import SWIN, swin_width

READ_WIDTH = field_or("cross_attention_hidden_size", "d_model")

TROCR = At(
    "model.decoder",
    Rest(
        Embedding("embed_tokens", "vocab_size", "d_model"),
        When(
            "use_learned_position_embeddings",
            Embedding("embed_positions", plus("max_position_embeddings", 2), "d_model"),
        ),
        When("layernorm_embedding", Norm("layernorm_embedding", "d_model")),
    ),
    bart_stack(
        "decoder",
        (
            *bart_attention("self_attn"),
            Norm("self_attn_layer_norm", "d_model"),
            *linears("encoder_attn", "k_proj v_proj", "d_model", READ_WIDTH),
            *linears("encoder_attn", "q_proj out_proj", "d_model", "d_model"),
            Norm("encoder_attn_layer_norm", "d_model"),
            *bart_feed_forward("decoder"),
        ),
    ),
)
TROCR_LM = Assembly(TROCR, Rest(Linear("output_projection", "vocab_size", "d_model", False, UNTIED)))

WRITERS: Mapping[str, Model] = {
    "trocr": Family("TrOCR", {"ForCausalLM": TROCR_LM}, "ForCausalLM", "ForCausalLM"),
    # AutoModelForCausalLM gives these the class BertLMHeadModel
    "bert": Family("Bert", {"ForCausalLM": ENCODERS["bert"].builders["LMHeadModel"]}, "ForCausalLM", "ForCausalLM"),
    **{name: TEXT[name] for name in ("bart", "mbart", "roberta", "xlm-roberta", "camembert")},
    "gpt2": decoder(GPT2, heads={"ForCausalLM": LMHead()}, prefix="transformer"),
}
SWINS = ("swin", "donut-swin")
READERS: Mapping[str, Model] = {
    **{name: IMAGES[name] for name in ("vit", "deit", "beit", "dinov2")},
    **{name: SWIN[name] for name in SWINS},
}

READERS_OF_TEXT: Mapping[str, Model] = {name: TEXT[name] for name in ("bert", "roberta", "xlm-roberta", "camembert")}


def read_width(f: Fields) -> int:
    encoder = f.sub("encoder")
    return swin_width(encoder) if encoder.model_type in SWINS else encoder["hidden_size"]


def widths_differ(f: Fields) -> bool:
    decoder = f.sub("decoder")
    return read_width(f) != decoder["hidden_size"] and decoder.value("cross_attention_hidden_size", None) is None


WRITES = Nested("decoder", "decoder", WRITERS, "ForCausalLM", name="decoder")


def joined(readers: Mapping[str, Model]) -> BodyBuilder:
    return Assembly(
        Expect("tie_encoder_decoder", False),
        Nested("encoder", "encoder", readers),
        WRITES,
        Only(widths_differ, Rest(Linear("enc_to_dec_proj", "decoder.hidden_size", read_width))),
    )


HEARERS: Mapping[str, Model] = {name: AUDIO[name] for name in ("wav2vec2", "hubert", "wavlm", "wav2vec2-bert")}


def heard_width(f: Fields) -> int:
    encoder = f.sub("encoder")
    return encoder.optional_size("output_hidden_size") or encoder["hidden_size"]


def hears_another_width(f: Fields) -> bool:
    decoder = f.sub("decoder")
    return heard_width(f) != decoder["hidden_size"] and decoder.value("cross_attention_hidden_size", None) is None


def hears(f: Fields, path: str) -> Body:
    """The encoder, whose own vocabulary is of no use here."""
    return Nested("encoder", "encoder", HEARERS)(f, path)._replace(vocab_size=0)


SPEECH = Assembly(
    hears,
    WRITES,
    Only(hears_another_width, Rest(Linear("enc_to_dec_proj", "decoder.hidden_size", "encoder.hidden_size"))),
)
DUAL_EYES: Mapping[str, Model] = {
    **{name: IMAGES[name] for name in ("vit", "deit", "beit", "dinov2")},
    "clip_vision_model": VISION["clip_vision_model"],
}
DUAL = Assembly(
    Rest(Parameter("logit_scale", ())),
    Nested("vision_config", "vision_model", DUAL_EYES),
    Nested("text_config", "text_model", READERS_OF_TEXT),
    Rest(
        Linear("visual_projection", "projection_dim", "vision_config.hidden_size", False),
        Linear("text_projection", "projection_dim", "text_config.hidden_size", False),
    ),
)

VISION_SEQ2SEQ: Mapping[str, Model] = {
    "trocr": WRITERS["trocr"],
    "vision-encoder-decoder": Family("VisionEncoderDecoder", {"Model": joined(READERS)}),
    "speech-encoder-decoder": Family("SpeechEncoderDecoder", {"Model": SPEECH}),
    "vision-text-dual-encoder": Family("VisionTextDualEncoder", {"Model": DUAL}),
    "encoder-decoder": Family("EncoderDecoder", {"Model": joined(READERS_OF_TEXT)}),
}
