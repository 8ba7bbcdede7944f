"""Plans for many models: collect configs, predict them in batch, look plans up by id. Needs `fastewq[catalog]`.

collect.py   a Hub, a folder, Parquet, JSONL or a list of ids -> DIR/configs/*.parquet
predict.py   DIR/configs -> DIR/plans/VERSION/{models,blocks}/*.parquet, one Daft DataFrame, in-process or on Ray
index.py     those -> DIR/index.sqlite, read by the CLI, the library and the service; needs no extra
stats.py     the index -> a report

    from fastewq.catalog.index import Catalog
    Catalog("catalog/index.sqlite").get("org/name")
"""

import os

# Before anything imports Arrow, in this process and those it starts: Arrow's own allocators keep memory that is free.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
