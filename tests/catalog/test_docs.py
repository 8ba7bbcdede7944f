"""docs/catalog.md names every column, and no other."""

from __future__ import annotations

import re

import pytest

from fastewq.catalog.schema import BLOCKS, CONFIGS, MODELS


@pytest.fixture
def sections(root) -> dict[str, set[str]]:
    text = (root / "docs" / "catalog.md").read_text("utf-8")
    found = {}
    for title, body in re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
        rows = re.findall(r"^\| ([a-z_0-9, ]+) \|", body, re.MULTILINE)
        found[title] = {name for row in rows for name in row.split(", ")} - {"column"}
    return found


def test_columns_and_documentation_agree(sections):
    assert sections["DIR/configs/NNNNNNNN.parquet"] == set(CONFIGS.names)
    assert sections["DIR/plans/VERSION/models/*.parquet"] == set(MODELS.names) - set(CONFIGS.names)
    assert sections["DIR/plans/VERSION/blocks/*.parquet"] == set(BLOCKS.names)
