"""What the service accepts and answers, as pydantic models.

Requests are validated with them. Answers are not, since they are written straight from the core's documents: there
the models only describe, and the tests hold the running service to the description.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

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


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PlanRequest(Request):
    """One model to plan for."""

    config: Annotated[
        dict[str, Any], Field(description="The model's config.json, unmodified.", examples=[EXAMPLE_CONFIG])
    ]
    model: Annotated[
        str | None,
        Field(pattern=MODEL_ID, description="The model's name, carried into the plan.", examples=["org/name"]),
    ] = None
    revision: Annotated[
        str | None, Field(pattern=REVISION, description="Revision of the config, carried into the plan.")
    ] = None
    policy: Annotated[
        str, Field(max_length=64, description="How probabilities become precisions.", examples=["4bit-8bit-mixed"])
    ] = "4bit-8bit-mixed"


class Model(BaseModel):
    id: str | None = None
    revision: str | None = None
    model_type: str
    dtype: str
    parameters: int
    already_quantized: bool


class PredictorNote(BaseModel):
    version: str
    features: list[str]
    trained_on: dict[str, Any]


class Policy(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    threshold: float


class Block(BaseModel):
    index: int = Field(description="Position in execution order within the stack.")
    path: str = Field(description="Module path in the transformers library.")
    kind: str
    parameters: int
    p_quantize: float = Field(ge=0, le=1)
    precision: str
    bytes: int


class Stack(BaseModel):
    name: str
    blocks: list[Block]


class Group(BaseModel):
    path: str
    parameters: int
    precision: str
    bytes: int


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
    confidence: str
    stacks: list[Stack]
    other: list[Group]
    totals: Totals
    warnings: list[str]


class Problem(BaseModel):
    code: str
    message: str
    hint: str
    request_id: str


class Error(BaseModel):
    error: Problem


class Status(BaseModel):
    status: str


class Card(BaseModel):
    """The predictor's card: what it was trained on, its features in order and its measured quality."""

    model_config = ConfigDict(extra="allow")
    format: int
    version: str
    features: list[str]


REQUESTS: tuple[type[Request], ...] = (PlanRequest,)
"""The request models that the routes parse themselves, to be listed in the OpenAPI document."""
