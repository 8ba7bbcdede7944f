"""Encoder-decoders of text and of time series: T5, BART and their relatives."""
