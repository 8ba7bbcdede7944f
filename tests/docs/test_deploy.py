"""The image and the manifests under docs/deploy are valid, and agree with the service they start."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastewq.api.settings import Settings

from api.server import Server

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
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


@pytest.fixture(scope="module")
def image() -> dict[str, str]:
    """The last instruction of each kind in the Dockerfile: those of the image that is kept."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.M).replace("\\\n", " ")
    return dict(line.split(maxsplit=1) for line in text.splitlines() if line)


def in_this_environment(command: list[str]) -> list[str]:
    here = [part.replace("/opt/fastewq/bin/python", sys.executable) for part in command]
    if here[0] == "/opt/fastewq/bin/fastewq":
        here[:1] = [sys.executable, "-c", "from fastewq.cli import main; main()"]
    assert here != command
    return here


def health(image: dict[str, str], server: Server) -> int:
    """The exit code of the image's health check, with a proxy in the environment as Docker may put there."""
    command = json.loads(image["HEALTHCHECK"].partition("CMD")[2])
    port = server.url.rpartition(":")[2]
    # A busy machine may answer late; what the check is for is seen in the answer.
    asked = [part.replace("8000", port).replace("timeout=1", "timeout=60") for part in in_this_environment(command)]
    proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.run(asked, env={**os.environ, **proxy}, stderr=subprocess.DEVNULL).returncode


def test_the_image_is_healthy_while_the_service_is_ready(image, docs_server, tmp_path):
    assert health(image, docs_server) == 0
    with Server(artefact=tmp_path / "missing", drain_seconds=0) as server:
        assert health(image, server) == 1


def test_the_image_starts_the_service_on_the_port_it_names(image):
    command = in_this_environment(json.loads(image["ENTRYPOINT"]))
    settings = subprocess.run([*command, "--show-settings"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"FASTEWQ_HOST\W+0\.0\.0\.0\W", settings)
    assert re.search(rf"FASTEWQ_PORT\W+{image['EXPOSE']}\W", settings)


def test_what_the_image_compiles_beforehand_can_be_imported(image):
    assert subprocess.run(in_this_environment(shlex.split(image["RUN"]))).returncode == 0


def test_the_user_of_the_image_is_a_number_other_than_root(image):
    assert int(image["USER"]) > 0
