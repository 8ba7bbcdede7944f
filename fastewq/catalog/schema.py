"""The tables of a catalog as Arrow schemas. docs/catalog.md describes every column; a test keeps the two together."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

CONFIGS: Final = pa.schema(
    [
        ("id", pa.string()),
        ("revision", pa.string()),
        ("sequence", pa.int64()),
        ("config", pa.string()),
        ("headers", pa.string()),
        ("error_code", pa.string()),
        ("error_message", pa.string()),
        ("task", pa.string()),
        ("library", pa.string()),
        ("downloads", pa.int64()),
        ("last_modified", pa.string()),
    ]
)
"""What is known of each (id, revision): a config, or the error that asking for it gave."""

POLICIES: Final = ("8bit-mixed", "4bit-8bit-mixed", "ternary-mixed", "keep-ends")
"""The policies whose totals are in the models table, in the order of `bytes`."""


def total_column(policy: str) -> str:
    """The column with the bytes of a whole model under a policy."""
    return f"bytes_{policy.replace('-', '_')}"


RESULT_FIELDS: Final = (
    ("model_type", pa.string()),
    ("dtype", pa.string()),
    ("parameters", pa.int64()),
    ("stacks", pa.int32()),
    ("num_blocks", pa.int32()),
    ("exact", pa.bool_()),
    ("already_quantized", pa.bool_()),
    ("headers_agree", pa.bool_()),
    ("confidence", pa.string()),
    ("raw_bytes", pa.int64()),
    *((total_column(name), pa.int64()) for name in POLICIES),
    ("warnings", pa.list_(pa.string())),
    ("config_hash", pa.string()),
    ("predictor", pa.string()),
)
"""What planning adds to a row of CONFIGS. All but the last two are null where the config was refused."""

MODELS: Final = pa.schema([*CONFIGS, *RESULT_FIELDS])

BLOCK: Final = pa.struct(
    [
        ("stack", pa.string()),
        ("index", pa.int32()),
        ("kind", pa.string()),
        ("parameters", pa.int64()),
        ("p_quantize", pa.float64()),
        ("precision", pa.string()),
        ("bytes", pa.int64()),
    ]
)
"""A block under the default policy, with the values of the plan document."""

BLOCKS: Final = pa.schema([("id", pa.string()), ("revision", pa.string()), *BLOCK])

PLAN: Final = pa.struct(
    [("error_code", pa.string()), ("error_message", pa.string()), *RESULT_FIELDS, ("blocks", pa.list_(BLOCK))]
)
"""What the prediction function gives per config."""
