"""A plan seen by one tool: every module that could be quantized, with the format the tool would store it in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fastewq.architecture import Role, Tensor
from fastewq.document import Plan
from fastewq.exports.names import NO_LINEAR, OWN_LINEAR, TIED_HEADS
from fastewq.modules import FUSED, is_token_head, module_name
from fastewq.schemes import KEEP, LEVELS, MATRICES, OUTSIDE_MATRICES, Scheme, Target, raw_precision, target_named


@dataclass(frozen=True, slots=True)
class Module:
    """One matrix of the model.

    block       counts over all stacks, -1 outside blocks;  index: counts within the stack
    stack       the path of the block up to its last part;  place: that part, mostly its number
    precision   "raw" or one of LEVELS;  scheme: the tool's format for it, None where raw
    """

    path: str
    stack: str
    block: int
    index: int
    place: str
    name: str
    tensor: Tensor
    precision: str
    scheme: Scheme | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Where an export departs from the plan, and why."""

    path: str
    planned: str
    exported: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        return {"path": self.path, "planned": self.planned, "exported": self.exported, "reason": self.reason}


@dataclass(frozen=True)
class Assignment:
    """The modules of a plan for one target, and the differences that were needed to get there.

    routers   those the plan does not speak of and so keeps: most tools see a linear module like any other
    part      whether it is the language model of a larger model, without the rest
    """

    plan: Plan
    target: Target
    modules: tuple[Module, ...]
    routers: tuple[Module, ...] = ()
    differences: tuple[Difference, ...] = ()
    part: bool = False

    @property
    def raw(self) -> str:
        return self.plan.raw

    @property
    def kept(self) -> list[Module]:
        """What a tool that quantizes whatever is not named must be told to leave alone."""
        return [module for module in (*self.modules, *self.routers) if module.scheme is None]

    def by_scheme(self) -> dict[Scheme, list[Module]]:
        """The quantized modules by format, from most bits to fewest."""
        found: dict[Scheme, list[Module]] = defaultdict(list)
        for module in self.modules:
            if module.scheme is not None:
                found[module.scheme].append(module)
        return dict(sorted(found.items(), key=lambda item: (-item[0].bits, item[0].name)))

    def changed(self, change: Callable[[Module], tuple[str, str] | None]) -> Assignment:
        """The assignment with other precisions where `change` gives (precision, reason)."""
        modules, differences = [], list(self.differences)
        for module in self.modules:
            new = change(module)
            if new is None:
                modules.append(module)
                continue
            precision, reason = new
            scheme = self.target.scheme(module.tensor, precision)
            modules.append(replace(module, precision=precision, scheme=scheme))
            differences.append(Difference(module.path, module.precision, precision, reason))
        return replace(self, modules=tuple(modules), differences=tuple(differences))

    def tensor_bytes(self) -> int:
        """Bytes of all tensors as the tool stores them, without file headers."""
        raw_bytes = raw_precision(self.plan.model["dtype"])[1]
        schemes = {(module.block, module.path): module.scheme for module in self.modules}
        total = 0
        number = 0
        for stack in self.plan.stacks:
            for block in stack.blocks:
                for tensor in self.plan.layouts[block.layout]:
                    scheme = schemes.get((number, f"{block.path}.{module_name(tensor.name)}"))
                    total += self._bytes(tensor, scheme, raw_bytes)
                number += 1
        for group in self.plan.other:
            small = self.target.small_bytes if group.path.rpartition(".")[2] in self.target.small_embeddings else None
            for tensor in self.plan.layouts[group.layout]:
                scheme = schemes.get((-1, group_module(group.path, tensor)))
                total += tensor.parameters * small if small else self._bytes(tensor, scheme, raw_bytes)
        return total

    def _bytes(self, tensor: Tensor, scheme: Scheme | None, raw_bytes: int) -> int:
        return scheme.size(tensor.oriented) if scheme else self.target.tensor_bytes(tensor, KEEP, raw_bytes)


def group_module(path: str, tensor: Tensor) -> str:
    """The module path of a tensor of an outside group, whose own name is usually just `weight`."""
    name = "" if tensor.name == "weight" else module_name(tensor.name)
    return f"{path}.{name}" if name and path else path or name


def assign(plan: Plan, target: str) -> Assignment:
    """What a target would make of a plan: precisions it lacks become the next milder one, what it cannot store is kept.

    Each such change is listed in `differences`.
    """
    chosen, router = target_named(target), frozenset[Role]({"router"})
    planned = MATRICES | router if plan.policy.get("routers") else MATRICES
    modules = (*_in_blocks(plan, chosen, planned), *_outside(plan, chosen))
    routers = tuple(replace(m, precision=KEEP, scheme=None) for m in _in_blocks(plan, chosen, router - planned))
    assignment = Assignment(plan, chosen, modules, routers)
    bare = _bare(plan, modules)
    return assignment.changed(lambda module: _storable(module, assignment.target, bare))


def _in_blocks(plan: Plan, target: Target, roles: frozenset[Role]) -> Iterable[Module]:
    number = 0
    for stack in plan.stacks:
        for block in stack.blocks:
            above, _, place = block.path.rpartition(".")
            for tensor in plan.layouts[block.layout]:
                if tensor.role in roles:
                    name = module_name(tensor.name)
                    precision = _level(block.modules.get(name, block.precision))
                    path, scheme = f"{block.path}.{name}", target.scheme(tensor, precision)
                    yield Module(path, above, number, block.index, place, name, tensor, precision, scheme)
            number += 1


def _outside(plan: Plan, target: Target) -> Iterable[Module]:
    for group in plan.other:
        for tensor in plan.layouts[group.layout]:
            if tensor.role in OUTSIDE_MATRICES:
                path, precision = group_module(group.path, tensor), _level(group.precision)
                yield Module(path, "", -1, -1, "", path, tensor, precision, target.scheme(tensor, precision))


def _level(precision: str) -> str:
    return precision if precision in LEVELS else KEEP


BARE: Final[dict[Role, str]] = {
    "experts": "experts stacked in one tensor",
    "embedding": "embeddings that are parameters",
}


def _bare(plan: Plan, modules: Sequence[Module]) -> frozenset[str]:
    """The paths of matrices in no linear module: parameters, and what is in a MultiheadAttention of PyTorch.

    That one reads the weight of its output projection past the linear module, which is a class of its own. A few models
    have modules of their own throughout their blocks.
    """
    own = ".in_proj_weight"
    attentions = {module.path.removesuffix(own) for module in modules if module.path.endswith(own)}
    attentions |= {  # in some towers that matrix cannot be quantized, and so is no module
        f"{block.path}.{tensor.name.removesuffix(own)}"
        for stack in plan.stacks
        for block in stack.blocks
        for tensor in plan.layouts[block.layout]
        if tensor.name.endswith(own)
    }
    throughout = plan.model["model_type"] in NO_LINEAR
    return frozenset(
        module.path
        for module in modules
        if module.tensor.role == "experts"
        or not f".{module.tensor.name}".endswith(".weight")
        or module.path.rpartition(".")[0] in attentions
        or (throughout and module.block >= 0)
    )


def _storable(module: Module, target: Target, bare: frozenset[str]) -> tuple[str, str] | None:
    """The precision the target can store a module at, with the reason, where that is not the planned one."""
    if module.precision == KEEP:
        return None
    if not target.parameters and module.path in bare:
        return KEEP, f"{target.name} does not quantize {BARE.get(module.tensor.role, 'a matrix in no linear module')}"
    if target.scheme(module.tensor, module.precision) is not None:
        return None
    if module.tensor.role == "router" and not target.routers:
        return KEEP, f"{target.name} keeps routers"
    if module.precision not in target.schemes:
        milder = [level for level in LEVELS[: LEVELS.index(module.precision)] if level in target.schemes]
        if milder and target.scheme(module.tensor, milder[-1]) is not None:
            return milder[-1], f"{target.name} has no {module.precision} format"
    if module.tensor.role == "embedding":
        return KEEP, f"{target.name} does not quantize embeddings"
    if module.tensor.transposed and not target.conv1d:
        return KEEP, f"{target.name} does not quantize Conv1D modules, only nn.Linear"
    groups = ", ".join(str(scheme.group) for scheme in target.schemes.get(module.precision, ()))
    return KEEP, f"its {module.tensor.oriented[-1]} inputs are no multiple of a group size of {target.name} ({groups})"


# -- patterns -------------------------------------------------------------------------------------------------------


def regexes(
    modules: Sequence[Module], *, suffix: str = "", engines: Callable[[str], list[str]] | None = None
) -> list[str]:
    """Anchored regular expressions that match exactly these modules' paths (with `suffix`) and nothing else.

    Blocks that contribute the same modules share a pattern, for instance `^model\\.layers\\.(1|5)\\.(a\\.b|c)$`; every
    dot is escaped and every index closed, so that block 1 never stands for 10 to 19. With `engines` (`engine_names`)
    the names match as well under which serving engines know the modules, and those under which they fuse them (q, k, v
    -> qkv_proj) wherever all the parts do.
    """
    leaves: dict[tuple[str, str], list[str]] = defaultdict(list)
    outside = []
    for module in modules:
        if module.block < 0:
            outside.append(module.path)
        else:
            leaves[(module.stack, module.place)].append(module.name)
    places: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (stack, place), names in leaves.items():
        places[(stack, tuple(_with_fused(names) if engines else names))].append(place)

    def either(path: str) -> str:
        known = [re.escape(name) for name in (engines(path) if engines else [path])]
        return f"({'|'.join(known)})" if len(known) > 1 else known[0]

    end = re.escape(suffix) + "$"
    patterns = [
        rf"^{either(stack)}\.({'|'.join(map(re.escape, found))})\.({'|'.join(map(re.escape, names))}){end}"
        for (stack, names), found in places.items()
    ]
    return patterns + [f"^{either(path)}{end}" for path in outside]


def engine_names(assignment: Assignment) -> Callable[[str], list[str]]:
    """A path -> the names that vLLM and SGLang have for it, its own first.

    They arrange the parts of a multimodal model in their own way, and leave patterns in a config as they are:
    `model.language_model.layers` is `language_model.model.layers` or `model.layers` there, `model.visual` is `visual`.
    """
    text = "model.language_model."
    multimodal = any(module.path.startswith(text) for module in assignment.modules)

    def names(path: str) -> list[str]:
        rest = path.removeprefix(text)
        if rest != path:
            return [path, f"language_model.model.{rest}", f"model.{rest}"]
        return [path, path.removeprefix("model.")] if multimodal and path.startswith("model.") else [path]

    return names


def stacked_experts(assignment: Assignment) -> list[Module]:
    """The modules that hold stacked experts. Some tools take them apart into a linear module per expert and matrix."""
    found = [m for m in assignment.modules if m.tensor.role == "experts"]
    parents = {m.path.rpartition(".")[0]: m for m in found}
    return [replace(m, path=path, name=m.name.rpartition(".")[0]) for path, m in parents.items()]


def expert_regexes(assignment: Assignment, engines: Callable[[str], list[str]]) -> list[str]:
    """Patterns for these modules and whatever is below them."""
    return [pattern.removesuffix("$") + r"(\.|$)" for pattern in regexes(stacked_experts(assignment), engines=engines)]


def of_the_very_class(assignment: Assignment, tool: str) -> Assignment:
    """For tools that take PyTorch's linear modules, and none of a class made from it."""
    own = OWN_LINEAR.get(assignment.plan.model["model_type"], ())

    def kept(module: Module) -> tuple[str, str] | None:
        taken = module.scheme is None or module.block < 0 or module.name not in own
        return None if taken else (KEEP, f"{tool} leaves linear modules alone that are of a class of their own")

    return assignment.changed(kept)


LATENT: Final = "self_attn.kv_b_proj"
"""The matrix that makes keys and values from what multi-head latent attention caches."""


def fitted_to_halves(assignment: Assignment, tool: str) -> Assignment:
    """With formats that fit both halves of LATENT, for tools that store that of the keys turned round, head by head."""
    layouts = [block.layout for stack in assignment.plan.stacks for block in stack.blocks]
    inputs = {layout: _key_size(assignment.plan.layouts[layout]) for layout in set(layouts)}
    modules, differences = [], list(assignment.differences)
    for module in assignment.modules:
        size = inputs[layouts[module.block]] if module.name == LATENT else None
        if module.scheme is None or size is None:
            modules.append(module)
            continue
        schemes = assignment.target.schemes[module.precision]
        scheme = next((s for s in schemes if s.fits(size) and s.fits(module.tensor.shape[-1])), None)
        if scheme is None:
            reason = f"{tool} splits it, and the {size} inputs of a half are no multiple of a group size"
            differences.append(Difference(module.path, module.precision, KEEP, reason))
        modules.append(replace(module, precision=module.precision if scheme else KEEP, scheme=scheme))
    return replace(assignment, modules=tuple(modules), differences=tuple(differences))


def _key_size(tensors: Sequence[Tensor]) -> int | None:
    """The size of a head's keys without positions (`qk_nope_head_dim`); None in a block without such attention.

    LATENT makes keys and values of every head. What reads the values tells how many there are, so the rest are keys;
    the queries are as many as the keys but for the positions, which all heads share in the matrix before LATENT.
    """
    shapes = {module_name(tensor.name): tensor.shape for tensor in tensors if len(tensor.shape) == 2}
    queries = shapes.get("self_attn.q_b_proj", shapes.get("self_attn.q_proj"))
    whole, before, after = (shapes.get(name) for name in (LATENT, "self_attn.kv_a_proj_with_mqa", "self_attn.o_proj"))
    if queries is None or whole is None or before is None or after is None:
        return None
    keys, positions = whole[0] - after[1], before[0] - whole[1]
    heads = (queries[0] - keys) // positions if positions > 0 else 0
    return keys // heads if heads > 0 and keys > 0 else None


def odd_outputs(module: Module, multiple: int, tool: str) -> tuple[str, str] | None:
    """KEEP and why, of a matrix that a tool keeps since its outputs are no multiple of some number; else None."""
    outputs = module.tensor.oriented[-2]
    return (KEEP, f"its {outputs} outputs are no multiple of {tool}'s {multiple}") if outputs % multiple else None


def tied_head(assignment: Assignment) -> list[str]:
    """The path of the LM head where it is the token embedding: tools see it as one more linear module."""
    named = any(is_token_head(module.path) for module in assignment.modules)
    return [] if named else [TIED_HEADS.get(assignment.plan.model["model_type"], "lm_head")]


def head_regex(assignment: Assignment) -> list[str]:
    """The same as a pattern."""
    return [f"^{re.escape(path)}$" for path in tied_head(assignment)]


def _with_fused(names: Sequence[str]) -> list[str]:
    """The names and those of the fused modules that all of their parts, under one parent, add up to."""
    wholes = []
    for parent in dict.fromkeys(name.rpartition(".")[0] for name in names):
        prefix = f"{parent}." if parent else ""
        wholes += [
            f"{prefix}{whole}" for whole, parts in FUSED.items() if all(f"{prefix}{part}" in names for part in parts)
        ]
    return [*names, *wholes]


def whole_blocks(assignment: Assignment) -> dict[int, Scheme | None]:
    """The blocks whose modules, kept routers apart, all have one format, by number over all stacks."""
    found: dict[int, set[Scheme | None]] = defaultdict(set)
    for module in assignment.modules:
        if module.block >= 0 and (module.tensor.role != "router" or module.scheme is not None):
            found[module.block].add(module.scheme)
    return {block: next(iter(schemes)) for block, schemes in found.items() if len(schemes) == 1}
