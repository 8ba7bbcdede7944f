"""Compare FastEWQ's reading of configs with models that the transformers library builds on the meta device.

    python tools/oracle.py check [MODEL_TYPE ...]    every class and every changed config; prints what differs
    python tools/oracle.py golden [MODEL_TYPE ...]   the same, and writes tests/architectures/golden/MODEL_TYPE.json
    python tools/oracle.py config FILE ...           one comparison per config file
    python tools/oracle.py time FILE ...             how long the library takes to build each, as JSON

Needs transformers and torch (the `oracle` extra). A perturbed config is the class's default config, made shallow, with
one field (or a few at once) changed to each of several values; configs that the library itself cannot build are left
out. This proves that each count comes from the right field, not only that the default happens to fit.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import inspect
import json
import logging
import random
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from oracle_cases import BASE, EXTRA, SKIP
from transformers.configuration_utils import ALLOWED_ATTN_LAYER_TYPES, ALLOWED_MLP_LAYER_TYPES
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from fastewq.architectures import MODELS
from fastewq.architectures.fields import config_class
from fastewq.config import read_config
from fastewq.errors import FastEWQError

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "architectures" / "golden"
Shapes = dict[str, tuple[int, ...]]
IRRELEVANT = re.compile(
    r"dropout|layerdrop|_pdrop|token_id|_eps$|epsilon|rope(?!_head_dim)|_coef|_loss|loss_|use_cache|^output_|^mask_(time|feature)|"
    r"^transformers_version$|^return_dict$|^dtype$|^id2label$|^label2id$|^problem_type$|initializer|init_std|"
    r"^architectures$|^chunk_size_feed_forward$|^is_encoder_decoder$|logit(?!s)"
)
"""Fields that cannot change a shape and are not worth a build each. `is_encoder_decoder` only breaks a decoder."""
MANY_LAYERS = 5


# -- the two sides ---------------------------------------------------------------------------------------------------


def model_class(model_type: str, name: str) -> type[torch.nn.Module]:
    package = inspect.getmodule(CONFIG_MAPPING[model_type]).__name__.rpartition(".")[0]  # type: ignore[union-attr]
    for path in Path(importlib.import_module(package).__file__ or "").parent.glob("modeling_*.py"):
        module = importlib.import_module(f"{package}.{path.stem}")
        if hasattr(module, name):
            return getattr(module, name)
    if hasattr(transformers, name):
        return getattr(transformers, name)
    raise LookupError(f"{package} has no class {name}")


def built(config: Mapping[str, Any], class_name: str) -> torch.nn.Module:
    """The library's model, on the meta device."""
    known = {k: v for k, v in config.items() if k not in ("model_type", "quantization_config", "auto_map")}
    settings = CONFIG_MAPPING[config["model_type"]].from_dict(json.loads(json.dumps(known)))
    with torch.device("meta"):
        return model_class(config["model_type"], class_name)(settings)


def truth(config: Mapping[str, Any], class_name: str) -> Shapes:
    """Name and shape of every parameter of the library's model.

    A tied one counts once, under whichever of its names FastEWQ uses: the library takes the module built first, which
    can be the LM head.
    """
    model = built(config, class_name)
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    if config.get("tie_word_embeddings") is False and model.config.tie_word_embeddings and hasattr(model, "lm_head"):
        # T5's class overrides the field; of a file that has both matrices `from_pretrained` keeps both.
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
        names[id(model.lm_head.weight)] = ["lm_head.weight"]
    used = seen(config)
    chosen = {key: next((name for name in ties if name in used), ties[0]) for key, ties in names.items()}
    return {chosen[id(p)]: tuple(p.shape) for p in model.parameters()}


def seen(config: Mapping[str, Any]) -> Shapes:
    """What FastEWQ reads; nothing where it refuses."""
    try:
        return reading(config)[0]
    except FastEWQError:
        return {}


def reading(config: Mapping[str, Any]) -> tuple[Shapes, dict[str, int], bool]:
    """Name and shape of every tensor FastEWQ sees, parameters per block, and whether it claims to be exact."""
    architecture = read_config(config)
    shapes: Shapes = {}
    for stack in architecture.stacks:
        for block in stack.blocks:
            shapes |= {f"{block.path}.{t.name}": t.shape for t in block.layout.tensors}
    for group in architecture.outside:
        shapes |= {".".join(p for p in (group.path, t.name) if p): t.shape for t in group.tensors}
    counts = {b.path: b.layout.parameters for s in architecture.stacks for b in s.blocks}
    return shapes, counts, architecture.exact


def class_of(config: Mapping[str, Any]) -> str:
    """The class a config names, else the one FastEWQ assumes for its type."""
    if config.get("architectures"):
        return str(config["architectures"][0])
    model_type = config["model_type"]
    model = MODELS[model_type]
    classes = config_class(model_type).classes
    return next((name for name in classes if model.ending(name) == model.default), classes[0])


def difference(config: Mapping[str, Any], expected: Shapes) -> str | None:
    """None where both sides agree on every tensor; otherwise what to look at first."""
    shapes, _, exact = reading(config)
    if shapes == expected:
        return None
    missing, extra = sorted(expected.keys() - shapes.keys()), sorted(shapes.keys() - expected.keys())
    wrong = [f"{k} {shapes[k]} for {v}" for k, v in expected.items() if k in shapes and shapes[k] != v]
    flag = "" if exact else " (flagged approximate)"
    found = [
        f"{len(x)} {what}: {'; '.join(x[:6])}"
        for what, x in (("missing", [f"{k} {expected[k]}" for k in missing]), ("extra", extra), ("wrong", wrong))
        if x
    ]
    return "; ".join(found) + flag


# -- configs to try --------------------------------------------------------------------------------------------------


def declared(config_type: type) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(config_type) if f.default is not dataclasses.MISSING}


def shallow(model_type: str) -> dict[str, Any]:
    """Fields that keep a model of this type quick to build: few layers, those of nested configs too."""
    fields = declared(CONFIG_MAPPING[model_type])
    if model_type in BASE:
        return BASE[model_type]
    subs = {
        name: {"model_type": spec.model_type, **spec.init_kwargs, **shallow(spec.model_type)}
        for name, spec in CONFIG_MAPPING[model_type].sub_configs_defaults.items()
        if spec.model_type in CONFIG_MAPPING and not spec.optional
    }
    names = (
        "num_hidden_layers",
        "n_layer",
        "n_layers",
        "num_layers",
        "encoder_layers",
        "decoder_layers",
        "depth",
        "num_decoder_layers",
    )
    return {n: MANY_LAYERS for n in names if type(fields.get(n)) is int and fields[n] > MANY_LAYERS} | subs


def alternatives(value: Any) -> list[Any]:
    """Other values a field may take, unlike each other, so that a wrong formula cannot fit all."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value * 2, value + 1, value * 3, *([value // 2] if value > 1 else []), 1, 2, None]
    if isinstance(value, float):
        return [value * 2, value / 2 or 0.5]
    if isinstance(value, list | tuple) and value and all(type(v) is int for v in value):
        return [[value[0] + 1, *value[1:]], [*value[:-1], value[-1] * 2]]
    if value is None:
        return [3, 48, True, 0.5, "silu"]
    if isinstance(value, str):
        return ["gelu", "silu", "relu"] if "act" in value or value in ("gelu", "silu", "relu") else []
    return []


Change = tuple[str, dict[str, Any]]
"""(what is changed, the config's fields)."""


def single_changes(model_type: str) -> Iterator[Change]:
    """Each field of the shallow config changed alone to each of its alternatives, those of nested configs too."""
    fields, base = declared(CONFIG_MAPPING[model_type]), shallow(model_type)
    for name, value in fields.items():
        if not IRRELEVANT.search(name):
            yield from ((name, {**base, name: other}) for other in alternatives(base.get(name, value)))
    for alias, name in CONFIG_MAPPING[model_type].attribute_map.items():
        if type(fields.get(name)) is int and not IRRELEVANT.search(alias) and alias not in SKIP.get(model_type, ()):
            yield alias, {**base, alias: fields[name] * 2}
    for name, other in undeclared(model_type).items():
        yield name, {**base, name: other}
    for name, allowed in (("layer_types", ALLOWED_ATTN_LAYER_TYPES), ("mlp_layer_types", ALLOWED_MLP_LAYER_TYPES)):
        layers = base.get("num_hidden_layers", fields.get("num_hidden_layers"))
        if name in fields and type(layers) is int:
            yield from ((name, {**base, name: [kind] * layers}) for kind in allowed)
    for name, sub in nested_bases(model_type).items():
        for field, value in declared(CONFIG_MAPPING[sub["model_type"]]).items():
            if not IRRELEVANT.search(field):
                others = alternatives(sub.get(field, value))[:3]
                yield from ((f"{name}.{field}", {**base, name: {**sub, field: other}}) for other in others)
    yield from ((f"extra {i}", change) for i, change in enumerate(EXTRA.get(model_type, ())))


OFTEN_SENT = {
    "head_dim": 48,
    "intermediate_size": 88,
    "num_key_value_heads": 2,
    "num_attention_heads": 4,
    "attention_bias": True,
    "mlp_bias": True,
    "qkv_bias": True,
    "use_bias": True,
    "bias": True,
    "num_experts": 3,
    "tie_word_embeddings": True,
}
"""Fields that published configs have whether or not their class declares them."""


def undeclared(model_type: str) -> dict[str, Any]:
    """Attributes that the class derives itself, which a config may all the same give, and fields often sent."""
    fields = declared(CONFIG_MAPPING[model_type])
    try:
        instance = vars(CONFIG_MAPPING[model_type](**shallow(model_type)))
    except Exception:  # reported as a config that cannot be built
        instance = {}
    derived = {k: v + 1 for k, v in instance.items() if k not in fields and not k.startswith("_") and type(v) is int}
    return derived | {k: v for k, v in OFTEN_SENT.items() if k not in fields}


def nested_bases(model_type: str) -> dict[str, dict[str, Any]]:
    """A shallow version of each nested config, as the class itself would fill it in."""
    bases, given = {}, shallow(model_type)
    for name, spec in CONFIG_MAPPING[model_type].sub_configs_defaults.items():
        if spec.model_type in CONFIG_MAPPING:
            own = {**spec.init_kwargs, **shallow(spec.model_type)}
            bases[name] = {"model_type": spec.model_type, **(given.get(name) or own)}
    return bases


def joint_changes(effective: list[Change]) -> Iterator[Change]:
    """Two to four of the changes that had an effect, at once. The same on every run."""
    generator = random.Random(0)
    for i in range(min(40, len(effective) ** 2)):
        chosen = generator.sample(effective, k=min(len(effective), generator.randint(2, 4)))
        yield f"joint {i}", {name: value for _, change in chosen for name, value in change.items()}


# -- running ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Tally:
    """What came of all configs of one model type."""

    verbose: int
    agree: int = 0
    unbuildable: int = 0
    refused: list[str] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)
    golden: dict[str, tuple[str, dict[str, Any]]] = dataclasses.field(default_factory=dict)

    def try_config(self, label: str, config: dict[str, Any]) -> str | None:
        """Build on both sides and book the outcome; the digest of the library's shapes, None if it cannot build."""
        name = config["architectures"][0]
        shown = f"{name} { ({k: v for k, v in config.items() if k not in ('model_type', 'architectures')}) }"
        try:
            expected = truth(config, name)
        except Exception as error:  # the library refuses in many ways
            self.unbuildable += 1
            if label == "default" or self.verbose > 1:
                print(f"  {shown}: cannot be built: {type(error).__name__} {str(error)[:150]}")
            return None
        key = digest(expected)
        try:
            found = difference(config, expected)
        except FastEWQError as error:
            self.refused.append(f"{shown}: refused: {error.message[:150]}")
            return key
        if found is not None:
            self.wrong.append(f"{shown}: {found}")
            return key
        self.agree += 1
        if key not in self.golden:
            blocks = run_lengths(block_sums(list(reading(config)[1]), expected))
            self.golden[key] = (label, {"config": config, "total": total(expected), "blocks": blocks, "digest": key})
        return key


def digest(shapes: Shapes) -> str:
    """16 hexadecimal digits that stand for every name and shape, in sorted order."""
    lines = "\n".join(f"{name} {','.join(map(str, shape))}" for name, shape in sorted(shapes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def total(shapes: Shapes) -> int:
    return sum(torch.Size(s).numel() for s in shapes.values())


def run_lengths(counts: Mapping[str, int]) -> list[list[Any]]:
    """[[stack path, [[blocks, parameters of each], ...]], ...]"""
    stacks: dict[str, list[list[int]]] = {}
    for path, count in counts.items():
        runs = stacks.setdefault(path.rpartition(".")[0], [])
        if runs and runs[-1][1] == count:
            runs[-1][0] += 1
        else:
            runs.append([1, count])
    return [[path, runs] for path, runs in stacks.items()]


def block_sums(paths: Iterator[str] | list[str], expected: Shapes) -> dict[str, int]:
    """The library's parameters below each block path."""
    sums = dict.fromkeys(paths, 0)
    for name, shape in expected.items():
        for depth in range(1, name.count(".") + 1):
            path = ".".join(name.split(".")[:depth])
            if path in sums:
                sums[path] += torch.Size(shape).numel()
    return sums


def check(model_type: str, verbose: int) -> Tally:
    tally, base = Tally(verbose), shallow(model_type)
    usual = class_of({"model_type": model_type})
    common = {"model_type": model_type, "architectures": [usual]}
    tally.try_config("default", common)
    plain = tally.try_config("shallow", common | base)
    effective = []
    for label, change in single_changes(model_type):
        if tally.try_config(label, common | change) not in (None, plain):
            effective.append((label, change))
    for label, change in joint_changes(effective):
        tally.try_config(label, common | change)
    for name in config_class(model_type).classes:
        if name != usual and MODELS[model_type].ending(name) in MODELS[model_type].endings:
            for extra in ({}, {"tie_word_embeddings": False}, {"tie_word_embeddings": True}, {"num_labels": 5}):
                tally.try_config(f"class {name}", common | base | extra | {"architectures": [name]})
    return tally


def write_golden(model_type: str, tally: Tally) -> None:
    """The compared configs worth keeping: one for each field that has an effect, ten joint ones, and every class."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    kept, joint = {}, 0
    for label, case in tally.golden.values():
        joint += label.startswith("joint ")
        if label not in kept and not (label.startswith("joint ") and joint > 10):
            kept[label] = case
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in kept.values())
    head = json.dumps({"transformers": transformers.__version__, "agree": tally.agree, "refused": len(tally.refused)})
    target = GOLDEN / f"{model_type}.json"
    temporary = target.with_suffix(".tmp")
    temporary.write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n', "utf-8")
    temporary.replace(target)


def check_all(model_types: list[str], verbose: int, golden: bool) -> int:
    """One line per model type, with what differs or is refused below it."""
    wrong = 0
    for model_type in model_types:
        if model_type not in MODELS:
            print(f"{model_type:28} refused", flush=True)
            continue
        start = time.perf_counter()
        tally = check(model_type, verbose)
        wrong += bool(tally.wrong)
        seconds = time.perf_counter() - start
        verdict = "WRONG" if tally.wrong else "exact" if tally.agree else "not compared"
        print(
            f"{model_type:28} {verdict}  {tally.agree} agree, {len(tally.wrong)} differ, {len(tally.refused)} refused, "
            f"{tally.unbuildable} not buildable, {len(tally.golden)} distinct, {seconds:.1f} s",
            flush=True,
        )
        shown = 1000 if verbose else 5
        for line in (*tally.wrong[:shown], *tally.refused[: shown if verbose else 2]):
            print("    ", line[:700])
        if golden and tally.golden and not tally.wrong:
            write_golden(model_type, tally)
    known = sum(m in MODELS for m in model_types)
    print(
        f"{len(model_types)} model types: {known} described, {wrong} of them with differences; "
        f"transformers {transformers.__version__}"
    )
    return 1 if wrong else 0


def check_files(paths: list[str]) -> int:
    """One line per config file: whether all tensors agree, and how long the library takes to build the model."""
    bad = 0
    for path in paths:
        config, seconds = json.loads(Path(path).read_text("utf-8")), 0.0
        try:
            start = time.perf_counter()
            expected = truth(config, class_of(config))
            seconds = time.perf_counter() - start
            found = difference(config, expected)
        except (FastEWQError, LookupError) as error:
            found = str(error)
        bad += found is not None
        print(f"{Path(path).stem}: {found or 'exact'}; built in {seconds * 1000:.0f} ms")
    return 1 if bad else 0


def time_files(paths: list[str]) -> int:
    """JSON: file -> milliseconds the library takes from a config to its blocks, null where it has no such class.

    The second of two builds, since the first one imports the model's code.
    """
    times: dict[str, float | None] = {}
    for path in paths:
        config = json.loads(Path(path).read_text("utf-8"))
        try:
            built(config, class_of(config))
            start = time.perf_counter()
            built(config, class_of(config))
            times[path] = (time.perf_counter() - start) * 1000
        except (LookupError, AttributeError, ValueError):
            times[path] = None
    print(json.dumps(times))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "golden", "config", "time"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("-v", "--verbose", action="count", default=0)
    options = parser.parse_intermixed_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if options.command == "time":
        return time_files(options.names)
    if options.command == "config":
        return check_files(options.names)
    names = options.names or sorted(CONFIG_MAPPING.keys())
    return check_all(names, options.verbose, options.command == "golden")


if __name__ == "__main__":
    raise SystemExit(main())
