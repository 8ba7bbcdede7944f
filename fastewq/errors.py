"""Every error FastEWQ raises on purpose, in one tree.

    FastEWQError
    ├── InputError                      the caller sent something that cannot be used
    │   ├── InvalidConfig               a config field is missing, of the wrong type or out of bounds
    │   ├── UnsupportedArchitecture     no exact block layout is known for this model_type
    │   ├── InvalidPolicy               a policy, budget or override that cannot be read
    │   ├── DoesNotFit                  no precision the policy allows makes the model fit the memory
    │   ├── CannotExport                the tool asked for cannot express the plan
    │   ├── InvalidPlan                 a plan document is malformed or contradicts itself
    │   ├── InvalidCheckpoint           a weight file is truncated, malformed or lies about its content
    │   │   └── NonFiniteWeights        a tensor holds NaN or infinity
    │   ├── InvalidDataset              a training table lacks columns or holds impossible values
    │   └── InvalidArtefact             a trained predictor is missing, corrupt or of an unknown format
    ├── NotFound                        the file, model or revision does not exist
    ├── AccessDenied                    the Hub refuses access (gated, private, bad token)
    ├── MissingExtra                    an optional dependency of this command is not installed
    └── UnavailableError                an upstream or the disk failed; trying again may help
        ├── HubUnavailable
        └── StorageFailure

`code` is stable and machine-readable, `message` names the field, the value and what was expected, `hint`
says what to do next. `EXIT_CODES` here and `HTTP_STATUS` in the service are the only places where an error becomes
a number.
"""

from __future__ import annotations

from typing import ClassVar


class FastEWQError(Exception):
    """Base of every error raised on purpose; never raised itself."""

    code: ClassVar[str] = "error"
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def as_dict(self) -> dict[str, str]:
        """The error as it appears in JSON output: code, message, hint."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class InputError(FastEWQError):
    code = "invalid_input"


class InvalidConfig(InputError):
    """A config field is missing, of the wrong type or out of bounds."""

    code = "invalid_config"
    default_hint = "Send the model's unmodified config.json."


class UnsupportedArchitecture(InputError):
    """No exact block layout is known for this model_type."""

    code = "unsupported_architecture"
    default_hint = (
        "`fastewq architectures` lists what is covered. If the repository has safetensors files, "
        "plan from their headers; otherwise ask for the architecture to be added."
    )


class InvalidPolicy(InputError):
    """A policy, budget, device or override that cannot be read."""

    code = "invalid_policy"
    default_hint = "docs/plans.md has the policies, overrides, targets and sizes that can be asked for."


class DoesNotFit(InputError):
    """No precision the policy allows makes the model fit the memory."""

    code = "does_not_fit"


class CannotExport(InputError):
    """The tool asked for cannot express the plan."""

    code = "cannot_export"


class InvalidPlan(InputError):
    """A plan document is malformed or contradicts itself."""

    code = "invalid_plan"
    default_hint = "Send the unmodified output of `fastewq plan --json`."


class InvalidCheckpoint(InputError):
    """A weight file is truncated, malformed or lies about its content."""

    code = "invalid_checkpoint"
    default_hint = "Download the file again and compare its SHA-256 with the publisher's."


class NonFiniteWeights(InvalidCheckpoint):
    """A tensor holds NaN or infinity, so its entropy is undefined."""

    code = "non_finite_weights"
    default_hint = "The checkpoint is damaged or was saved during a diverged run; use another revision."


class InvalidDataset(InputError):
    """A training table lacks columns or holds impossible values."""

    code = "invalid_dataset"


class InvalidArtefact(InputError):
    """A trained predictor is missing, corrupt or of an unknown format."""

    code = "invalid_artefact"
    default_hint = "Reinstall fastewq, or run `fastewq train` again and point to its output."


class NotFound(FastEWQError):
    """The file, model or revision does not exist."""

    code = "not_found"


class AccessDenied(FastEWQError):
    """The Hub refuses access: the repository is gated or private, or the token is wrong."""

    code = "access_denied"
    default_hint = "Accept the model's licence on the Hub and set HF_TOKEN to a token that may read it."


class MissingExtra(FastEWQError):
    """An optional dependency of this command is not installed."""

    code = "missing_extra"


class UnavailableError(FastEWQError):
    code = "unavailable"


class HubUnavailable(UnavailableError):
    """The Hub cannot be reached or keeps failing."""

    code = "hub_unavailable"
    default_hint = "Check the network and HF_ENDPOINT, or pass a local config.json."


class StorageFailure(UnavailableError):
    """A local file cannot be read or written."""

    code = "storage_failure"


EXIT_CODES: dict[type[FastEWQError], int] = {
    MissingExtra: 2,
    InputError: 3,
    NotFound: 4,
    AccessDenied: 4,
    UnavailableError: 5,
}


def exit_code(error: FastEWQError) -> int:
    """The process exit code for an error: that of its nearest ancestor in EXIT_CODES."""
    return next(EXIT_CODES[cls] for cls in type(error).__mro__ if cls in EXIT_CODES)


def error_of(code: str, message: str) -> FastEWQError:
    """The error that a code and a message stand for, as a table or another process reports it."""
    known: list[type[FastEWQError]] = [FastEWQError]
    for cls in known:
        known += cls.__subclasses__()
    return next((cls for cls in known if cls.code == code), FastEWQError)(message)
