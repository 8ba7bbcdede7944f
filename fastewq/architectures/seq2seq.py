"""Encoder-decoder text models: T5 and its relatives, BART and its relatives."""

from __future__ import annotations

from fastewq.architectures.assembly import (
    Assembly,
    At,
    Embedding,
    Expect,
    Family,
    Layers,
    Linear,
    Norm,
    Rest,
    StackRole,
    Under,
    When,
    either,
    labels,
    linears,
    unless,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.parts import Option, Part, Size

# -- T5 -------------------------------------------------------------------------------------------------------------

T5_INNER = "num_heads*d_kv"


def gated(f: Fields) -> bool:
    if "is_gated_act" in f:
        return f.flag("is_gated_act")
    return f.text("feed_forward_proj").startswith("gated-")


def t5_attention(name: str) -> Part:
    return Under(name, *linears("", "q k v", T5_INNER, "d_model", False), Linear("o", "d_model", T5_INNER, False))


def t5_norm(name: str) -> Norm:
    return Norm(name, "d_model", bias=False)


T5_DENSE = (
    When(gated, *linears("", "wi_0 wi_1", "d_ff", "d_model", False)),
    When(unless(gated), Linear("wi", "d_ff", "d_model", False)),
    Linear("wo", "d_model", "d_ff", False),
)
T5_RELATIVE_BIAS = Embedding("relative_attention_bias", "relative_attention_num_buckets", "num_heads")


def t5_stack(
    name: str,
    *,
    feed_forward: tuple[Part, ...] = (Under("DenseReluDense", *T5_DENSE),),
    self_attention: str = "SelfAttention",
    bias_everywhere: Option = False,
) -> BodyBuilder:
    """The encoder or the decoder: blocks of self-attention, cross-attention (decoder) and feed-forward, final norm."""
    decoder = name == "decoder"
    last = 2 if decoder else 1
    bias = Under(f"layer.0.{self_attention}", T5_RELATIVE_BIAS)
    parts: tuple[Part, ...] = (
        Under("layer.0", t5_attention(self_attention), t5_norm("layer_norm")),
        *((Under("layer.1", t5_attention("EncDecAttention"), t5_norm("layer_norm")),) if decoder else ()),
        Under(f"layer.{last}", *feed_forward, t5_norm("layer_norm")),
        When(bias_everywhere, bias),
    )
    return At(
        name,
        Layers(
            "block",
            parts,
            count=either("num_decoder_layers", "num_layers") if decoder else "num_layers",
            name=name,
            role="decoder" if decoder else "encoder",
            width="d_model",
            heads="num_heads",
            head_dim="d_kv",
            ffn="d_ff",
            norm="rms",
            first=() if bias_everywhere is True else (bias,),
        ),
        Rest(t5_norm("final_layer_norm")),
    )


def t5_classes(encoder: BodyBuilder, decoder: BodyBuilder) -> dict[str, BodyBuilder]:
    """The LM head is the shared embedding, whatever `tie_word_embeddings` says: the config class forces it."""
    shared = Rest(Embedding("shared", "vocab_size", "d_model"))
    both = Assembly(shared, encoder, decoder)
    alone = Assembly(Expect("is_decoder", False), shared, encoder)
    classification = Rest(
        Linear("classification_head.dense", "d_model", "d_model"),
        Linear("classification_head.out_proj", labels, "d_model"),
    )
    return {
        "Model": both,
        "ForConditionalGeneration": both,
        "WithLMHeadModel": both,
        "EncoderModel": alone,
        "ForSequenceClassification": Assembly(At("transformer", both), classification),
        "ForTokenClassification": Assembly(At("transformer", alone), Rest(Linear("classifier", labels, "d_model"))),
        "ForQuestionAnswering": Assembly(both, Rest(Linear("qa_outputs", labels, "d_model"))),
    }


T5 = t5_classes(t5_stack("encoder"), t5_stack("decoder"))
UMT5 = t5_classes(t5_stack("encoder", bias_everywhere=True), t5_stack("decoder", bias_everywhere=True))

# -- BART -----------------------------------------------------------------------------------------------------------


def bart_attention(name: str, key_bias: Option = True, width: Size = "d_model") -> tuple[Part, ...]:
    return (*linears(name, "q_proj v_proj out_proj", width, width), Linear(f"{name}.k_proj", width, width, key_bias))


def bart_layer(side: str, key_bias: Option = True, cross: bool = False, width: Size = "d_model") -> tuple[Part, ...]:
    """Attention, cross-attention (decoder) and feed-forward, a norm for each (before or after: the same tensors)."""
    crossing: tuple[Part, ...] = (
        *bart_attention("encoder_attn", key_bias, width),
        Norm("encoder_attn_layer_norm", width),
    )
    return (
        *bart_attention("self_attn", key_bias, width),
        Norm("self_attn_layer_norm", width),
        *(crossing if cross else ()),
        Linear("fc1", f"{side}_ffn_dim", width),
        Linear("fc2", width, f"{side}_ffn_dim"),
        Norm("final_layer_norm", width),
    )


def bart_stack(side: str, parts: tuple[Part, ...], role: StackRole | None = None) -> Layers:
    return Layers(
        "layers",
        parts,
        count=f"{side}_layers",
        name=side,
        role=role or ("decoder" if side == "decoder" else "encoder"),
        width="d_model",
        heads=f"{side}_attention_heads",
        ffn=f"{side}_ffn_dim",
    )


SEQ2SEQ: dict[str, Family] = {
    "t5": Family("T5", T5, "ForConditionalGeneration", classes=("T5WithLMHeadModel",)),
    "mt5": Family("MT5", T5, "ForConditionalGeneration"),
    "umt5": Family("UMT5", UMT5, "ForConditionalGeneration"),
}
