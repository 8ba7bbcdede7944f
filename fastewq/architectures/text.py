"""Every text model by model_type: those that generate, encode or do both. Multimodal models hold one of them."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.bart import BART_LINE
from fastewq.architectures.decoders import DECODERS
from fastewq.architectures.early_encoders import EARLY
from fastewq.architectures.encoders import ENCODERS
from fastewq.architectures.gemma import GEMMA
from fastewq.architectures.halves import halves
from fastewq.architectures.heads import Model
from fastewq.architectures.latent import LATENT_LINE
from fastewq.architectures.linear_attention import LINEAR
from fastewq.architectures.moe import MOE
from fastewq.architectures.remote import REMOTE
from fastewq.architectures.remote_dense import REMOTE_DENSE
from fastewq.architectures.remote_encoders import REMOTE_ENCODERS
from fastewq.architectures.remote_hybrid import REMOTE_HYBRID
from fastewq.architectures.remote_kimi import KIMI_LINEAR
from fastewq.architectures.remote_moe import REMOTE_MOE
from fastewq.architectures.seq2seq import SEQ2SEQ
from fastewq.architectures.state_space import STATE_SPACE

ALONE: Mapping[str, Model] = {
    **DECODERS,
    **GEMMA,
    **MOE,
    **LATENT_LINE,
    **STATE_SPACE,
    **LINEAR,
    **KIMI_LINEAR,
    **REMOTE,
    **REMOTE_DENSE,
    **REMOTE_MOE,
    **REMOTE_HYBRID,
    **ENCODERS,
    **REMOTE_ENCODERS,
    **EARLY,
    **SEQ2SEQ,
    **BART_LINE,
}

TEXT: Mapping[str, Model] = {**ALONE, **halves(ALONE)}
