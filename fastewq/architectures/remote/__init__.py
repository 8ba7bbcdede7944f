"""Models that the transformers library does not have: they follow the code in their repositories, never run."""
