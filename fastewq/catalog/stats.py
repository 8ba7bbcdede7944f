"""What a catalog holds: families, coverage, reasons for refusals, memory saved. As a dict, and as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Final

from fastewq.catalog.index import POLICY_COLUMNS, Catalog

FAMILIES: Final = 25
SIZES: Final = ((0, 1e8), (1e8, 1e9), (1e9, 3e9), (3e9, 10e9), (10e9, 30e9), (30e9, 100e9), (100e9, 1e15))
"""Parameters, from and below."""


def statistics(catalog: Catalog) -> dict[str, Any]:
    """Counts and sums over the newest revision of every model. Bytes are of weights."""

    def rows(sql: str) -> list[tuple[Any, ...]]:
        return catalog.query(sql.replace("MODELS", "models WHERE newest"))

    total, planned, exact = rows("SELECT count(*), count(parameters), sum(exact) FROM MODELS")[0]
    sums = ", ".join(f"sum({column})" for column in POLICY_COLUMNS.values())
    shares = ", ".join(f"avg(1.0 - 1.0 * {column} / raw_bytes)" for column in POLICY_COLUMNS.values())
    raw, *under = rows(f"SELECT sum(raw_bytes), {sums} FROM MODELS AND raw_bytes > 0")[0]
    means = rows(f"SELECT {shares} FROM MODELS AND raw_bytes > 0")[0]
    return {
        "about": catalog.about,
        "models": total,
        "coverage": {"exact": exact or 0, "approximate": planned - (exact or 0), "refused": total - planned},
        "refused": dict(
            rows("SELECT error_code, count(*) FROM MODELS AND parameters IS NULL GROUP BY 1 ORDER BY 2 DESC")
        ),
        "confidence": dict(
            rows("SELECT confidence, count(*) FROM MODELS AND parameters NOT NULL GROUP BY 1 ORDER BY 1")
        ),
        "already_quantized": rows("SELECT count(*) FROM MODELS AND already_quantized")[0][0],
        "families": [
            {"model_type": name, "models": count, "parameters": parameters, "raw_bytes": size, "bytes": after}
            for name, count, parameters, size, after in rows(
                "SELECT model_type, count(*), sum(parameters), sum(raw_bytes), sum(bytes_4bit_8bit_mixed) FROM MODELS "
                f"AND model_type NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {FAMILIES}"
            )
        ],
        "sizes": [{"from": low, "below": high, "models": rows(_between(low, high))[0][0]} for low, high in SIZES],
        "raw_bytes": raw or 0,
        "policies": {
            name: {
                "bytes": size or 0,
                "saved_fraction": _saved(size, raw),
                "mean_saved_fraction": round(mean or 0.0, 6),
            }
            for name, size, mean in zip(POLICY_COLUMNS, under, means, strict=True)
        },
    }


def _between(low: float, high: float) -> str:
    return f"SELECT count(*) FROM MODELS AND parameters >= {low:.0f} AND parameters < {high:.0f}"


def _saved(size: int | None, raw: int | None) -> float:
    return round(1 - size / raw, 6) if size is not None and raw else 0.0


# ---- the page ----

_STYLE: Final = """
:root{color-scheme:light dark;--bar:#3b6fb6;--soft:#8884;--text:CanvasText}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse;width:100%}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--soft)}
th:first-child,td:first-child{text-align:left}
.figures{display:flex;flex-wrap:wrap;gap:1rem}
.figures div{border:1px solid var(--soft);border-radius:.5rem;padding:.6rem 1rem}
.figures b{display:block;font-size:1.4rem}
svg{width:100%;height:auto}svg text{font:13px system-ui,sans-serif;fill:var(--text)}svg rect{fill:var(--bar)}
"""


def page(figures: dict[str, Any]) -> str:
    """The statistics as one HTML page that needs nothing else."""
    coverage, total = figures["coverage"], figures["models"]
    default = figures["policies"]["4bit-8bit-mixed"]
    tiles = [
        (f"{total:,}", "models"),
        (_share(coverage["exact"], total), "planned exactly"),
        (_share(coverage["approximate"], total), "planned approximately"),
        (_share(coverage["refused"], total), "refused"),
        (f"{default['saved_fraction']:.1%}", "of all weight bytes saved by 4bit-8bit-mixed"),
    ]
    families = figures["families"]
    saved = [
        (name, f"{_size(p['bytes'])}", f"{p['saved_fraction']:.1%}", f"{p['mean_saved_fraction']:.1%}")
        for name, p in figures["policies"].items()
    ]
    table = [(f["model_type"], f"{f['models']:,}", _size(f["raw_bytes"]), _size(f["bytes"])) for f in families]
    about = figures["about"]
    return "\n".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
            f"<title>FastEWQ catalog</title><style>{_STYLE}</style><h1>Catalog of precision plans</h1>",
            f"<p>Predictor {escape(about['predictor'])}, built {escape(about['built'])}.</p>",
            "<div class=figures>" + "".join(f"<div><b>{escape(v)}</b>{escape(t)}</div>" for v, t in tiles) + "</div>",
            "<h2>Models by family</h2>" + _bars([(f["model_type"], f["models"]) for f in families]),
            "<h2>Models by size</h2>" + _bars([(_range(s["from"], s["below"]), s["models"]) for s in figures["sizes"]]),
            "<h2>Memory by policy</h2>",
            _table(("policy", "weights of all models", "saved of all bytes", "saved per model, mean"), saved),
            f"<p>As stored: {_size(figures['raw_bytes'])}.</p>",
            "<h2>Refused, and why</h2>",
            _table(("error", "models"), [(code, f"{n:,}") for code, n in figures["refused"].items()]),
            "<h2>Families</h2>",
            _table(("model type", "models", "as stored", "4bit-8bit-mixed"), table),
            "</html>",
        ]
    )


def _bars(values: Sequence[tuple[str, int]]) -> str:
    most = max((count for _, count in values), default=0) or 1
    rows = []
    for index, (name, count) in enumerate(values):
        y, width = 22 * index, 520 * count / most
        rows.append(
            f"<text x=190 y={y + 15} text-anchor=end>{escape(name[:28])}</text>"
            f"<rect x=200 y={y + 3} width={width:.1f} height=16 rx=2></rect>"
            f"<text x={206 + width:.1f} y={y + 15}>{count:,}</text>"
        )
    return f"<svg viewBox='0 0 820 {22 * len(values)}' role=img>{''.join(rows)}</svg>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p>None.</p>"
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _share(part: int, total: int) -> str:
    return f"{part / total:.1%}" if total else "-"


def _size(count: int | None) -> str:
    value = float(count or 0)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            return f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} PiB"


def _range(low: float, high: float) -> str:
    return (
        f"below {_count(high)}"
        if low == 0
        else f"{_count(low)} and more"
        if high >= 1e15
        else f"{_count(low)}-{_count(high)}"
    )


def _count(value: float) -> str:
    return f"{value / 1e9:g}B" if value >= 1e9 else f"{value / 1e6:g}M"
