"""Granite's models that see: Granite 4 Vision with Q-Formers over windows of patches, and Granite-Docling 2."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    WIDTH,
    Assembly,
    Each,
    Family,
    Linear,
    Nested,
    Norm,
    Parameter,
    Rest,
    Under,
    When,
    length,
    renamed,
)
from fastewq.architectures.body import Body
from fastewq.architectures.decoders.dense import LLAMA
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import Model, decoder
from fastewq.architectures.parts import Part, join, present
from fastewq.architectures.vision.towers import IDEFICS_VISION
from fastewq.architectures.vision_language.captions import BLIP2_QFORMER
from fastewq.architectures.vision_language.multimodal import EYE, GENERATE, MOUTH, sees, speaking
from fastewq.errors import UnsupportedArchitecture

# -- Granite 4 Vision -------------------------------------------------------------------------------------------------

HEAD = 64
SPATIAL = 4
"""Q-Formers that read windows at different offsets."""


def sides(f: Fields) -> tuple[int, int]:
    """Queries and patches along a window's side, as in "4/8"."""
    rate = f.text("downsample_rate")
    queries, _, window = rate.partition("/")
    if not (queries.isdecimal() and window.isdecimal() and len(rate) < 10 and int(queries) and int(window)):
        raise f.refuse("downsample_rate", rate, "two numbers such as '4/8'")
    return int(queries), int(window)


PROJECTOR = Rest(
    Norm("norm", EYE),
    Parameter("query", (1, lambda f: sides(f)[0] ** 2, EYE)),
    Parameter("image_positions", (1, lambda f: sides(f)[1] ** 2, EYE)),
    Linear("out_linear", MOUTH, EYE),
)
MAX_BLOCKS = 2048
"""Blocks of all Q-Formers together; published ones have one or two each."""


def projectors(f: Fields, path: str) -> Body:
    """Q-Formers of the tower's width: one for each layer that is read and four more for the last one."""
    width, read, sub = f[EYE], f.amount(length("deepstack_layer_map")), f.sub("qformer_config")
    if sub.model_type != "blip_2_qformer":
        raise UnsupportedArchitecture(
            f"{sub.where('model_type')} is {sub.model_type[:80]!r}; no exact block layout is known for it here"
        )
    if width < HEAD:
        raise f.refuse(EYE, width, f"at least the {HEAD} of one attention head")
    if (read + SPATIAL) * sub.layers() > MAX_BLOCKS:
        raise f.refuse("deepstack_layer_map", f.value("deepstack_layer_map"), f"at most {MAX_BLOCKS} blocks in all")
    reader = sub.replaced(hidden_size=width, num_attention_heads=width // HEAD, encoder_hidden_size=width)
    names = [f"layerwise_projectors.{i}" for i in range(read)] + [f"spatial_projectors.{i}" for i in range(SPATIAL)]
    bodies = [
        body
        for i, name in enumerate(names)
        for body in (
            PROJECTOR(f, join(path, name)),
            renamed(BLIP2_QFORMER(reader, join(path, name, "qformer")), f"qformer_{i}"),
        )
    ]
    stacks = tuple(stack for body in bodies for stack in body.stacks)
    return Body(stacks, tuple(group for body in bodies for group in body.outside))


TEXT: Mapping[str, Model] = dict.fromkeys(("granite4_vision_text", "granite_docling_text"), decoder(LLAMA))
GRANITE4_VISION = speaking(
    sees("vision_tower"),
    Nested("text_config", "language_model", TEXT),
    Rest(Parameter("image_newline", (MOUTH,))),
    projectors,
)

# -- Granite-Docling --------------------------------------------------------------------------------------------------

OUT = "out_hidden_size"


def route(name: str, factor: Size) -> Part:
    """From patches to the text model's width, many or few of them at once."""

    def seen(f: Fields) -> int:
        return f[WIDTH] * f[factor] ** 2

    merger = (Norm("layer_norm", seen), Linear("linear_1", OUT, seen), Linear("linear_2", OUT, OUT))
    return Under(name, Linear("projection", OUT, seen, False), Each("deepstack_mergers", layers_read, merger))


def layers_read(f: Fields) -> int:
    return 3 if f.value("deepstack_visual_indexes", None) is None else f.amount(length("deepstack_visual_indexes"))


DOCLING_VISION = Assembly(
    IDEFICS_VISION,
    Rest(
        Under(
            "connector",
            Norm("ln_in"),
            route("coarse", "scale_factor"),
            When("use_fine_route", route("fine", lambda f: f["scale_factor"] // 2)),
            Norm("ln_mid", OUT),
            Linear("mlp_fc2", OUT, OUT, False),
            Norm("ln_out", OUT),
        ),
    ),
)
DOCLING_EYES = {"granite_docling_vision": Family("GraniteDoclingVision", {"Model": DOCLING_VISION})}
GRANITE_DOCLING = speaking(
    Nested("vision_config", "vision_model", DOCLING_EYES),
    Nested("text_config", "text_model", TEXT),
    Rest(
        When(
            present("density_router_hidden_size"),
            Under(
                "density_router",
                Linear("att", 1, EYE),
                Norm("norm", EYE),
                Linear("fc1", "density_router_hidden_size", EYE),
                Linear("fc2", 1, "density_router_hidden_size"),
            ),
        )
    ),
)
GRANITE_VISION: Mapping[str, Model] = {
    **TEXT,
    **DOCLING_EYES,
    "granite4_vision": Family("Granite4Vision", GRANITE4_VISION, GENERATE),
    "granite_docling": Family("GraniteDocling", GRANITE_DOCLING, GENERATE),
}
