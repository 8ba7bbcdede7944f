"""GLM-5-Next: several residual streams, Kimi's delta attention, and latent attention without rotary positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastewq.architectures.assembly import Family, Nested
from fastewq.architectures.body import Decoder, every, leading, listed
from fastewq.architectures.decoders.experts import EXPERTS
from fastewq.architectures.decoders.latent import LatentAttention, glm_indexers, hyper_connections, indexer
from fastewq.architectures.decoders.linear_attention import KimiDelta
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import BodyAndHeads, decoder
from fastewq.architectures.parts import GatedMLP, Part, Tensors, parameter
from fastewq.architectures.vision.towers import glm_ocr_tower
from fastewq.architectures.vision_language.multimodal import GENERATE, once_flat, speaking

LAYERS = listed("layer_types", every(4, "indexed_attention", "linear_attention"))
INDEXERS = listed("indexer_types", glm_indexers)


def mixers(f: Fields, layers: int) -> Sequence[str]:
    """Linear attention, or latent attention with an indexer of its own ("full") or the last one's choice ("shared")."""
    kinds, indexers = LAYERS(f, layers), INDEXERS(f, layers)
    latent = ("indexed_attention", "full_attention")
    return [indexers[i] if kind in latent else kind for i, kind in enumerate(kinds)]


def pooled_keys(f: Fields) -> Tensors:
    """How the indexer makes one key of several."""
    dim = f["index_head_dim"]
    return (
        *parameter("indexer.index_kpool_compress_ape", f["index_kpool"], dim),
        *parameter("indexer.index_kpool_compress_gate", dim, f["hidden_size"]),
    )


def latent(*extras: Part) -> LatentAttention:
    return LatentAttention(low_rank_query=True, query_dim="qk_nope_head_dim", rope_dim=0, extras=extras)


GLM5_TEXT: Mapping[str, BodyAndHeads] = {
    "glm5_next_text": decoder(
        Decoder(
            mixers={
                "linear_attention": KimiDelta(decay_dims=1),
                "full": latent(indexer, pooled_keys),
                "shared": latent(),
            },
            mixer_schedule=mixers,
            feed_forwards={"dense": GatedMLP(), "sparse": EXPERTS},
            feed_forward_schedule=listed("mlp_layer_types", leading(3, "dense", "sparse")),
            extras=(hyper_connections,),
            only={"qk_rope_head_dim": (0,)},
        )
    ),
}
TOWER = {"glm5_next_vision": Family("Glm5NextVision", {"Model": glm_ocr_tower("projection_intermediate_size")})}
GLM5: Mapping[str, BodyAndHeads | Family] = {
    **GLM5_TEXT,
    **TOWER,
    "glm5_next": Family(
        "Glm5Next",
        once_flat(
            speaking(Nested("vision_config", "visual", TOWER), Nested("text_config", "language_model", GLM5_TEXT))
        ),
        GENERATE,
    ),
}
