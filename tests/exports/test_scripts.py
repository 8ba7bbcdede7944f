"""The exported scripts, run as they are with the tools' packages replaced."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from exports.conftest import Planner
from fastewq.exports import TOOLS, export

PACKAGES = ["auto_round", "huggingface_hub", "llmcompressor", "optimum", "safetensors", "safetensors.torch", "torch",
            "torchao", "torchao.quantization"]  # fmt: skip
SCRIPTS = ["autoround", "bitsandbytes", "llm-compressor", "quanto", "torchao"]
"""Tools whose script takes the model from the transformers library."""


class Transformers(ModuleType):
    """The parts that load a model; every class tells what it was asked for."""

    def __init__(self, architectures: list[str] | None) -> None:
        super().__init__("transformers")
        self.loaded: list[tuple[str, str, str]] = []
        config = SimpleNamespace(architectures=architectures)
        self.AutoConfig = SimpleNamespace(from_pretrained=lambda source: config)
        self.AutoTokenizer = self.BitsAndBytesConfig = self.TorchAoConfig = MagicMock()
        for name in ("AutoModelForCausalLM", "BertForMaskedLM"):
            setattr(self, name, SimpleNamespace(from_pretrained=self.loader(name)))

    def loader(self, name: str) -> Any:
        def load(source: str, *, dtype: str, **options: Any) -> Any:
            self.loaded.append((name, source, dtype))
            return MagicMock()

        return load


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {name: MagicMock() for name in PACKAGES} | {
        "transformers": Transformers(["BertForMaskedLM"])
    }
    for name, package in found.items():
        monkeypatch.setitem(sys.modules, name, package)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with the files that repositories have, and OUT with what a tool writes."""
    names = ("config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "tokenizer.json",
             "tokenizer.model", "source.spm", "merges.txt", "chat_template.jinja", "README.md")  # fmt: skip
    for name in names:
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_text("original", "utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("quantized", "utf-8")
    return tmp_path


def run(tool: str, planned: Planner, folder: Path, monkeypatch: pytest.MonkeyPatch, source: str | None = None) -> None:
    for name, text in export(planned(), tool, nearest=True).files.items():
        (folder / name).write_text(text, "utf-8")
    monkeypatch.delitem(sys.modules, "checkpoint", raising=False)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "argv", ["quantize.py", *([source, str(folder / "out")] if source else [])])
    runpy.run_path(str(folder / "quantize.py"), run_name="__main__")


@pytest.mark.parametrize("tool", [*SCRIPTS, "gptqmodel", "mlx", "openvino"])
def test_without_paths_a_script_says_what_it_wants(
    tool: str, planned: Planner, packages: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gptqmodel", "mlx_lm", "nncf", "nncf.parameters", "openvino", "optimum.intel"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    with pytest.raises(SystemExit, match=r"python quantize\.py MODEL OUT"):
        run(tool, planned, folder, monkeypatch)


COPIED = {"tokenizer.json", "tokenizer.model", "source.spm", "merges.txt", "chat_template.jinja"}


@pytest.mark.parametrize("tool", SCRIPTS)
def test_a_folder_becomes_a_folder(
    tool: str, planned: Planner, packages: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class is the one that the config names; what belongs to the model goes along, but no second weights."""
    source = str(folder / "model")
    run(tool, planned, folder, monkeypatch, source)
    assert packages["transformers"].loaded == [("BertForMaskedLM", source, "auto")]
    assert {file.name for file in (folder / "out").iterdir()} == {"config.json"} | COPIED
    assert (folder / "out" / "config.json").read_text("utf-8") == "quantized"
    packages["huggingface_hub"].snapshot_download.assert_not_called()


@pytest.mark.parametrize("tool", SCRIPTS)
def test_of_a_repository_only_what_is_used_is_downloaded(
    tool: str, planned: Planner, packages: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights come with the model, in one format; a repository may hold them in three."""
    packages["huggingface_hub"].snapshot_download.return_value = str(folder / "model")
    run(tool, planned, folder, monkeypatch, "org/name")
    assert packages["transformers"].loaded == [("BertForMaskedLM", "org/name", "auto")]
    (call,) = packages["huggingface_hub"].snapshot_download.call_args_list
    assert call.args == ("org/name",)
    assert not any(Path(name).match(p) for p in call.kwargs["allow_patterns"] for name in
                   ("model.safetensors", "pytorch_model.bin", "consolidated.00.pth", "onnx/model.onnx"))  # fmt: skip
    assert {file.name for file in (folder / "out").iterdir()} == {"config.json"} | COPIED


@pytest.mark.parametrize("architectures", [None, [], ["ForgottenModel"]])
def test_a_class_that_is_not_known_is_a_language_model(
    architectures: list[str] | None,
    planned: Planner,
    packages: dict[str, Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transformers = Transformers(architectures)
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    run("quanto", planned, folder, monkeypatch, str(folder / "model"))
    assert [name for name, *_ in transformers.loaded] == ["AutoModelForCausalLM"]


def test_autoround_takes_a_model_of_pictures_without_a_tokenizer(
    planned: Planner, packages: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = packages["transformers"].AutoTokenizer.from_pretrained
    given.side_effect = [MagicMock(), ValueError("no tokenizer")]
    for expected in (1, 0):
        run("autoround", planned, folder, monkeypatch, str(folder / "model"))
        assert (packages["auto_round"].AutoRound.call_args.args[1] is not None) == expected


def test_torchao_may_quantize_the_head(
    planned: Planner, packages: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a list of its own the library keeps the head whatever the rules say."""
    run("torchao", planned, folder, monkeypatch, str(folder / "model"))
    assert packages["transformers"].TorchAoConfig.call_args.kwargs == {"modules_to_not_convert": []}


@pytest.mark.parametrize("layers", ["model.layers", "model.encoder.layer"])
def test_openvino_looks_for_the_blocks(
    layers: str, planned: Planner, packages: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NNCF takes patterns that match nothing in silence, and would compress what is to be kept."""
    paths = [f"__module.{layers}.{block}.mlp.up_proj/aten::linear/MatMul" for block in range(12)]
    nodes = [MagicMock(get_friendly_name=lambda path=path: path) for path in paths]
    nncf, optimum, openvino = MagicMock(), MagicMock(), MagicMock()
    model = optimum.intel.OVModelForMaskedLM.from_pretrained.return_value
    model.model.get_ops.return_value = nodes
    for name, package in {
        "nncf": nncf,
        "openvino": openvino,
        "optimum": optimum,
        "optimum.intel": optimum.intel,
    }.items():
        monkeypatch.setitem(sys.modules, name, package)
    if layers == "model.layers":
        run("openvino", planned, folder, monkeypatch, str(folder / "model"))
        assert nncf.compress_weights.call_count == 2
    else:
        with pytest.raises(SystemExit, match="calls the modules of the model otherwise"):
            run("openvino", planned, folder, monkeypatch, str(folder / "model"))
        nncf.compress_weights.assert_not_called()


def test_all_scripts_compile(planned: Planner) -> None:
    for tool in TOOLS.keys() - {"devices"}:
        for name, text in export(planned(), tool, nearest=True).files.items():
            if name.endswith(".py"):
                compile(text, f"{tool}/{name}", "exec")
