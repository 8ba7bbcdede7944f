"""What the service accepts and answers, as pydantic models.

Requests are validated with them. Answers are not, since they are written straight from the core's documents: there
the models only describe, and the tests hold the running service to the description.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, WithJsonSchema, model_validator

from fastewq.catalog.index import POLICY_COLUMNS
from fastewq.memory import MAX_DEVICES
from fastewq.policy import DEFAULT_POLICY
from fastewq.schemes import TARGETS

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
MODEL_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$"
REVISION = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$"

EXAMPLE_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}


POLICY = f"A policy's name: {', '.join(POLICY_COLUMNS)}"
TARGET = f"The tool whose file format counts the bytes: {', '.join(TARGETS)}"
REVISION_OF = "Branch, tag or commit."
SIZE = "What weights, KV cache and reserve must fit, in bytes or as text such as 24GiB."


class Request(BaseModel):
    """`example` is a body to try the route with, as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)
    example: ClassVar[dict[str, Any]]


def _given(name: str, kind: str) -> dict[str, Any]:
    """JSON schema: this field is there and not null."""
    return {"required": [name], "properties": {name: {"type": kind}}}


Document = InstanceOf[dict[str, Any]]
"""A JSON object as it is: to read all of its keys would mean to copy it."""
Size = Annotated[int | str, Field(examples=["24GiB"])]


class PlanRequest(Request):
    """One model to plan for: its config, or its name where the service may look it up."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [_given("config", "object"), _given("model", "string")]})
    example = {"config": EXAMPLE_CONFIG, "memory": "2GiB"}

    config: Annotated[
        Document | None,
        Field(description="The model's config.json, unmodified.", examples=[EXAMPLE_CONFIG]),
    ] = None
    model: Annotated[
        str | None,
        Field(pattern=MODEL_ID, description="The model's name on the Hub; with a config it is only carried along."),
    ] = None
    revision: Annotated[str | None, Field(pattern=REVISION, description=REVISION_OF)] = None
    objective: Annotated[
        Literal["entropy", "sensitivity"] | None,
        Field(description="Which predictor; null: the service's own. See docs/quality.md."),
    ] = None
    policy: Annotated[
        str | dict[str, Any],
        Field(description=f"{POLICY}; or an object with `name` and the fields that differ from it."),
    ] = DEFAULT_POLICY
    target: Annotated[str, Field(description=f"{TARGET}.")] = "plain"
    memory: Annotated[Size | None, Field(description=SIZE)] = None
    devices: Annotated[
        list[Size],
        # By a factory: a default that is a list would be copied for every request, in many times the time.
        Field(
            default_factory=list,
            max_length=MAX_DEVICES,
            description="Memory of each device, in pipeline order.",
            json_schema_extra={"default": []},
        ),
    ]
    context: Annotated[int, Field(description="Tokens per sequence whose KV cache must fit; 0: none.")] = 0
    batch: Annotated[int, Field(description="Sequences whose KV cache must fit.")] = 1
    cache_bits: Annotated[int, Field(description="Bits per element of the KV cache.")] = 16
    reserve: Annotated[Size, Field(description="Memory kept free on every device.")] = 0

    @model_validator(mode="after")
    def _names_a_model(self) -> PlanRequest:
        if self.config is None and self.model is None and getattr(self, "plan", None) is None:
            ways = [name for name in ("config", "model", "plan") if name in type(self).model_fields]
            raise ValueError(f"the request names no model; expected {' or '.join(ways)}")
        return self


class ExportRequest(PlanRequest):
    """A plan document made before, or the request to make one; and what to do where the tool cannot express it."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [_given("plan", "object"), _given("config", "object"), _given("model", "string")],
        }
    )

    example = {"config": EXAMPLE_CONFIG, "devices": ["1GiB", "1GiB"], "nearest": True}

    target: Annotated[
        str,
        Field(
            description=f"{TARGET}; unset: that of the tool exported to.",
            json_schema_extra=lambda schema: schema.pop("default"),
        ),
    ] = "plain"
    plan: Annotated[Document | None, Field(description="A plan document of this service.")] = None
    nearest: Annotated[
        bool, Field(description="Whether to take the nearest plan the tool can express, its differences listed.")
    ] = False

    @model_validator(mode="after")
    def _plans_once(self) -> ExportRequest:
        if self.plan is not None:
            fields = PlanRequest.model_fields.items()
            others = [n for n, field in fields if getattr(self, n) != field.get_default(call_default_factory=True)]
            if others:
                raise ValueError(f"plan is exported as it was made; expected no {' and no '.join(others)} beside it")
        return self


class BatchRequest(Request):
    """Many models to plan for. Each request is read on its own, so that one at fault does not stop the others."""

    example = {"requests": [{"config": EXAMPLE_CONFIG}, {"config": EXAMPLE_CONFIG, "policy": "8bit-mixed"}]}

    requests: Annotated[
        list[Annotated[Any, WithJsonSchema({"anyOf": [{"$ref": "#/components/schemas/PlanRequest"}, {}]})]],
        Field(min_length=1, description="At most as many as the service allows, by default 1,000."),
    ]


class Model(BaseModel):
    id: str | None = None
    revision: str | None = None
    model_type: str
    dtype: str
    parameters: int
    tied_embeddings: bool
    already_quantized: bool
    quantization: str | None = Field(None, description="The method, where the checkpoint is already quantized.")


class PredictorNote(BaseModel):
    version: str
    objective: str
    features: list[str]
    trained_on: dict[str, Any]


class Policy(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    threshold: float | None = Field(description="null: by rank, as many blocks as the probabilities lead to expect.")


class Block(BaseModel):
    index: int = Field(description="Position in execution order within the stack.")
    path: str = Field(description="Module path in the transformers library.")
    p_quantize: float = Field(ge=0, le=1)
    kind: str
    parameters: int
    precision: str
    bytes: int
    layout: int = Field(description="Which of `layouts` lists the block's tensors.")
    modules: dict[str, str] | None = Field(None, description="Modules whose precision differs from the block's.")


class Stack(BaseModel):
    name: str
    blocks: list[Block]


class Group(BaseModel):
    path: str
    parameters: int
    precision: str
    bytes: int
    layout: int


class Stored(BaseModel):
    """How the checkpoint holds a tensor that is already quantized."""

    precision: str
    bits: int = Field(description="Per weight, without scales.")
    bytes: int = Field(description="With scales, zero points and the like.")


class Tensor(BaseModel):
    name: str = Field(description="Relative to its block or group.")
    shape: list[int]
    role: str
    transposed: bool = Field(False, description="Stored as (inputs, outputs).")
    stored: Stored | None = Field(None, description="There where the checkpoint holds the tensor quantized.")


class Totals(BaseModel):
    bytes: int
    raw_bytes: int
    saved_fraction: float
    bits_per_weight: float


class Plan(BaseModel):
    """The precision of every block, with exact bytes. Parameters outside the blocks keep their precision."""

    schema_: str = Field(alias="schema", examples=["fastewq.plan/1"])
    model: Model
    predictor: PredictorNote
    policy: Policy
    target: str
    confidence: str
    stacks: list[Stack]
    other: list[Group]
    layouts: list[list[Tensor]]
    totals: Totals
    warnings: list[str]
    memory: dict[str, Any] | None = Field(None, description="How the plan uses the memory asked for.")


class Problem(BaseModel):
    code: str
    message: str
    hint: str
    request_id: str


class Error(BaseModel):
    error: Problem


class BatchItem(BaseModel):
    """The plan of one request of a batch, or why there is none."""

    plan: Plan | None = None
    error: Problem | None = None


class Batch(BaseModel):
    """One result per request, in the order of the requests."""

    results: list[BatchItem]


class CatalogEntry(BaseModel):
    """One model revision. Sizes in bytes; null where the config was refused, and `error_code` says why."""

    model_config = ConfigDict(extra="allow")
    id: str
    revision: str
    error_code: str | None
    model_type: str | None
    parameters: int | None
    raw_bytes: int | None


class CatalogPage(BaseModel):
    version: str = Field(description="Predictor and time of building; changes with every new index.")
    entries: list[CatalogEntry]
    cursor: str | None = Field(description="Asks for the next page; null at the end.")


class Tool(BaseModel):
    name: str
    target: str = Field(description="The value of `target` whose bytes are those of this tool's files.")
    verified: str = Field(description="How the export was checked.")


class Tools(BaseModel):
    tools: list[Tool]


class File(BaseModel):
    name: str
    content: str


class Difference(BaseModel):
    path: str
    planned: str
    exported: str
    reason: str


class Export(BaseModel):
    """Files for one tool, and the command or steps that use them."""

    schema_: str = Field(alias="schema", examples=["fastewq.export/1"])
    tool: str
    verified: str
    files: list[File]
    usage: str
    bytes: int = Field(description="Of all tensors in the tool's files.")
    header_bytes: int = Field(description="An estimate of what the model file holds besides; 0 where other files do.")
    differences: list[Difference]
    warnings: list[str]


class Status(BaseModel):
    status: str


class Card(BaseModel):
    """The predictor's card: what it was trained on, its features in order and its measured quality."""

    model_config = ConfigDict(extra="allow")
    format: int
    version: str
    features: list[str]


REQUESTS: tuple[type[Request], ...] = (PlanRequest, ExportRequest, BatchRequest)
"""The request models that the routes parse themselves, to be listed in the OpenAPI document."""
