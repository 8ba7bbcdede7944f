"""Does a plan keep quality? Quantize blocks of real models, run them on real text, measure what changes.

    python benchmarks/quality.py full [--quick]            all of the following, from nothing, in a folder of its own
    python benchmarks/quality.py sensitivity [MODEL ...]   each block alone at 8, 4 and 3 bits
    python benchmarks/quality.py table                     sensitivity.csv, and what boosters predict for families that
                                                           they did not see (no torch)
    python benchmarks/quality.py plans [MODEL ...]         whole plans at equal bytes
    python benchmarks/quality.py report                    tables and plots from the logs (no torch)
    python benchmarks/quality.py time [MODEL ...]          the seconds that the estimate of `full` is made of

Needs `pip install fastewq[dataset,train,quality]`. Every measurement of a chunk of text is a row of LOGS/MODEL.csv as
soon as it is made, and a row that is there is not measured again: a run that was stopped goes on where it was. The
committed logs are training_data/quality; what is made of them goes to training_data and docs, what is made of others
beside them. `full` prints its estimate first and, last, how far its figures are from the committed ones. `--quick`
takes two small models at 4 bits beside raw blocks, and the committed predictions.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from quality_cost import TABLE, estimate, time_models
from quality_report import report
from quality_steps import LOGS, ROOT, docs, measure, table, wanted_plans

from fastewq.training.sensitivity import read_log
from fastewq.training.source_cache import default_cache

QUICK: Final = ("smollm2-135m-instruct", "all-minilm-l6-v2")
WORKERS: Final = 2
"""Models that `full` measures at a time, each in one thread of a process of its own."""


def full(names: Sequence[str], cache: Path, logs: Path, quick: bool) -> None:
    """Everything: blocks alone, the table, plans, the report."""
    begin = time.monotonic()
    print(f"logs: {logs} (`--logs` with this folder goes on from there)")
    logs.mkdir(parents=True, exist_ok=True)
    if quick:
        shutil.copyfile(LOGS / "predicted.csv", logs / "predicted.csv")
    blockwise, planwise = estimate(names, logs, quick, WORKERS)
    _measure_all("sensitivity", blockwise, cache, logs, ["--bits", "4"] if quick else [])
    if not quick:
        table(logs)
    _measure_all("plans", planwise, cache, logs, ["--mixes", "4/raw"] if quick else [])
    report(ROOT, logs, docs(logs))
    if logs.resolve() != LOGS:
        compare_logs(names, logs)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(one.ru_utime + one.ru_stime for one in used)
    memory = max(one.ru_maxrss for one in used) / 2**20
    print(f"took {time.monotonic() - begin:.0f} s, {seconds:.0f} CPU seconds; largest process {memory:.1f} GiB")


def _measure_all(what: str, names: Sequence[str], cache: Path, logs: Path, options: Sequence[str]) -> None:
    def one(name: str) -> None:
        folders = ["--cache", str(cache), "--logs", str(logs)]
        subprocess.run([sys.executable, __file__, what, name, *folders, "--threads", "1", *options], check=True)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, names))


def compare_logs(names: Sequence[str], logs: Path) -> None:
    """Print how far the divergences in `logs` are from the committed ones, where both have them."""
    for name in names:
        new, old = (read_log(folder, name).divergences for folder in (logs, LOGS))
        both = [
            (divergence, old[assignment][chunk])
            for assignment, chunks in new.items()
            for chunk, divergence in chunks.items()
            if chunk in old.get(assignment, {})
        ]
        apart = np.array([abs(again / committed - 1) for again, committed in both if committed])
        print(
            f"{name}: {len(both)} of {sum(map(len, new.values()))} measurements are in the committed log too, apart by"
            f" {np.median(apart):.1e} (median) and {apart.max():.1e} (most) of their value"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("full", "sensitivity", "table", "plans", "report", "time"))
    parser.add_argument("models", nargs="*")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--logs", type=Path, help="default: the committed ones; for `full` a new temporary folder")
    parser.add_argument("--bits", help="default: those of the study")
    parser.add_argument("--mixes", help="default: those of the study")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="only with `full`")
    options = parser.parse_intermixed_args()
    if options.what == "full":
        options.logs = options.logs or Path(tempfile.mkdtemp(prefix="quality-"))
    logs = options.logs or LOGS
    if options.what == "table":
        table(logs)
        return
    if options.what == "report":
        report(ROOT, logs, docs(logs))
        return
    import torch
    from quality_models import STUDIES

    if options.what == "full":
        full(options.models or (QUICK if options.quick else list(STUDIES)), options.cache, logs, options.quick)
        return
    if options.what == "time":
        torch.set_num_threads(1)
        time_models(options.models or [*STUDIES, TABLE], options.cache)
        return
    torch.set_num_threads(options.threads)
    for name in options.models or STUDIES:
        study = STUDIES[name]
        if options.what == "sensitivity":
            measure(name, options.cache, logs, None, options.bits or study.bits)
        else:
            mixes = options.mixes.split(",") if options.mixes else study.mixes
            measure(name, options.cache, logs, wanted_plans(name, logs, mixes), "")


if __name__ == "__main__":
    main()
