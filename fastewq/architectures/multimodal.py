"""Vision-language models: a tower that reads images, a projector, and a language model that also runs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastewq.architectures.assembly import (
    UNTIED,
    Assembly,
    At,
    Family,
    Linear,
    Nested,
    Norm,
    Only,
    Parameter,
    Rest,
    Under,
    labels,
    measure,
    present,
    sizes,
    tied,
)
from fastewq.architectures.body import Body, BodyBuilder
from fastewq.architectures.fields import Fields
from fastewq.architectures.heads import Model
from fastewq.architectures.parts import Option, Part, Size
from fastewq.architectures.text import TEXT
from fastewq.architectures.towers import STEP_WIDTH, TOWERS
from fastewq.architectures.vision import VISION

EYES: Mapping[str, Model] = {**VISION, **TOWERS}

EYE = "vision_config.hidden_size"
MOUTH = "text_config.hidden_size"


def sees(path: str) -> BodyBuilder:
    """The tower of `vision_config`."""
    return Nested("vision_config", path, EYES)


def speaks(path: str, ending: str = "") -> BodyBuilder:
    """The language model of `text_config`."""
    return Nested("text_config", path, TEXT, ending)


LM_HEAD = Rest(Linear("lm_head", "text_config.vocab_size", MOUTH, False, weight=UNTIED))


def untied_everywhere(f: Fields) -> bool:
    return not tied(f) and not tied(f.sub("text_config"))


LM_HEAD_OF_EITHER = Rest(Linear("lm_head", "text_config.vocab_size", MOUTH, False, weight=untied_everywhere))
"""Tied where the config or its text config says so: files of the library's version 4 have it in the latter."""


def speaking(*builders: BodyBuilder, lm_head: BodyBuilder = LM_HEAD, **more: BodyBuilder) -> dict[str, BodyBuilder]:
    """The model without and with its language-modelling head; `more` are classes with another head."""
    inner = At("model", *builders)
    return {
        "Model": Assembly(*builders),
        "ForConditionalGeneration": Assembly(inner, lm_head),
        **{name: Assembly(inner, head) for name, head in more.items()},
    }


@dataclass(frozen=True)
class OnceFlat:
    """A model whose older files have no `text_config`, but its fields at the top."""

    build: BodyBuilder

    def __call__(self, f: Fields, path: str) -> Body:
        return self.build(f.unflattened("text_config"), path)


def once_flat(classes: dict[str, BodyBuilder]) -> dict[str, BodyBuilder]:
    return {ending: OnceFlat(build) for ending, build in classes.items()}


SCORE = Rest(Linear("score", labels, MOUTH, False))
BIASED_SCORE = Rest(Linear("score", labels, MOUTH))

# -- LLaVA ----------------------------------------------------------------------------------------------------------


def feature_layers(f: Fields) -> int:
    """Layers of the tower whose outputs are concatenated."""
    layers = f.get("vision_feature_layer")
    return len(layers) if isinstance(layers, list | tuple) and layers else 1


def llava_projector(bias: Option = "multimodal_projector_bias") -> Part:
    seen: Size = lambda f: measure(f, EYE) * feature_layers(f)  # noqa: E731
    return Under("multi_modal_projector", Linear("linear_1", MOUTH, seen, bias), Linear("linear_2", MOUTH, MOUTH, bias))


LLAVA = (sees("vision_tower"), Rest(llava_projector()), speaks("language_model"))
LLAVA_NEXT = (Rest(Parameter("image_newline", (MOUTH,))), *LLAVA)

# -- projectors that merge neighbouring patches ---------------------------------------------------------------------


def shuffled(f: Fields) -> int:
    """Features of a pixel-shuffled token: InternVL's `downsample_ratio` squared."""
    return measure(f, EYE) * int(1 / f.number("downsample_ratio", low=1e-3)) ** 2


INTERNVL = (
    sees("vision_tower"),
    Rest(
        Under(
            "multi_modal_projector",
            Norm("layer_norm", shuffled),
            Linear("linear_1", MOUTH, shuffled),
            Linear("linear_2", MOUTH, MOUTH),
        )
    ),
    speaks("language_model"),
)
IDEFICS3 = (
    sees("vision_model"),
    Rest(
        Linear(
            "connector.modality_projection.proj", MOUTH, "vision_config.hidden_size*scale_factor*scale_factor", False
        )
    ),
    speaks("text_model"),
)
MISTRAL3 = (
    sees("vision_tower"),
    Rest(
        Under(
            "multi_modal_projector",
            Norm("norm", EYE, False),
            Linear(
                "patch_merger.merging_layer",
                EYE,
                "vision_config.hidden_size*spatial_merge_size*spatial_merge_size",
                False,
            ),
            Linear("linear_1", MOUTH, lambda f: measure(f, EYE) * feature_layers(f), "multimodal_projector_bias"),
            Linear("linear_2", MOUTH, MOUTH, "multimodal_projector_bias"),
        )
    ),
    speaks("language_model"),
)


def kimi_merged(f: Fields) -> int:
    rows, columns = sizes(f.sub("vision_config"), "merge_kernel_size", 2)[:2]
    return measure(f, EYE) * rows * columns


def step_width(f: Fields) -> int:
    """Features after Step's two strided convolutions."""
    return 4 * STEP_WIDTH(f.sub("vision_config"))


KIMI_K25 = (
    sees("vision_tower"),
    Rest(
        Under(
            "mm_projector",
            Norm("pre_norm", "projection_hidden_size"),
            Linear("in_proj", kimi_merged, kimi_merged),
            Linear("out_proj", MOUTH, kimi_merged),
        )
    ),
    speaks("language_model"),
)
GEMMA3 = (
    sees("vision_tower"),
    Rest(
        Parameter("multi_modal_projector.mm_input_projection_weight", (EYE, MOUTH), "linear"),
        Norm("multi_modal_projector.mm_soft_emb_norm", EYE, False),
    ),
    speaks("language_model"),
)
PALIGEMMA = (
    sees("vision_tower"),
    Rest(Linear("multi_modal_projector.linear", "projection_dim", EYE)),
    speaks("language_model"),
)
GEMMA4 = (
    Only(
        present("vision_config"),
        sees("vision_tower"),
        Rest(Linear("embed_vision.embedding_projection", MOUTH, EYE, False)),
    ),
    speaks("language_model"),
    Only(
        present("audio_config"),
        Nested("audio_config", "audio_tower", TOWERS),
        Rest(Linear("embed_audio.embedding_projection", MOUTH, "audio_config.output_proj_dims", False)),
    ),
)
STEP3P7 = (
    sees("vision_model"),
    speaks("language_model"),
    Rest(Linear("multi_modal_projector", MOUTH, step_width, "projector_bias")),
)
QWEN_VL = (sees("visual"), speaks("language_model"))
LLAMA4 = Assembly(
    sees("vision_model"),
    Rest(Linear("multi_modal_projector.linear_1", MOUTH, "vision_config.vision_output_dim", False)),
    speaks("language_model", "ForCausalLM"),
)

GENERATE = "ForConditionalGeneration"
MULTIMODAL: dict[str, Family] = {
    "llava": Family("Llava", speaking(*LLAVA, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "llava_next": Family("LlavaNext", speaking(*LLAVA_NEXT), GENERATE),
    "llava_next_video": Family("LlavaNextVideo", speaking(*LLAVA_NEXT, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "llava_onevision": Family("LlavaOnevision", speaking(*LLAVA_NEXT, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "qwen2_vl": Family("Qwen2VL", once_flat(speaking(*QWEN_VL, lm_head=LM_HEAD_OF_EITHER)), GENERATE),
    "qwen2_5_vl": Family("Qwen2_5_VL", once_flat(speaking(*QWEN_VL, lm_head=LM_HEAD_OF_EITHER)), GENERATE),
    "qwen3_vl": Family("Qwen3VL", speaking(*QWEN_VL), GENERATE),
    "qwen3_vl_moe": Family("Qwen3VLMoe", speaking(*QWEN_VL), GENERATE),
    "qwen3_5": Family(
        "Qwen3_5",
        speaking(*QWEN_VL, ForSequenceClassification=SCORE, ForTokenClassification=BIASED_SCORE),
        GENERATE,
    ),
    "qwen3_5_moe": Family("Qwen3_5Moe", speaking(*QWEN_VL), GENERATE),
    "glm4v": Family("Glm4v", speaking(*QWEN_VL, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "glm4v_moe": Family("Glm4vMoe", speaking(*QWEN_VL, lm_head=LM_HEAD_OF_EITHER), GENERATE),
    "internvl": Family("InternVL", speaking(*INTERNVL), GENERATE),
    "idefics3": Family("Idefics3", speaking(*IDEFICS3), GENERATE),
    "smolvlm": Family("SmolVLM", speaking(*IDEFICS3), GENERATE),
    "mistral3": Family("Mistral3", speaking(*MISTRAL3), GENERATE),
    "kimi_k25": Family("Kimi_K25", speaking(*KIMI_K25), GENERATE, classes=("KimiK25ForConditionalGeneration",)),
    "gemma3": Family("Gemma3", speaking(*GEMMA3, ForSequenceClassification=SCORE), GENERATE),
    "gemma4": Family("Gemma4", speaking(*GEMMA4), GENERATE),
    "paligemma": Family("PaliGemma", speaking(*PALIGEMMA), GENERATE),
    "llama4": Family("Llama4", {"ForConditionalGeneration": LLAMA4}, GENERATE, base=GENERATE),
    "step3p7": Family("Step3p7", speaking(*STEP3P7), GENERATE),
}
