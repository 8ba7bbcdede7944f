"""Models of images and text: dual encoders, page readers, and language models behind a vision tower."""
