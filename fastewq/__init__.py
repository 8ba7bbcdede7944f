"""FastEWQ: which transformer blocks can be quantized, from the model's config alone."""

__version__ = "0.1.0"
