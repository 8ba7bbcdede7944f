"""Models that tell the depth of each pixel from several layers of an image model: DPT and those after it."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import (
    WIDTH,
    Assembly,
    At,
    Convolution,
    Each,
    Expect,
    Family,
    Linear,
    Nested,
    Norm,
    Only,
    Rest,
    Under,
    When,
    adjusted,
    length,
    linears,
    patches,
    plus,
    quotient,
    sizes,
    upsampling,
)
from fastewq.architectures.body import BodyBuilder
from fastewq.architectures.fields import Fields, Size
from fastewq.architectures.heads import labels
from fastewq.architectures.parts import Part, Tensors, present, unless
from fastewq.architectures.vision.clip import vision_layers
from fastewq.architectures.vision.images import (
    FINAL_NORM,
    IMAGES,
    VIT_POOLER,
    older_vit_layer,
    patch_embedding,
    position_table,
    token,
    vit,
)
from fastewq.architectures.vision.swin import SWIN

FUSED = "fusion_hidden_size"
NECK = "neck_hidden_sizes"

# -- from tokens to images of several sizes, and to one ---------------------------------------------------------------


def factors(f: Fields) -> list[float]:
    """How much larger than the grid of patches each image is; below one where it is smaller."""
    values = f.value("reassemble_factors")
    if not isinstance(values, list | tuple) or not all(type(v) in (int, float) and 0 < v <= 64 for v in values):
        raise f.refuse("reassemble_factors", values, "a list of numbers from 0 to 64")
    return list(values)


def reassembly(seen: Size) -> Part:
    """A projection per image and a convolution that resizes it."""

    def part(f: Fields) -> Tensors:
        parts: list[Part] = []
        for i, (width, factor) in enumerate(zip(sizes(f, NECK), factors(f), strict=False)):
            parts.append(Convolution(f"layers.{i}.projection", width, seen, (1, 1)))
            if factor > 1:
                parts += upsampling(f"layers.{i}.resize", width, width, int(factor), int(factor))
            elif factor < 1:
                parts.append(Convolution(f"layers.{i}.resize", width, width, (3, 3)))
        return tuple(t for part in parts for t in part(f))

    return part


def neck_convolutions(f: Fields) -> Tensors:
    return tuple(
        t
        for i, width in enumerate(sizes(f, NECK))
        for t in Convolution(f"neck.convs.{i}", FUSED, width, (3, 3), bias=False)(f)
    )


def batch_normed(f: Fields) -> bool:
    return f.flag("use_batch_norm_in_fusion_residual", False)


def residual_bias(f: Fields) -> bool:
    given = f.value("use_bias_in_fusion_residual", None)
    return not batch_normed(f) if given is None else f.flag("use_bias_in_fusion_residual")


def residual(name: str) -> Part:
    return Under(
        name,
        *(Convolution(f"convolution{i}", FUSED, FUSED, (3, 3), residual_bias) for i in (1, 2)),
        When(batch_normed, Norm("batch_norm1", FUSED), Norm("batch_norm2", FUSED)),
    )


def fusion(*extra: Part) -> Part:
    return Each(
        "neck.fusion_stage.layers",
        length(NECK),
        (
            Convolution("projection", FUSED, FUSED, (1, 1)),
            residual("residual_layer1"),
            residual("residual_layer2"),
            *extra,
        ),
    )


# -- DPT --------------------------------------------------------------------------------------------------------------

DPT = vit(
    token("cls_token"),
    position_table(plus(patches, 1)),
    patch_embedding(),
    norm=FINAL_NORM,
    layer=older_vit_layer(),
    path="encoder.layer",
    head_dim=None,
)
BACKBONES: Mapping[str, Family] = {"beit": IMAGES["beit"], "dinov2": IMAGES["dinov2"], "swinv2": SWIN["swinv2"]}


def dpt_width(f: Fields) -> int:
    backbone = f.optional_sub("backbone_config")
    if backbone is not None and backbone.value("hidden_size", None) is not None:
        return backbone[WIDTH]
    return f[WIDTH]


def reads_swin(f: Fields) -> bool:
    backbone = f.optional_sub("backbone_config")
    return backbone is not None and backbone.model_type == "swinv2"


def projects_readout(f: Fields) -> bool:
    return bool(f.value("readout_type", None) == "project")


DPT_NECK = Rest(
    When(
        unless(reads_swin),
        Under("neck.reassemble_stage", reassembly(dpt_width)),
        When(
            projects_readout,
            Each(
                "neck.reassemble_stage.readout_projects",
                length(NECK),
                (Linear("0", dpt_width, lambda f: 2 * dpt_width(f)),),
            ),
        ),
    ),
    neck_convolutions,
    fusion(),
)
DPT_DEPTH = Assembly(
    Expect("is_hybrid", False),
    Only(present("backbone_config"), Nested("backbone_config", "backbone", BACKBONES, "Backbone")),
    Only(unless(present("backbone_config")), At("dpt", DPT)),
    DPT_NECK,
    Rest(
        When("add_projection", Convolution("head.projection", 256, 256, (3, 3))),
        Convolution("head.head.0", quotient(FUSED, 2), FUSED, (3, 3)),
        Convolution("head.head.2", 32, quotient(FUSED, 2), (3, 3)),
        Convolution("head.head.4", 1, 32, (1, 1)),
    ),
)


def segmenting(name: str) -> Part:
    return Under(
        name,
        Convolution("head.0", FUSED, FUSED, (3, 3), bias=False),
        Norm("head.1", FUSED),
        Convolution("head.4", labels, FUSED, (1, 1)),
    )


DPT_SEGMENTS = Assembly(
    Expect("is_hybrid", False),
    At("dpt", DPT),
    DPT_NECK,
    Rest(segmenting("head"), When("use_auxiliary_head", segmenting("auxiliary_head"))),
)

# -- Depth Anything ---------------------------------------------------------------------------------------------------

DINO: Mapping[str, Family] = {name: IMAGES[name] for name in ("dinov2", "dinov2_with_registers")}


def depth_anything(*extra: Part) -> BodyBuilder:
    return Assembly(
        Nested("backbone_config", "backbone", DINO, "Backbone"),
        Rest(
            Under("neck.reassemble_stage", reassembly("reassemble_hidden_size")),
            neck_convolutions,
            fusion(*extra),
            Convolution("head.conv1", quotient(FUSED, 2), FUSED, (3, 3)),
            Convolution("head.conv2", "head_hidden_size", quotient(FUSED, 2), (3, 3)),
            Convolution("head.conv3", 1, "head_hidden_size", (1, 1)),
        ),
    )


PROMPT = Under(
    "prompt_depth_layer",
    Convolution("convolution1", FUSED, 1, (3, 3)),
    Convolution("convolution2", FUSED, FUSED, (3, 3)),
    Convolution("convolution3", FUSED, FUSED, (3, 3)),
)
ESTIMATES = "ForDepthEstimation"

# -- ZoeDepth: bins of metres, drawn to where the relative depth says -------------------------------------------------

BINS, WAITS = "bin_embedding_dim", "bottleneck_features"
ROOM = "patch_transformer_hidden_size"


def bin_configurations(f: Fields) -> list[Mapping[str, object]]:
    """Kinds of places, each with bins of its own; one where the config names none."""
    given = f.value("bin_configurations", None) or [{"n_bins": 64}]
    if not isinstance(given, list | tuple) or len(given) > 16 or not all(isinstance(one, Mapping) for one in given):
        raise f.refuse("bin_configurations", given, "a list of at most 16 objects")
    return list(given)


def several_places(f: Fields) -> bool:
    return len(bin_configurations(f)) > 1


def bins(f: Fields, place: Mapping[str, object]) -> int:
    return Fields(place, "", f.where("bin_configurations"))["n_bins"]


def pair_of_convolutions(name: str, inputs: Size, inner: Size, outputs: Size) -> Part:
    return Under(name, Convolution("conv1", inner, inputs, (1, 1)), Convolution("conv2", outputs, inner, (1, 1)))


def attracting(f: Fields) -> int:
    """Numbers for each attractor: where it is, and how strong where bins are normed."""
    return 1 if f.choice("bin_centers_type", ("normed", "softplus")) == "softplus" else 2


def binomial(name: str, inputs: Size, factor: int) -> Part:
    seen: Size = plus(inputs, BINS)
    inner = quotient(seen, factor)
    return Under(f"{name}.mlp", Convolution("0", inner, seen, (1, 1)), Convolution("2", 4, inner, (1, 1)))


def one_place(f: Fields) -> Tensors:
    parts: list[Part] = [
        pair_of_convolutions("seed_bin_regressor", WAITS, 256, bins(f, bin_configurations(f)[0])),
        pair_of_convolutions("seed_projector", WAITS, 128, BINS),
        *(pair_of_convolutions(f"projectors.{i}", FUSED, 128, BINS) for i in range(4)),
        *(
            pair_of_convolutions(f"attractors.{i}", BINS, BINS, attracting(f) * count)
            for i, count in enumerate(sizes(f, "num_attractors", 4)[:4])
        ),
        binomial("conditional_log_binomial", plus("num_relative_features", 1), 2),
    ]
    return tuple(t for part in parts for t in part(f))


def all_places(f: Fields) -> Tensors:
    half = quotient(BINS, 2)
    parts: list[Part] = [
        Convolution("patch_transformer.embedding_convPxP", ROOM, WAITS, (1, 1)),
        Linear("mlp_classifier.linear1", 128, 128),
        Linear("mlp_classifier.linear2", 2, 128),
        pair_of_convolutions("seed_projector", WAITS, half, BINS),
        *(pair_of_convolutions(f"projectors.{i}", FUSED, half, BINS) for i in range(4)),
    ]
    attractors = len(sizes(f, "num_attractors"))
    for place in bin_configurations(f):
        name = place.get("name")
        if not isinstance(name, str) or not name.isidentifier() or len(name) > 64:
            raise f.refuse("bin_configurations", place, "an object with the name of a place")
        parts += [
            pair_of_convolutions(f"seed_bin_regressors.{name}", WAITS, half, bins(f, place)),
            *(
                pair_of_convolutions(f"attractors.{name}.{i}", BINS, BINS, 16 * attracting(f))
                for i in range(attractors)
            ),
            binomial(f"conditional_log_binomial.{name}", "num_relative_features", 4),
        ]
    return tuple(t for part in parts for t in part(f))


ROOM_FFN = "patch_transformer_intermediate_size"
WHERE = At(
    "metric_head.patch_transformer",
    vision_layers(
        "transformer_encoder",
        *linears("self_attn", "query key value out_proj", ROOM, ROOM),
        Linear("linear1", ROOM_FFN, ROOM),
        Linear("linear2", ROOM, ROOM_FFN),
        Norm("norm1", ROOM),
        Norm("norm2", ROOM),
        count="num_patch_transformer_layers",
        name="places",
        width=ROOM,
        heads="patch_transformer_num_attention_heads",
        ffn=ROOM_FFN,
    ),
)
ZOEDEPTH = Assembly(
    Nested("backbone_config", "backbone", BACKBONES, "Backbone"),
    DPT_NECK,
    Rest(
        When("add_projection", Convolution("relative_head.projection", 256, 256, (3, 3))),
        Convolution("relative_head.conv1", quotient(FUSED, 2), FUSED, (3, 3)),
        Convolution("relative_head.conv2", "num_relative_features", quotient(FUSED, 2), (3, 3)),
        Convolution("relative_head.conv3", 1, "num_relative_features", (1, 1)),
        Convolution("metric_head.conv2", WAITS, WAITS, (1, 1)),
        When(several_places, Under("metric_head", all_places)),
        When(unless(several_places), Under("metric_head", one_place)),
    ),
    Only(several_places, WHERE),
)

# -- Depth Pro: towers over patches of several scales and over the whole image ----------------------------------------


def upsampled(name: str, projected: bool, inputs: int, between: int, outputs: int, steps: int) -> list[Part]:
    """A projection, and transposed convolutions that double the size of an image each."""
    parts: list[Part] = [Convolution("layers.0", between, inputs, (1, 1), bias=False)] if projected else []
    first = len(parts)
    for i in range(steps):
        entering = outputs if i else between
        parts += upsampling(f"layers.{first + i}", entering, outputs, 2, 2, bias=not projected)
    return [Under(name, *parts)]


def pro_neck(f: Fields) -> Tensors:
    fused, seen = f[FUSED], f[f"patch_model_config.{WIDTH}"]
    scaled, between = sizes(f, "scaled_images_feature_dims", 1), sizes(f, "intermediate_feature_dims")
    whole = f[f"image_model_config.{WIDTH}"]
    parts = upsampled("feature_upsample.image_block", False, whole, whole, scaled[0], 1)
    for i, width in enumerate(scaled):
        parts += upsampled(f"feature_upsample.scaled_images.{i}", True, seen, width, width, 1)
    for i, width in enumerate(between):
        parts += upsampled(f"feature_upsample.intermediate.{i}", True, seen, width if i else fused, width, 2 + i)
    parts.append(Convolution("fuse_image_with_low_res", scaled[0], 2 * scaled[0], (1, 1)))
    projected = (*scaled, *between)
    for i, width in enumerate(projected):
        if i < len(projected) - 1 or width != fused:
            parts.append(Convolution(f"feature_projection.projections.{i}", fused, width, (3, 3), bias=False))
    return tuple(t for part in parts for t in part(f))


def pro_residual(name: str) -> Part:
    return Under(
        name,
        *(Convolution(f"convolution{i}", FUSED, FUSED, (3, 3), "use_bias_in_fusion_residual") for i in (1, 2)),
        When(batch_normed, Norm("batch_norm1", FUSED), Norm("batch_norm2", FUSED)),
    )


PRO_FUSION: tuple[Part, ...] = (
    pro_residual("residual_layer1"),
    pro_residual("residual_layer2"),
    Convolution("projection", FUSED, FUSED, (1, 1)),
)
PRO_DOUBLES = upsampling("deconv", FUSED, FUSED, 2, 2, bias=False)


def pro_levels(f: Fields) -> int:
    """Levels but the last one."""
    found = f[length("intermediate_hook_ids")] + f[length("scaled_images_ratios")]
    if not found:
        raise f.refuse("scaled_images_ratios", f.value("scaled_images_ratios"), "at least one scale")
    return found - 1


def of_one_size(f: Fields) -> Fields:
    """With every tower's images as large as the outer config's patches."""
    given = {name: f.value(name, None) for name in ("patch_model_config", "image_model_config", "fov_model_config")}
    sized = {name: {**one, "image_size": f["patch_size"]} for name, one in given.items() if isinstance(one, Mapping)}
    return f.replaced(**sized)


PRO_BODY = Assembly(
    Nested("patch_model_config", "encoder.patch_encoder.model", DINO, name="patches"),
    Nested("image_model_config", "encoder.image_encoder.model", DINO, name="image"),
    Rest(Under("neck", pro_neck)),
)


def fov_head(f: Fields) -> Tensors:
    """Convolutions that leave one number, the field of view."""
    layers, image = f.count("num_fov_head_layers", high=16), f.sub("image_model_config")
    halves = [-(-f[FUSED] // 2**i) for i in range(1, layers + 2)]
    left = int((image["image_size"] // image["patch_size"] - 1) / 2**layers + 1)
    found = [Convolution(f"layers.{2 * i}", halves[i + 1], halves[i], (3, 3)) for i in range(layers)]
    last = Convolution(f"layers.{2 * layers}", 1, halves[-1], (left, left))
    return tuple(t for part in (*found, last) for t in part(f))


PRO = Assembly(
    At("depth_pro", PRO_BODY),
    Rest(
        Each("fusion_stage.intermediate", pro_levels, (*PRO_FUSION, *PRO_DOUBLES)),
        Under("fusion_stage.final", *PRO_FUSION),
        Convolution("head.layers.0", quotient(FUSED, 2), FUSED, (3, 3)),
        *upsampling("head.layers.1", quotient(FUSED, 2), quotient(FUSED, 2), 2, 2),
        Convolution("head.layers.2", 32, quotient(FUSED, 2), (3, 3)),
        Convolution("head.layers.4", 1, 32, (1, 1)),
    ),
    Only(
        "use_fov_model",
        Nested("fov_model_config", "fov_model.fov_encoder.model", DINO, name="view"),
        Rest(
            Linear("fov_model.fov_encoder.neck", quotient(FUSED, 2), f"fov_model_config.{WIDTH}"),
            Convolution("fov_model.conv", quotient(FUSED, 2), FUSED, (3, 3)),
            Under("fov_model.head", fov_head),
        ),
    ),
)
DEPTH: Mapping[str, Family] = {
    "dpt": Family(
        "DPT",
        {
            "Model": Assembly(Expect("is_hybrid", False), DPT, VIT_POOLER),
            ESTIMATES: DPT_DEPTH,
            "ForSemanticSegmentation": DPT_SEGMENTS,
        },
        ESTIMATES,
    ),
    "zoedepth": Family("ZoeDepth", {ESTIMATES: ZOEDEPTH}, ESTIMATES, ESTIMATES),
    "depth_pro": Family("DepthPro", adjusted({"Model": PRO_BODY, ESTIMATES: PRO}, of_one_size), ESTIMATES),
    "depth_anything": Family("DepthAnything", {ESTIMATES: depth_anything()}, ESTIMATES, ESTIMATES),
    "prompt_depth_anything": Family("PromptDepthAnything", {ESTIMATES: depth_anything(PROMPT)}, ESTIMATES, ESTIMATES),
}
