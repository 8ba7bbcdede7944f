from __future__ import annotations

from fastewq import errors
from fastewq.errors import EXIT_CODES, FastEWQError, exit_code


def every_error() -> list[type[FastEWQError]]:
    """The library's errors; the service has more of its own, which never become exit codes."""
    found: list[type[FastEWQError]] = []
    queue = [FastEWQError]
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        found.append(cls)
    return [cls for cls in found if cls.__module__ == errors.__name__]


def test_codes_are_unique_and_every_class_is_drawn_in_the_tree():
    classes = every_error()
    assert len({cls.code for cls in classes}) == len(classes)
    for cls in classes:
        assert cls.__name__ in (errors.__doc__ or "")


def test_every_error_that_is_raised_has_an_exit_code():
    codes = {cls: exit_code(cls("x")) for cls in every_error() if cls is not FastEWQError}
    assert set(codes.values()) == {2, 3, 4, 5}
    assert set(EXIT_CODES) <= set(codes)


def test_an_error_carries_its_class_hint_unless_given_another():
    assert errors.InvalidConfig("m").as_dict()["hint"] == errors.InvalidConfig.default_hint != ""
    assert errors.InvalidConfig("m", hint="h").as_dict() == {"code": "invalid_config", "message": "m", "hint": "h"}
