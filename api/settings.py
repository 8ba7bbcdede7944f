"""Every setting of the service. Each is read from the environment as FASTEWQ_ and its name in capitals."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from limits import parse_many
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fastewq.shown import shown

from .errors import InvalidSettings
from .reading import wanted


class Settings(BaseSettings):
    """Defaults suit one worker behind a reverse proxy. Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="FASTEWQ_", frozen=True, extra="ignore")

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    workers: int = Field(default=1, ge=1, le=256, description="Worker processes.")
    artefact: Path | None = Field(default=None, description="Folder of the predictor; unset: the one in the package.")

    max_body_bytes: int = Field(default=4 * 2**20, ge=1, description="Largest request body.")
    max_batch_body_bytes: int = Field(default=16 * 2**20, ge=1, description="Largest body of a batch.")
    max_batch_items: int = Field(default=1000, ge=1, description="Most requests in one batch.")
    max_batch_answer_bytes: int = Field(
        default=32 * 2**20, ge=1, description="Most bytes of plans in one batch answer."
    )
    max_json_values: int = Field(default=1_000_000, ge=1, description="Most JSON values in one body.")
    max_json_depth: int = Field(default=64, ge=1, le=250, description="Deepest nesting of a body.")
    body_seconds: float = Field(default=10, gt=0, description="Time a client may take to send a body.")
    work_seconds: float = Field(default=30, gt=0, description="Time a batch, budget, export or overrides may take.")
    trusted_proxies: str | None = Field(
        default=None,
        description="Addresses or networks of proxies whose X-Forwarded-For is believed, separated by commas.",
    )
    keys_file: Path | None = Field(default=None, description="File of bearer keys; unset: no key is needed.")
    rate_limit: str | None = Field(default=None, description="Requests per key or address, such as 600/minute.")
    max_batches: int = Field(default=4, ge=1, description="Batches in work per worker; more get 503.")
    max_concurrency: int = Field(default=256, ge=1, description="Requests in work per worker; more get 503.")
    max_held_bytes: int = Field(
        default=256 * 2**20,
        ge=1,
        description="Memory for bodies and answers in work per worker, as far as it can be told; more get 503. "
        "At least that of the largest body.",
    )
    drain_seconds: float = Field(default=5, ge=0, description="After SIGTERM: time of unready service before refusing.")
    grace_seconds: int = Field(default=30, ge=0, description="After draining: time for running requests to finish.")

    catalog: Path | None = Field(default=None, description="A catalog's folder or index; unset: none is served.")
    hub: bool = Field(default=False, description="Whether models are looked up at the Hub (HF_ENDPOINT, HF_TOKEN).")
    lookup_seconds: float = Field(default=10, gt=0, description="Time a search or a look-up at the Hub may take.")
    hub_cache_seconds: float = Field(default=300, ge=0, description="Time a config from the Hub is used again.")

    plan_cache_bytes: int = Field(
        default=64 * 2**20, ge=0, description="Plans kept in memory per worker; 0 keeps none."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line."
    )

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                (rate,) = parse_many(value)
                if rate.amount < 1:
                    raise ValueError
            except ValueError:
                raise ValueError("one rate such as 600/minute") from None
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str | None) -> str | None:
        """The server takes anything, and would trust nobody of that name."""
        if value is not None and value != "*":
            try:
                for proxy in value.split(","):
                    ip_network(proxy.strip())
            except ValueError:
                raise ValueError("addresses or networks such as 10.0.0.0/8, separated by commas, or *") from None
        return value

    @field_validator("max_held_bytes")
    @classmethod
    def _holds_every_body(cls, value: int, others: ValidationInfo) -> int:
        for name in ("max_body_bytes", "max_batch_body_bytes"):
            if value < others.data.get(name, 0):
                raise ValueError(f"at least {_variable(name)}, which is {others.data[name]}")
        return value

    def as_environment(self) -> dict[str, str]:
        """The environment that gives these settings; unset ones are left out."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {_variable(name): str(value) for name, value in values.items()}


def load_settings(**given: Any) -> Settings:
    """The settings of the environment, with those given (not None) in their place. Raises InvalidSettings."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [
            f"{_variable(str(e['loc'][0]))} is {shown(str(e['input']))}; expected {wanted(e)}" for e in error.errors()
        ]
        raise InvalidSettings("; ".join(problems)) from None


def _variable(name: str) -> str:
    return f"FASTEWQ_{name.upper()}"


def unknown() -> list[str]:
    """Variables of the environment that look like settings and are none, perhaps misspelt."""
    known = {_variable(name) for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.startswith(_variable("")) and name not in known)


def describe(settings: Settings) -> list[tuple[str, str, str]]:
    """(environment variable, value in force, description) of every setting, in order."""
    return [
        (_variable(name), "" if (value := getattr(settings, name)) is None else str(value), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
