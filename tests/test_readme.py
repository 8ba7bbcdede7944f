"""The README's numbers are those of the shipped card, and its links lead somewhere."""

from __future__ import annotations

import json
import re

import pytest


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def card(root):
    return json.loads((root / "models" / "entropy" / "card.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ("leave one family out", ("leave_one_family_out",)),
        ("random 70:30", ("random_70_30",)),
        ("always keep", ("baselines", "always_keep")),
        ("quantize the last blocks", ("baselines", "last_blocks")),
    ],
)
def test_quoted_figures_are_those_of_the_card(readme, card, row, path):
    figures = card["metrics"]
    for key in path:
        figures = figures[key]
    line = next(line for line in readme.splitlines() if line.startswith(f"| {row}"))
    expected = [f"{figures[name]:.3f}" for name in ("accuracy", "balanced_accuracy", "auc", "ece")]
    assert re.findall(r"\d\.\d{3}", line) == expected


def test_quoted_counts_and_interval_are_those_of_the_card(readme, card):
    low, high = card["metrics"]["leave_one_family_out"]["intervals"]["accuracy"]
    text = " ".join(readme.split())
    assert f"{card['trained_on']['blocks']} blocks of" in text
    assert f"from {len(card['trained_on']['families'])} families" in text
    assert f"{low:.2f} to {high:.2f}" in text


def test_links_lead_to_files(readme, root):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert links
    for link in links:
        assert (root / link).exists(), link
