"""Models that say what is where in an image: detection, segmentation, depth."""
