"""Models of images and video, and the towers through which other models see or hear."""
