"""What a command is pointed at: a config.json, a model folder, standard input, or a model on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastewq.errors import InputError
from fastewq.jsonio import MAX_CONFIG_BYTES, load_config, parse_config, read_stdin
from fastewq.model_files import Files, FolderFiles
from fastewq.names import is_hub_id

if TYPE_CHECKING:
    from fastewq.headers import Exact
    from fastewq.hub import Hub


@dataclass(frozen=True)
class Source:
    """A config and where it came from.

    model_id, commit   of a model on the Hub
    folder, hub        where the model's other files are, if anywhere
    warning            set when the Hub could not be asked and a cached config was taken
    """

    config: dict[str, Any]
    model_id: str | None = None
    commit: str | None = None
    folder: Path | None = None
    hub: Hub | None = None
    warning: str | None = None

    def read_exact(self) -> Exact:
        """What the safetensors headers beside the config say. Raises InputError where there is nothing beside it."""
        from fastewq.headers import HubFiles, read_exact

        if self.hub is not None and self.model_id is not None:
            files = HubFiles(self.hub, self.model_id, self.commit or "main")
            return read_exact(_with_quantization(self.config, files), files)
        if self.folder is not None:
            return read_exact(self.config, FolderFiles(self.folder))
        raise InputError(
            "--exact needs a model folder or a model on the Hub; a config alone has no safetensors headers"
        )


MODELOPT_FILE = "hf_quant_config.json"
"""Where NVIDIA's older checkpoints say how they are quantized, which newer ones do in the config."""


def _with_quantization(config: dict[str, Any], files: Files) -> dict[str, Any]:
    """The config, with what MODELOPT_FILE beside it says where it says nothing of its quantization itself."""
    if "quantization_config" in config or MODELOPT_FILE not in files.names():
        return config
    said = parse_config(files.read(MODELOPT_FILE, MAX_CONFIG_BYTES), f"{files.name}: {MODELOPT_FILE}")
    return {**config, "quantization_config": said}


def read_source(source: str, *, revision: str | None = None, offline: bool = False) -> Source:
    """Read the config a SOURCE argument stands for.

    A path that exists is a path; otherwise org/name is a model on the Hub. Raises InvalidConfig, NotFound,
    StorageFailure, AccessDenied, HubUnavailable, and InputError for a revision of something that has none.
    """
    if source == "-":
        found = Source(read_stdin())
    elif Path(source).exists() or not is_hub_id(source):
        path = Path(source)
        folder = path if path.is_dir() else path.parent if path.name == "config.json" else None
        config = load_config(path)
        found = Source(_with_quantization(config, FolderFiles(folder)) if folder else config, folder=folder)
    else:
        from fastewq.hub import DEFAULT_REVISION, Hub

        hub = Hub(offline=offline)
        read = hub.config(source, DEFAULT_REVISION if revision is None else revision)
        return Source(read.config, model_id=source, commit=read.commit, hub=hub, warning=read.warning)
    if revision is not None:
        raise InputError(f"--revision is {revision!r:.100}, but {source} is not a model on the Hub, so it has none")
    return found
