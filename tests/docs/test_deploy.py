"""The manifests under docs/deploy are valid, and agree with the service they start."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastewq.api.settings import Settings

from api.server import Server

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
DEFAULTS = Settings.model_construct()


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return {m["kind"]: m for m in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))}


def test_the_kubernetes_manifests_fit_their_schemas(manifests):
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_waits_until_the_service_has_ended(manifests):
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    environment = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    ending = int(environment["FASTEWQ_DRAIN_SECONDS"]) + int(environment["FASTEWQ_GRACE_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > ending


def test_kubernetes_probes_are_routes_of_the_service(manifests, docs_server):
    with docs_server.client() as client:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            container = manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0]
            assert client.get(container[probe]["httpGet"]["path"]).status_code == 200


def test_one_worker_needs_no_disk(tmp_path):
    """As in a container whose root is read-only."""
    with Server({"TMPDIR": str(tmp_path)}, drain_seconds=0) as server, server.client() as client:
        assert client.get("/metrics").status_code == 200
        assert list(tmp_path.iterdir()) == []


def test_the_systemd_unit_is_valid(tmp_path):
    if (verify := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "fastewq.service").read_text("utf-8")
    started = text.replace("/opt/fastewq/bin/fastewq", sys.executable)
    assert started != text
    unit = tmp_path / "fastewq.service"
    unit.write_text(started, "utf-8")
    run = subprocess.run([verify, "verify", str(unit)], capture_output=True, text=True)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_systemd_waits_until_the_service_has_ended():
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "fastewq.service").read_text("utf-8"), re.M)
    assert int(seconds[1]) > DEFAULTS.drain_seconds + DEFAULTS.grace_seconds
