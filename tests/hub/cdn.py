"""Starlette's own file server (Range, 206, 416) over one folder, in the role of the Hub's CDN."""

import os

from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles


def app() -> Starlette:
    application = Starlette()
    application.mount("/", StaticFiles(directory=os.environ["CDN_FOLDER"]))
    return application
