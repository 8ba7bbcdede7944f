"""Offline analysis of weights: checkpoint readers, the entropy kernel, labels. Needs the extra `fastewq[analysis]`."""
