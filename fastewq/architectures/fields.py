"""Reading one config safely: every number is checked before it is used to build anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from math import prod
from typing import Any, Final, TypeVar, Union

from fastewq.errors import InvalidConfig, UnsupportedArchitecture
from fastewq.shown import shown

MAX_SIZE: Final = 2**31 - 1
"""No width, vocabulary or head count of a real model comes near; a larger value is a mistake or an attack."""
MAX_LAYERS: Final = 512
"""Published models have up to 162 blocks."""
MAX_LAYOUTS: Final = 192
"""Different blocks in one stack: those with most have as many as they have blocks, 162."""
MAX_EXPERTS: Final = 65_536

_MISSING: Final = object()
Found = TypeVar("Found")

Size = Union[int, str, Callable[["Fields"], int]]  # noqa: UP007  (a class that is not there yet cannot be joined by |)
"""A constant, the name of a config field ("text_config.hidden_size" for a nested one), a product such as
"2*hidden_size", or a function."""


@cache
def _factors(size: str) -> tuple[int, tuple[tuple[str, str], ...]]:
    """The constant factor of a product, and (nested config, field) of the others."""
    factors = size.split("*")
    named = [factor.rpartition(".") for factor in factors if not factor.isdigit()]
    constant = prod(int(factor) for factor in factors if factor.isdigit())
    return constant, tuple((config, name) for config, _, name in named)


@dataclass(frozen=True)
class ConfigClass:
    """What the transformers library's config class of one model_type assumes.

    fields   defaults of fields a config leaves out; None where the class derives the value or the part is absent
    aliases  other spelling -> field
    subs     nested config -> (model_type, values used when it is absent, flags "a": its own model_type decides the
             class, "o": null means the part is absent)
    classes  the model classes that take this config
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    subs: Mapping[str, tuple[str, Mapping[str, Any], str]] = field(default_factory=dict)
    classes: Sequence[str] = ()


UNKNOWN: Final = ConfigClass()


@cache
def _table() -> dict[str, str]:
    """model_type -> its line of JSON in defaults.tsv, which `tools/class_defaults.py` writes."""
    text = files("fastewq.architectures").joinpath("defaults.tsv").read_text("utf-8")
    return dict(line.split("\t", 1) for line in text.splitlines())


@cache
def _known(model_type: str) -> ConfigClass:
    return ConfigClass(**json.loads(_table()[model_type]))


STAND_INS: Final = {
    "kimi_k2": "deepseek_v3",
    "mimo": "qwen2",
    "minimax_m3": "minimax_m3_vl_text",
    "nemotron-nas": "llama",
    "deci": "llama",
    "minimax_text_01": "minimax",
    "minimax_m1": "minimax",
    "stablelm_epoch": "stablelm",
    "Dream": "qwen2",
    "Fast_dLLM_Qwen": "qwen2",
    "sdar": "qwen3",
    "sdar_moe": "qwen3_moe",
    "new": "gte",
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "hunyuan": "hunyuan_v1_moe",
    "lfm2-vl": "lfm2_vl",
    "florence2_language": "bart",
    "youtu_llm": "youtu",
    "exaone4_5_text": "exaone4",
    "bidir_mistral": "mistral",
    "llama_bidirec": "llama",
    "eagle": "llama",
    "eagle3": "llama",
    "teleflm": "llama",
    "peagle": "llama",
    "dflash": "qwen3",
    "domino": "qwen3",
    "dspark": "qwen3",
    "jina_ranking": "qwen3",
    "bidirectional_pplx_qwen3": "qwen3",
    "chronos2": "t5",
    "chronos_bolt": "t5",
    "nucleotide_transformer": "esm",
    "interns1": "internvl",
    "longcat_flash_ngram": "longcat_flash",
}
"""Types that the library does not have, whose config class extends one that it has."""


def config_class(model_type: str) -> ConfigClass:
    """The defaults for a model_type; empty for one that the transformers library does not have."""
    model_type = STAND_INS.get(model_type, model_type)
    return _known(model_type) if model_type in _table() else UNKNOWN


def in_library(model_type: str) -> bool:
    """Whether the transformers library has this type."""
    return model_type in _table()


def library_types() -> list[str]:
    """Every model_type of the transformers library, sorted."""
    return sorted(_table().keys() - {"transformers"})


@cache
def _types_by_class() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for model_type in library_types():
        for name in _known(model_type).classes:
            found.setdefault(name, []).append(model_type)
    return found


def types_of_class(name: str) -> Sequence[str]:
    """The types whose config a class of the transformers library takes; empty for other classes."""
    return _types_by_class().get(name, ())


def transformers_version() -> str:
    """The version of the transformers library whose defaults are used."""
    return str(json.loads(_table()["transformers"]))


class Fields(dict["Size", int]):
    """One level of a config (`path` is "" at the top, "text_config" below it) with checked access.

    A field that is absent takes the default of the model type's own config class; null stays null, since
    several fields mean "derive it" by null.

    `f[size]` is the number a size stands for, found once. It raises InvalidConfig where a field named by the size is
    not a positive integer, and where a function of fields gives none: a model has no matrix without a width.
    """

    __slots__ = ("_class", "_found", "_raw", "_spelled", "_subs", "model_type", "path")

    def __init__(self, raw: Mapping[str, Any], model_type: str, path: str = "") -> None:
        self._class = config_class(model_type)
        aliases = self._class.aliases
        renamed = {name: raw[alias] for alias, name in aliases.items() if alias in raw} if aliases else None
        self._raw = {**raw, **renamed} if renamed else raw
        self._subs: dict[str, Fields] = {}
        self._found: dict[int, tuple[object, Any]] = {}
        self._spelled: Mapping[str, str] = {}
        self.model_type = model_type
        self.path = path

    def __missing__(self, size: Size) -> int:
        if isinstance(size, str):
            found = self._raw.get(size)
            if found is None and size not in self._raw:
                found = self._class.fields.get(size)
            if type(found) is not int or not 0 < found <= MAX_SIZE:
                found = self._product(size) if "*" in size or "." in size else self.count(size, low=1)
        elif callable(size):
            found = size(self)
            if found < 1:
                raise self._refused(size, f"at least 1, not {found}")
        else:
            found = size
        self[size] = found
        return found

    def amount(self, size: Size, high: int = MAX_SIZE) -> int:
        """`f[size]`, but 0 where a function says so: how many there are of something, at most `high`."""
        found = size(self) if callable(size) else self[size]
        if found > high:
            raise self._refused(size, f"at most {high}, not {found}")
        return found

    def _refused(self, size: Size, expected: str) -> InvalidConfig:
        """The error for a size that the fields it is made of put out of bounds."""
        watched = _Watched(self, {})
        _ = size(watched) if callable(size) else watched[size]
        read = [f"{name} is {shown(value)}" for name, value in watched.read.items()]
        given = ", ".join(read[:4]) or f"the config of {self.model_type}"
        return InvalidConfig(f"{given}; expected values that give a size of {expected}")

    def _product(self, size: str) -> int:
        found, named = _factors(size)
        for config, name in named:
            found *= (self.sub(config) if config else self)[name]
        return found

    def __bool__(self) -> bool:
        return True

    def once(self, function: Callable[[Fields], Found]) -> Found:
        """What a function of these fields gives, such as the tensors of a part; it is called the first time only."""
        known = self._found.get(id(function))
        if known is None:
            # Kept with its result: were it freed, another function could get its id.
            known = self._found[id(function)] = (function, function(self))
        found: Found = known[1]
        return found

    @property
    def classes(self) -> Sequence[str]:
        """The names of the model classes that take this config."""
        return self._class.classes

    @property
    def subs(self) -> Set[str]:
        """The names of the nested configs that the class has."""
        return self._class.subs.keys()

    def has(self, name: str) -> bool:
        """Whether the config itself (not its class default) has a value other than null."""
        return self._raw.get(self._class.aliases.get(name, name)) is not None

    def undeclared(self, name: str) -> bool:
        """Whether the config has a field that its class does not declare, so that nothing reads it."""
        return self.has(name) and self._class.aliases.get(name, name) not in self._class.fields

    def unread(self, name: str) -> bool:
        """Whether the config sends a field, other than null or nothing, that its class does not have.

        Nested configs that were read are none; neither are single fields of a type without a known class.
        """
        value, known = self._raw.get(name), self._class
        if not value or (known is UNKNOWN and not isinstance(value, Mapping)):
            return False
        return not (name in known.fields or name in known.aliases or name in known.subs or name in self._subs)

    def replaced(self, **values: Any) -> Fields:
        """The same level with some fields changed, for a layer that differs from the rest."""
        raw, aliases = self._raw, self._class.aliases
        if aliases:
            meant = set(map(self._meaning, values))
            # The names are looked up in the config, as it can have many more fields than its class has aliases.
            stale = [name for name in (*aliases, *meant) if name in raw and self._meaning(name) in meant]
            if stale:
                raw = dict(raw)
                for name in stale:
                    del raw[name]
        changed = Fields({**raw, **values}, self.model_type, self.path)
        if self._spelled:
            changed._spelled = {name: old for name, old in self._spelled.items() if name not in values}
        return changed

    def renamed(self, spellings: Mapping[str, str]) -> Fields:
        """The same level with old spellings (old -> field) read as the field they stand for."""
        sent = {name: old for old, name in spellings.items() if self._raw.get(old) is not None}
        if not sent:
            return self
        changed = self.replaced(**{name: self._raw[old] for name, old in sent.items()})
        changed._spelled = {**changed._spelled, **sent}
        return changed

    def value(self, name: str, default: Any = _MISSING) -> Any:
        """The raw value of a field: as sent, else by its other spelling, else the class default, else `default`."""
        found = self._raw.get(name, _MISSING)
        if found is not _MISSING:
            return found
        known = self._class
        if name in known.aliases:
            name = known.aliases[name]
            if name in self._raw:
                return self._raw[name]
        found = known.fields.get(name, default)
        if found is not _MISSING:
            return found
        reason = f", as {self.model_type} has no default" if self.model_type else ""
        raise InvalidConfig(f"{self.where(name)} is missing; expected a value{reason}")

    def where(self, name: str) -> str:
        """The place of a field, under the name that the config has for it."""
        aliases, meant = self._class.aliases, self._meaning(name)
        if name not in aliases or name not in self._raw:
            spellings = [other for other in self._raw if self._meaning(other) == meant]
            name = max(spellings, key=aliases.__contains__, default=name)
        return self._below(self._spelled.get(name, name))

    def _below(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _meaning(self, name: str) -> str:
        """The field for which a name is another spelling, or the name itself."""
        return self._class.aliases.get(name, name)

    def refuse(self, name: str, value: Any, expected: str) -> InvalidConfig:
        """The error for a field whose value cannot be used; raise it."""
        return InvalidConfig(f"{self.where(name)} is {shown(value)}; expected {expected}")

    def count(self, name: str, default: Any = _MISSING, *, low: int = 0, high: int = MAX_SIZE) -> int:
        """An integer in [low, high]. Integral floats are accepted, as some published configs write 4096.0."""
        value = self.value(name, default)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise self.refuse(name, value, f"an integer from {low} to {high}")
        return value

    def size(self, name: str, default: int) -> int:
        """A positive integer, as `f[name]`, or a default where the field is absent."""
        return self.count(name, default, low=1)

    def optional_size(self, name: str) -> int | None:
        """A positive integer, or None where the field is null or absent (then the caller derives it)."""
        return None if self.value(name, None) is None else self[name]

    def number(self, name: str, default: Any = _MISSING, *, low: float = 0.0, high: float = 1e6) -> float:
        """A finite number in [low, high], such as the ratio of two widths."""
        value = self.value(name, default)
        if type(value) not in (int, float) or not low <= value <= high:  # NaN fails the comparison
            raise self.refuse(name, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def layers(self, name: str = "num_hidden_layers") -> int:
        return self.count(name, low=0, high=MAX_LAYERS)

    def experts(self, name: str, default: Any = _MISSING) -> int:
        return self.count(name, default, low=1, high=MAX_EXPERTS)

    def flag(self, name: str, default: Any = _MISSING) -> bool:
        value = self.value(name, default)
        if value is None:
            return False
        if type(value) is not bool:
            raise self.refuse(name, value, "true or false")
        return value

    def text(self, name: str, default: Any = _MISSING) -> str:
        value = self.value(name, default)
        if not isinstance(value, str):
            raise self.refuse(name, value, "a string")
        return value

    def choice(self, name: str, allowed: Sequence[Any], default: Any = _MISSING) -> Any:
        """A value out of a fixed set. Raises InvalidConfig for any other."""
        value = self.value(name, default)
        if not any(type(value) is type(a) and value == a for a in allowed):
            raise self.refuse(name, value, "one of " + ", ".join(map(shown, allowed)))
        return value

    def require(self, name: str, allowed: Sequence[Any]) -> None:
        """Raises UnsupportedArchitecture unless the field is null or one of these values."""
        value = self.value(name, None)
        if value is not None and not any(type(value) is type(a) and value == a for a in allowed):
            whose = self.model_type or self.path
            raise UnsupportedArchitecture(
                f"{self.where(name)} is {shown(value)}, which changes the blocks of {whose} in a way that is not "
                f"described; known are {', '.join(map(shown, (*allowed, None)))}"
            )

    def per_layer(self, name: str, layers: int) -> Sequence[Any]:
        """A list with at least one entry per layer (longer lists also describe prediction layers; they are cut)."""
        value = self.value(name)
        if not isinstance(value, list | tuple) or len(value) < layers:
            raise self.refuse(name, value, f"a list of {layers} entries, one per layer")
        return value[:layers]

    def sizes(self, name: str, layers: int) -> list[int]:
        """A list of positive integers with at least one entry per layer."""
        values = self.per_layer(name, layers)
        if not all(type(v) is int and 0 < v <= MAX_SIZE for v in values):
            raise self.refuse(name, values, "a list of positive integers")
        return list(values)

    def indices(self, name: str) -> frozenset[int]:
        """The layers in a list of layer numbers; empty where it is null or absent."""
        value = self.value(name, None)
        if value is None:
            return frozenset()
        if (
            not isinstance(value, list | tuple)
            or len(value) > 4 * MAX_LAYERS
            or not all(type(i) is int and 0 <= i < MAX_SIZE for i in value)
        ):
            raise self.refuse(name, value, "a list of layer numbers")
        return frozenset(value)

    def sub(self, name: str, model_type: str | None = None) -> Fields:
        """A nested config, such as `text_config`; `model_type` is for types that have no class defaults. Read once."""
        if name not in self._subs:
            self._subs[name] = self._sub(name, model_type)
        return self._subs[name]

    def nests(self, name: str) -> bool:
        """Whether there is a nested config of this name: sent, or assumed by the class where it is absent."""
        return isinstance(self._raw.get(name), Mapping) or self._class.subs.get(name, (None,))[0] is not None

    def _sub(self, name: str, model_type: str | None) -> Fields:
        value = self._raw.get(name)
        assumed, overrides, flags = self._class.subs.get(name, (model_type, {}, "a"))
        if value is None and assumed is not None:
            value = overrides
        if not isinstance(value, Mapping):
            raise self.refuse(name, value, "an object")
        named = value.get("model_type", assumed) if "a" in flags else assumed
        if not isinstance(named, str):
            raise self.refuse(f"{name}.model_type", named, "a string")
        return Fields(value, named, self._below(name))

    def optional_sub(self, name: str, model_type: str | None = None) -> Fields | None:
        """A nested config whose absence means that the model lacks the part; `model_type` as for `sub`."""
        _, _, flags = self._class.subs.get(name, ("", {}, "o"))
        return None if "o" in flags and self._raw.get(name) is None else self.sub(name, model_type)

    def unflattened(self, name: str) -> Fields:
        """The same config with a copy of itself as the nested config `name`, where it has none.

        Files written before a model had nested configs hold the fields of its text model at the top.
        """
        return self if self.has(name) else self.replaced(**{name: self._raw})

    def completed(self, name: str) -> Fields:
        """The same config with the nested config `name` filled up by what this class assumes where it is absent."""
        given = self._raw.get(name)
        _, assumed, _ = self._class.subs.get(name, ("", {}, ""))
        return self.replaced(**{name: {**assumed, **given}}) if isinstance(given, Mapping) else self

    def divided(self, numerator: str, denominator: str) -> int:
        """size(numerator) / size(denominator), refused unless it is a whole number."""
        top, bottom = self[numerator], self[denominator]
        if top % bottom:
            raise self.refuse(numerator, top, f"a multiple of {self.where(denominator)} = {bottom}")
        return top // bottom


class _Watched(Fields):
    """Fields that note which of them a function reads, by their place in the config."""

    __slots__ = ("read",)

    def __init__(self, fields: Fields, read: dict[str, Any]) -> None:
        super().__init__(fields._raw, fields.model_type, fields.path)
        self._spelled, self._subs = fields._spelled, fields._subs
        self.read = read

    def __missing__(self, size: Size) -> int:
        plain = isinstance(size, str) and "*" not in size and "." not in size
        return self.count(str(size), low=1) if plain else super().__missing__(size)

    def value(self, name: str, default: Any = _MISSING) -> Any:
        found = self.read[self.where(name)] = super().value(name, default)
        return found

    def sub(self, name: str, model_type: str | None = None) -> Fields:
        return _Watched(super().sub(name, model_type), self.read)
