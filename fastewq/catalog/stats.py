"""What a catalog holds: families, coverage, reasons for refusals, memory saved. As a dict, and as one HTML page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from fastewq.catalog.index import POLICY_COLUMNS, Catalog

FAMILIES: Final = 25
REASONS: Final = 12
"""Named in full; the others are counted together."""
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
    families = rows(
        "SELECT model_type, count(*), sum(parameters), sum(raw_bytes), sum(bytes_4bit_8bit_mixed) FROM MODELS "
        "AND model_type NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    # A message begins with the model it is about.
    why = "replace(replace(error_message, id || '@' || revision || ': ', ''), id || ': ', '')"
    refused = rows(f"SELECT {why}, count(*) FROM MODELS AND parameters IS NULL GROUP BY 1 ORDER BY 2 DESC, 1")
    assumed: Counter[str] = Counter()
    for warnings, models in rows("SELECT warnings, count(*) FROM MODELS AND NOT exact GROUP BY 1"):
        assumed[json.loads(warnings)[0]] += models  # the first says what was assumed of the blocks
    return {
        "about": catalog.about,
        "models": total,
        "coverage": {"exact": exact or 0, "approximate": planned - (exact or 0), "refused": total - planned},
        "refused": dict(
            rows("SELECT error_code, count(*) FROM MODELS AND parameters IS NULL GROUP BY 1 ORDER BY 2 DESC")
        ),
        "reasons": {"refused": _reasons(refused), "approximate": _reasons(assumed.most_common())},
        "confidence": dict(
            rows("SELECT confidence, count(*) FROM MODELS AND parameters NOT NULL GROUP BY 1 ORDER BY 1")
        ),
        "already_quantized": rows("SELECT count(*) FROM MODELS AND already_quantized")[0][0],
        "families": [
            {"model_type": name, "models": count, "parameters": parameters, "raw_bytes": size, "bytes": after}
            for name, count, parameters, size, after in families[:FAMILIES]
        ],
        "other_families": {
            "model_types": len(families[FAMILIES:]),
            "models": sum(family[1] for family in families[FAMILIES:]),
        },
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


def _reasons(found: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    named = [{"reason": reason, "models": count} for reason, count in found[:REASONS]]
    rest = sum(count for _, count in found[REASONS:])
    return [*named, *([{"reason": f"{len(found) - REASONS} other reasons", "models": rest}] if rest else [])]


def _between(low: float, high: float) -> str:
    return f"SELECT count(*) FROM MODELS AND parameters >= {low:.0f} AND parameters < {high:.0f}"


def _saved(size: int | None, raw: int | None) -> float:
    return round(1 - size / raw, 6) if size is not None and raw else 0.0


# ---- the page ----

_STYLE: Final = """
:root{color-scheme:light dark;--bar:#3b6fb6;--soft:#8884}
@media(prefers-color-scheme:dark){:root{--bar:#7aa7e0}}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
.wide{overflow-x:auto;margin-top:1rem}
table{border-collapse:collapse;width:100%}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--soft)}
td+td{white-space:nowrap}
th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere;min-width:6rem}
.figures{display:flex;flex-wrap:wrap;gap:1rem}
.figures div{border:1px solid var(--soft);border-radius:.5rem;padding:.6rem 1rem}
.figures b{display:block;font-size:1.4rem}
.bars{display:grid;grid-template-columns:fit-content(40%) 1fr auto;gap:.2rem .7rem;align-items:center}
.bars span{text-align:right;overflow-wrap:anywhere}
.bars i{height:1rem;border-radius:2px;background:var(--bar)}
@media(max-width:34rem){body{font-size:14px}th,td{padding:.25rem .3rem}}
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
    families, others, raw = figures["families"], figures["other_families"], figures["raw_bytes"]
    policies = figures["policies"].items()
    saved = [(name, f"{p['saved_fraction']:.1%}", f"{p['mean_saved_fraction']:.1%}") for name, p in policies]
    table = [(f["model_type"], f"{f['models']:,}", _size(f["raw_bytes"]), _size(f["bytes"])) for f in families]
    reasons = {
        kind: [(row["reason"], f"{row['models']:,}") for row in found] for kind, found in figures["reasons"].items()
    }
    about = figures["about"]
    return "\n".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width,initial-scale=1'>",
            f"<title>FastEWQ catalog</title><style>{_STYLE}</style><h1>Catalog of precision plans</h1>",
            f"<p>Predictor {escape(about['predictor'])}, built {escape(about['built'])}.</p>",
            "<div class=figures>" + "".join(f"<div><b>{escape(v)}</b>{escape(t)}</div>" for v, t in tiles) + "</div>",
            "<h2>Memory by policy</h2>",
            _bars([("as stored", raw, _size(raw)), *((name, p["bytes"], _size(p["bytes"])) for name, p in policies)]),
            _table(("policy", "saved of all bytes", "saved per model, mean"), saved),
            "<h2>Models by size</h2>",
            _bars([(_range(s["from"], s["below"]), s["models"], f"{s['models']:,}") for s in figures["sizes"]]),
            "<h2>Models by family</h2>",
            _bars([(f["model_type"], f["models"], f"{f['models']:,}") for f in families]),
            f"<p>{others['models']:,} more models are of {others['model_types']:,} other types.</p>"
            if others["models"]
            else "",
            _table(("model type", "models", "as stored", "4bit-8bit-mixed"), table),
            "<h2>Refused, and why</h2>",
            _table(("error", "models"), [(code, f"{n:,}") for code, n in figures["refused"].items()]),
            _table(("reason", "models"), reasons["refused"]) if reasons["refused"] else "",
            "<h2>Planned approximately, and why</h2>",
            _table(("reason", "models"), reasons["approximate"]),
            "</html>",
        ]
    )


def _bars(values: Sequence[tuple[str, int, str]]) -> str:
    """A bar for each (name, value, the value in words)."""
    most = max((value for _, value, _ in values), default=0) or 1
    rows = (
        f"<span>{escape(name)}</span><i style='width:{100 * value / most:.2f}%'></i><span>{escape(words)}</span>"
        for name, value, words in values
    )
    return f"<div class=bars>{''.join(rows)}</div>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p>None.</p>"
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{top}</tr>{body}</table></div>"


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
