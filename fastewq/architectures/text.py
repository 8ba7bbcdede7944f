"""Every text model by model_type: those that generate, encode or do both. Multimodal models hold one of them."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.decoders.dense import DECODERS
from fastewq.architectures.decoders.gemma import GEMMA
from fastewq.architectures.decoders.halves import halves
from fastewq.architectures.decoders.latent import LATENT_LINE
from fastewq.architectures.decoders.linear_attention import LINEAR
from fastewq.architectures.decoders.moe import MOE
from fastewq.architectures.decoders.state_space import STATE_SPACE
from fastewq.architectures.encoders.bert_relatives import ENCODERS
from fastewq.architectures.encoders.early import EARLY
from fastewq.architectures.heads import Model
from fastewq.architectures.remote.deci import DECI_LINE
from fastewq.architectures.remote.dense import REMOTE_DENSE
from fastewq.architectures.remote.encoders import REMOTE_ENCODERS
from fastewq.architectures.remote.hybrid import REMOTE_HYBRID
from fastewq.architectures.remote.kimi import KIMI_LINEAR
from fastewq.architectures.remote.moe import REMOTE_MOE
from fastewq.architectures.remote.pangu import REMOTE_PANGU
from fastewq.architectures.remote.renamed import RENAMED
from fastewq.architectures.seq2seq.bart import BART_LINE
from fastewq.architectures.seq2seq.t5 import SEQ2SEQ

ALONE: Mapping[str, Model] = {
    **DECODERS,
    **GEMMA,
    **MOE,
    **LATENT_LINE,
    **STATE_SPACE,
    **LINEAR,
    **KIMI_LINEAR,
    **REMOTE_DENSE,
    **DECI_LINE,
    **REMOTE_MOE,
    **REMOTE_PANGU,
    **RENAMED,
    **REMOTE_HYBRID,
    **ENCODERS,
    **REMOTE_ENCODERS,
    **EARLY,
    **SEQ2SEQ,
    **BART_LINE,
}

TEXT: Mapping[str, Model] = {**ALONE, **halves(ALONE)}
