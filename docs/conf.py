"""The documentation site: `sphinx-build -W docs site`. Pages are Markdown; tools/reference.py writes reference/."""

import importlib.metadata

project = "FastEWQ"
release = importlib.metadata.version("fastewq")
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"FastEWQ {release}"
exclude_patterns = ["_build"]
