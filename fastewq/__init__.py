"""FastEWQ: which transformer blocks can be quantized, from the model's config alone.

import fastewq
plan = fastewq.plan(config)           # a config.json as a dict
plan.as_dict()                        # the document of docs/plans.md
"""

from fastewq.config import read_config
from fastewq.errors import FastEWQError
from fastewq.plan import Plan, plan, plan_architecture
from fastewq.predictor import Predictor, load_predictor

__version__ = "0.1.0"
__all__ = [
    "FastEWQError",
    "Plan",
    "Predictor",
    "__version__",
    "load_predictor",
    "plan",
    "plan_architecture",
    "read_config",
]
