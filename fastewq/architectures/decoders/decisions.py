"""The decision transformer: GPT-2's blocks over what was seen, done and gained, one token each."""

from __future__ import annotations

from collections.abc import Mapping

from fastewq.architectures.assembly import WIDTH, Assembly, At, Embedding, Family, Linear, Norm, Rest
from fastewq.architectures.decoders.dense import gpt2

BLOCKS = gpt2("wte", "wpe", "ln_f")
DECIDES = Assembly(
    At("encoder", BLOCKS),
    Rest(
        Embedding("embed_timestep", "max_ep_len"),
        Linear("embed_return", WIDTH, 1),
        Linear("embed_state", WIDTH, "state_dim"),
        Linear("embed_action", WIDTH, "act_dim"),
        Norm("embed_ln"),
        Linear("predict_state", "state_dim", WIDTH),
        Linear("predict_action.0", "act_dim", WIDTH),
        Linear("predict_return", 1, WIDTH),
    ),
)
DECISIONS: Mapping[str, Family] = {
    "decision_transformer": Family("DecisionTransformer", {"Model": DECIDES, "GPT2Model": BLOCKS})
}
