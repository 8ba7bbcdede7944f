"""Real text that ships with packages, so that a measurement can be repeated offline.

english     the Lee background corpus, 300 news items of the Australian Broadcasting Corporation, from gensim's tests
python      modules of Python's own standard library
reactions   chemical reactions as SMILES, from the tests and descriptions of four packages about reactions
speech      half a minute of a telephone conversation in English, pyannote.audio's sample
"""

from __future__ import annotations

import io
import re
import wave
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastewq.training.source_cache import fetch_wheel
from fastewq.training.sources import Part

LEE: Final = Part(
    wheel="gensim-4.3.3-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    wheel_sha256="d662bf96e3d741b6ab61a54be842a7cbf5e45193008b2f4225c758cafd7f9cdc",
    member="gensim/test/test_data/lee_background.cor",
    bytes=360082,
    sha256="5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb",
)
MODULES: Final = ("argparse", "bisect", "csv", "heapq", "inspect", "pathlib", "shlex", "statistics", "textwrap")


def read_member(part: Part, cache: Path, member: str = "") -> bytes:
    """The part itself, or another file of its wheel; as `outer.zip!inner`, one in a zip file in it."""
    outer, _, inner = (member or part.member).partition("!")
    with zipfile.ZipFile(fetch_wheel(part, cache)) as archive:
        data = archive.read(outer)
    if not inner:
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(inner)


def english(cache: Path) -> str:
    """News in English, one item after another."""
    return read_member(LEE, cache).decode()


def python(_cache: Path) -> str:
    """Source code of the running Python's standard library (3.11 in the committed measurements)."""
    found = (find_spec(name) for name in MODULES)
    return "\n\n".join(Path(str(spec.origin)).read_text(encoding="utf-8") for spec in found if spec)


_REACTION: Final = re.compile(r"[A-Za-z0-9@+\-\[\]()=#%/\\\\.]{12,}>>[A-Za-z0-9@+\-\[\]()=#%/\\\\.]{8,}")
REACTIONS: Final = {
    "rxnmapper-0.4.3-py3-none-any.whl": (
        "27876a4286881aafd286fd6f24a6a56a4ca6ba22d68e035a0ea120106c541ba5",
        ("tests/test_mapper.py", "rxnmapper-0.4.3.dist-info/METADATA"),
    ),
    "localmapper-0.1.5-py3-none-any.whl": (
        "7572f9e7266afbc7898bcb0e8fc1ce100f538fd49853657112f00b53d902c465",
        ("localmapper-0.1.5.dist-info/METADATA",),
    ),
    "drfp-0.3.7-py3-none-any.whl": (
        "6766bba126a296e9898930803432929e344ca306147f047be5a8b621279cc779",
        ("drfp-0.3.7.dist-info/METADATA",),
    ),
    "rxn_insight-0.1.3-py3-none-any.whl": (
        "0fa27a5e18aa34ba48a302f9d635e7387367c6b6f49378a1df2885c028e102e4",
        ("rxn_insight-0.1.3.dist-info/METADATA",),
    ),
}
"""Wheel -> its SHA-256 and the files that name reactions."""


def reactions(cache: Path) -> str:
    """One reaction a line, without atom numbers; those of at least 40 characters, each once."""
    found: dict[str, None] = {}
    for wheel, (digest, members) in REACTIONS.items():
        for member in members:
            part = Part(wheel=wheel, wheel_sha256=digest, member=member, bytes=1, sha256=digest)
            text = read_member(part, cache).decode()
            found |= dict.fromkeys(line for line in _REACTION.findall(text) if len(line) >= 40)
    return "\n".join(found)


def nothing(_cache: Path) -> str:
    """No text: the model is read samples of its own."""
    return ""


SPEECH: Final = Part(
    wheel="pyannote_audio-4.0.7-py3-none-any.whl",
    wheel_sha256="852ea15c4d85bc34773e618267603ffca6a521669a74d33742692cc67fc700d6",
    member="pyannote/audio/sample/sample.wav",
    bytes=960104,
    sha256="c319b4abca767b124e41432d364fd7df006cb26bb79d09326c487d606a134e6e",
)


def speech(cache: Path) -> NDArray[np.float32]:
    """Samples between -1 and 1, 16,000 a second, of one channel."""
    with wave.open(io.BytesIO(read_member(SPEECH, cache))) as sound:
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float32) / 32768
