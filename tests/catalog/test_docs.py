"""docs/catalog.md names every column with its type, and no other."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from fastewq.catalog.schema import BLOCKS, CONFIGS, MODELS


@pytest.fixture
def sections(root) -> dict[str, dict[str, str]]:
    """Table -> column -> type, where one of several columns in a row may have a type of its own."""
    text = (root / "docs" / "catalog.md").read_text("utf-8")
    found = {}
    for title, body in re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
        rows = re.findall(r"^\| ([a-z_0-9, ]+) \| ([a-z_0-9, ]+) \|", body, re.MULTILINE)
        found[title] = {}
        for names, types in rows:
            columns, kinds = names.split(", "), types.split(", ")
            found[title] |= zip(columns, kinds if len(kinds) > 1 else kinds * len(columns), strict=True)
        del found[title]["column"]
    return found


def types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: re.sub(r"list<.*: (\w+)>", r"list of \1", str(field.type)) for field in schema}


def test_columns_and_documentation_agree(sections):
    assert sections["DIR/configs/NNNNNNNN.parquet"] == types(CONFIGS)
    added = pa.schema([field for field in MODELS if field.name not in CONFIGS.names])
    assert sections["DIR/plans/VERSION/models/*.parquet"] == types(added)
    assert sections["DIR/plans/VERSION/blocks/*.parquet"] == types(BLOCKS)
