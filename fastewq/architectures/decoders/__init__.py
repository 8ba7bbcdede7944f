"""Decoder-only text models: dense ones, mixtures of experts, latent and linear attention, state spaces."""
