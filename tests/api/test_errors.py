from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastewq.api import app, errors
from fastewq.api.errors import HTTP_STATUS, error_document, http_status

from fastewq.errors import FastEWQError


def subclasses(cls: type[FastEWQError]) -> Iterator[type[FastEWQError]]:
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


def instance(cls: type[FastEWQError]) -> FastEWQError:
    error = cls.__new__(cls)
    FastEWQError.__init__(error, "message")
    return error


def test_every_error_has_a_status():
    assert app  # the whole service is imported, so that no error class can hide
    for cls in subclasses(FastEWQError):
        assert 400 <= http_status(instance(cls)) <= 505, cls


def test_codes_are_unique():
    classes = [FastEWQError, *subclasses(FastEWQError)]
    assert len({cls.code for cls in classes}) == len(classes)


def test_every_service_error_is_drawn_in_the_tree():
    for cls in subclasses(errors.ServiceError):
        assert cls.__name__ in (errors.__doc__ or "")


def test_the_table_has_no_class_of_another_tree():
    assert all(issubclass(cls, FastEWQError) for cls in HTTP_STATUS)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "plain"])
def test_text_that_is_not_unicode_can_still_be_answered(text):
    message = error_document(errors.MalformedRequest(text), "id")["error"]["message"]
    assert message.encode("utf-8")
