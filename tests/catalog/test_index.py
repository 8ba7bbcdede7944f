"""The index: lookups, search, swapping under readers, refusals."""

from __future__ import annotations

import json
import sqlite3
import threading

import pytest

import fastewq
from fastewq.catalog import index as index_module
from fastewq.catalog import stats as stats_module
from fastewq.catalog.batch import Batch
from fastewq.catalog.index import COLUMNS, Catalog, write_index
from fastewq.catalog.schema import CONFIGS, MODELS
from fastewq.catalog.stats import page, statistics
from fastewq.errors import InputError, InvalidDataset, NotFound, StorageFailure
from fastewq.predictor import load_predictor


def rows_of(configs: dict[str, str], artefact, *, revision: str = "r1", start: int = 0, **facts) -> list[dict]:
    """Rows of MODELS as the planner writes them."""
    planned = Batch(load_predictor(artefact)).plan(list(configs.values())).to_pylist()
    rows = []
    for number, ((name, text), plan) in enumerate(zip(configs.items(), planned, strict=True)):
        row = dict.fromkeys(CONFIGS.names) | {
            "id": name,
            "revision": revision,
            "config": text,
            "sequence": start + number,
        }
        row |= {key: value for key, value in plan.items() if key != "blocks"} | facts
        rows.append({key: row[key] for key in MODELS.names})
    return rows


@pytest.fixture(scope="module")
def rows(configs, artefact):
    return rows_of(configs, artefact, task="text-generation")


@pytest.fixture
def path(tmp_path, rows):
    assert write_index(tmp_path / "index.sqlite", rows, "v1") == len(rows)
    return tmp_path / "index.sqlite"


def test_every_row_is_found_with_its_values(path, rows):
    catalog = Catalog(path)
    for row in rows:
        found = catalog.get(row["id"]).as_dict()
        assert found.pop("newest") is True
        assert found == {key: row[key] for key in found} | {"warnings": row["warnings"] or []}
    assert catalog.about["predictor"] == "v1"


def test_the_plan_of_an_entry_is_the_single_plan_byte_for_byte(path, configs, artefact):
    predictor = load_predictor(artefact)
    catalog = Catalog(path)
    for name in ("made/m000", "copy/one", "copy/quantized"):
        single = fastewq.plan(json.loads(configs[name]), predictor=predictor, model_id=name, revision="r1")
        assert json.dumps(catalog.plan(catalog.get(name), predictor=predictor).as_dict()) == json.dumps(
            single.as_dict()
        )


def test_absent_models_and_refused_ones(path):
    catalog = Catalog(path)
    with pytest.raises(NotFound, match="nobody/nothing is not in the catalog"):
        catalog.get("nobody/nothing")
    with pytest.raises(NotFound, match="copy/one@r9"):
        catalog.get("copy/one", "r9")
    with pytest.raises(NotFound, match="' OR 1=1 --"):
        catalog.get("' OR 1=1 --")
    refused = catalog.get("broken/unknown")
    assert (refused.error_code, refused.parameters) == ("unsupported_architecture", None)


def test_revisions_and_failures_that_pass(tmp_path, configs, artefact):
    one = {"a/x": configs["copy/one"]}
    failed = {**rows_of(one, artefact, revision="r3", start=30)[0], "error_code": "hub_unavailable", "parameters": None}
    again = {**failed, "id": "a/y", "sequence": 31}
    rows = [
        *rows_of(one, artefact, revision="r1", start=1),
        *rows_of({"a/x": configs["made/m000"]}, artefact, revision="r2", start=10),
        *rows_of({"a/x": configs["made/m001"]}, artefact, revision="r2", start=20),
        failed,
        again,
    ]
    assert write_index(tmp_path / "i.sqlite", rows, "v") == 3
    catalog = Catalog(tmp_path / "i.sqlite")
    newest = catalog.get("a/x")
    assert (newest.revision, newest.newest) == ("r2", True)
    assert catalog.get("a/x", "main") == newest
    assert catalog.config(newest) == json.loads(configs["made/m001"])
    old = catalog.get("a/x", "r1")
    assert (old.newest, catalog.config(old)) == (False, json.loads(configs["copy/one"]))
    assert catalog.get("a/y").error_code == "hub_unavailable"


def test_search_pages_through_everything_once_and_filters(path, rows):
    catalog = Catalog(path)
    planned = [row for row in rows if row["error_code"] is None]
    found, cursor = [], None
    while True:
        part = catalog.search(limit=7, cursor=cursor)
        found += [entry.id for entry in part.entries]
        cursor = part.cursor
        if cursor is None:
            break
    assert found == [row["id"] for row in planned]

    def ids(**filters) -> set[str]:
        return {entry.id for entry in catalog.search(limit=1000, **filters).entries}

    assert ids(model_type="llama") == {row["id"] for row in planned if row["model_type"] == "llama"}
    assert ids(text="COPY/") == {"copy/one", "copy/two", "copy/quantized"}
    assert ids(text="m_00") == set()
    assert ids(task="fill-mask") == ids(text="\udcff") == ids(model_type="\udcff") == set()
    assert ids(error_code="unsupported_architecture") >= {"broken/unknown"}
    low, high = 2_000_000_000, 5_000_000_000
    assert ids(min_parameters=low, max_parameters=high) == {r["id"] for r in planned if low <= r["parameters"] <= high}
    for policy, column in index_module.POLICY_COLUMNS.items():
        assert ids(max_bytes=10**10, policy=policy) == {row["id"] for row in planned if row[column] <= 10**10}


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": 10**6},
        {"cursor": "1; DROP"},
        {"text": "copy\0"},
        {"policy": "best"},
        {"min_parameters": 10**19},
        {"max_parameters": -1},
        {"max_bytes": 2**63},
    ],
)
def test_searches_that_cannot_be(path, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Catalog(path).search(**wrong)


def test_a_reader_takes_up_a_new_index_and_never_sees_half_of_one(path, rows, monkeypatch):
    monkeypatch.setattr(index_module, "CHECK_SECONDS", 0.0)
    catalog, stop, seen, errors = Catalog(path), threading.Event(), set(), []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.add(
                    (
                        catalog.about["models"],
                        catalog.get("copy/one").predictor,
                        len(catalog.search(limit=1000).entries),
                    )
                )
            except Exception as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    sizes = []
    for step in range(8):
        part = [{**row, "predictor": f"v{step}"} for row in rows if step % 2 == 0 or row["id"].startswith("copy/")]
        sizes.append((str(len(part)), f"v{step}", sum(row["error_code"] is None for row in part)))
        write_index(path, part, f"v{step}")
    for _ in range(1200):  # at most a minute
        if sizes[-1] in seen or errors:
            break
        stop.wait(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sizes[-1] in seen
    whole = {size[0] for size in sizes} | {str(len(rows))}
    assert {size for size, _, _ in seen} <= whole
    assert not list(path.parent.glob(".*"))


def test_a_failed_build_leaves_the_old_index(path, rows):
    before = path.read_bytes()

    def failing():
        yield rows[0]
        raise StorageFailure("the disk is full")

    with pytest.raises(StorageFailure):
        write_index(path, failing(), "v2")
    assert path.read_bytes() == before
    assert Catalog(path).about["predictor"] == "v1"


def test_files_that_are_no_index(tmp_path, path):
    with pytest.raises(NotFound, match="does not exist"):
        Catalog(tmp_path / "absent.sqlite")
    (tmp_path / "text.sqlite").write_text("hello" * 1000)
    with pytest.raises(InvalidDataset, match="not an index") as found:
        Catalog(tmp_path / "text.sqlite")
    assert "writes it anew" in found.value.hint
    with pytest.raises(StorageFailure, match="cannot be read: Is a directory"):
        Catalog(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE about SET value = '9' WHERE key = 'format'")
    connection.close()
    with pytest.raises(InvalidDataset, match="format 9"):
        Catalog(path)


def test_a_damaged_index_is_named_by_whatever_reads_it(path):
    catalog = Catalog(path)
    entries = [entry for entry in catalog.search(limit=1000).entries if entry.config_hash]
    catalog.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(InvalidDataset, match=r"index\.sqlite") as found:
        Catalog(path).get("copy/one")
    with sqlite3.connect(path) as connection:
        path.write_bytes(whole)
        connection.execute("UPDATE configs SET text = x'00'")
    connection.close()
    with pytest.raises(InvalidDataset, match=r"index\.sqlite cannot be read") as found:
        Catalog(path).plan(entries[0])
    assert "writes it anew" in found.value.hint


def test_the_file_is_opened_read_only(path):
    with pytest.raises(InvalidDataset, match="readonly"):
        Catalog(path).query("DELETE FROM models")


def test_statistics_add_up_and_the_page_is_self_contained(path, rows):
    figures = statistics(Catalog(path))
    planned = [row for row in rows if row["error_code"] is None]
    assert figures["models"] == len(rows)
    assert sum(figures["coverage"].values()) == len(rows)
    assert sum(figures["refused"].values()) == figures["coverage"]["refused"] == len(rows) - len(planned)
    assert sum(size["models"] for size in figures["sizes"]) == len(planned)
    assert figures["raw_bytes"] == sum(row["raw_bytes"] for row in planned)
    default = figures["policies"]["4bit-8bit-mixed"]
    assert default["bytes"] == sum(row["bytes_4bit_8bit_mixed"] for row in planned)
    families, others = figures["families"], figures["other_families"]
    assert sum(family["models"] for family in families) + others["models"] == len(planned)
    html = page(
        {
            **figures,
            "families": [{**families[0], "model_type": "<script>"}],
            "reasons": {"refused": [{"reason": "<script>", "models": 7}], "approximate": []},
        }
    )
    assert "<script>" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert f"{default['saved_fraction']:.1%}" in html


def test_statistics_say_why_most_frequent_reasons_first(tmp_path, rows, artefact, llama):
    unknown = {**llama, "architectures": ["LlamaForNothing"]}
    texts = {f"new/m{n}": json.dumps({"model_type": "nope", "n": n}) for n in range(3)}
    texts |= {f"odd/m{n}": json.dumps({**unknown, "num_hidden_layers": n + 1}) for n in range(2)}
    made = rows_of(texts, artefact, start=1000)
    lost = [
        {**made[0], "id": f"lost/m{n}", "revision": "r", "sequence": 2000 + n, "error_code": "not_found"}
        | {"error_message": f"lost/m{n}@r: config.json: the repository has no such file"}
        for n in range(4)
    ]
    write_index(tmp_path / "i.sqlite", [*rows, *made, *lost], "v")
    figures = statistics(Catalog(tmp_path / "i.sqlite"))
    refused, approximate = figures["reasons"]["refused"], figures["reasons"]["approximate"]
    assert refused[0] == {"reason": "config.json: the repository has no such file", "models": 4}
    assert refused[1] == {"reason": "model_type is 'nope'; no exact block layout is known for it", "models": 3}
    assert "architectures[0] is 'LlamaForNothing'" in approximate[0]["reason"]
    assert sum(row["models"] for row in approximate) == figures["coverage"]["approximate"] >= 2
    assert sum(row["models"] for row in refused) == figures["coverage"]["refused"]
    assert "LlamaForNothing" in page(figures)


def test_reasons_and_families_beyond_a_page_are_counted(tmp_path, path, monkeypatch):
    whole = statistics(Catalog(path))
    monkeypatch.setattr(stats_module, "REASONS", 2)
    monkeypatch.setattr(stats_module, "FAMILIES", 0)
    figures = statistics(Catalog(path))
    refused = figures["reasons"]["refused"]
    assert refused[:2] == whole["reasons"]["refused"][:2]
    assert refused[2]["reason"] == f"{len(whole['reasons']['refused']) - 2} other reasons"
    assert sum(row["models"] for row in refused) == whole["coverage"]["refused"]
    assert figures["families"] == []
    assert figures["other_families"]["models"] == len(Catalog(path).search(limit=1000).entries)
    assert f"of {figures['other_families']['model_types']:,} other types" in page(figures)


def test_an_empty_index(tmp_path):
    write_index(tmp_path / "i.sqlite", [], "v")
    catalog = Catalog(tmp_path / "i.sqlite")
    assert catalog.search().entries == ()
    assert "<h1>" in page(statistics(catalog))


def test_reading_an_index_needs_neither_daft_nor_arrow(path):
    import subprocess
    import sys

    code = (
        "import sys; from fastewq.catalog.index import Catalog; c = Catalog(sys.argv[1]); c.plan(c.get('copy/one'));"
        "print(sorted({'daft', 'pyarrow', 'huggingface_hub', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_schema_and_table_have_the_same_columns():
    assert set(COLUMNS) - {"newest"} == set(MODELS.names) - {"sequence", "config", "headers"}
