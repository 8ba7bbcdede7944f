"""Facts and features that are derived from more than one number of a config."""

from __future__ import annotations

import numpy as np
import pytest

from fastewq.config import read_config
from fastewq.features import FEATURES, block_columns

SIZES = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100}
SMALL = {"d_model": 64, "vocab_size": 100, "encoder_attention_heads": 4, "decoder_attention_heads": 4}


@pytest.mark.parametrize(
    ("config", "post_norm"),
    [
        ({"model_type": "bert", "num_hidden_layers": 2, **SIZES}, 1),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"], "num_hidden_layers": 2, **SIZES}, 1),
        ({"model_type": "roberta", "num_hidden_layers": 2, **SIZES}, 1),
        ({"model_type": "distilbert", "dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4}, 1),
        ({"model_type": "llama", "num_hidden_layers": 2, **SIZES}, 0),
        ({"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 100}, 0),
        ({"model_type": "vit", "num_hidden_layers": 2, **SIZES}, 0),
        ({"model_type": "whisper", "encoder_layers": 2, "decoder_layers": 2, **SMALL}, 0),
        ({"model_type": "marian", "encoder_layers": 2, "decoder_layers": 2, **SMALL}, 1),
    ],
)
def test_blocks_that_end_in_their_norm_are_told_from_those_that_do_not(config, post_norm):
    assert set(block_columns(read_config(config))["post_norm"].tolist()) == {post_norm}


def test_position_features():
    columns = {"exec_index": np.arange(5), "num_blocks": np.full(5, 5), "post_norm": np.array([0, 0, 0, 1, 1])}
    assert FEATURES["edge_distance"](columns).tolist() == [0, 0.25, 0.5, 0.25, 0]
    assert FEATURES["post_norm_depth"](columns).tolist() == [0, 0, 0, 0.76, 1.01]
