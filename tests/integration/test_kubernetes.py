"""deploy/kubernetes and deploy/images, as far as they can be proven without a cluster.

Kustomize renders them, the schemas of Kubernetes, of the Gateway API and of KEDA check them, and
the containers of the rendered manifests run as processes with the same commands, environments,
files, read-only file systems and probes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.services import ALL_SERVICES, ROOT
from services.common.metric_names import METRICS
from tests.support.images import IMAGES, build_environment, image_name
from tests.support.pods import outside, why_not

KUBERNETES = ROOT / "deploy/kubernetes"
#: A Gateway of the cluster has the part of the service edge (overlays/edge).
DEPLOYED = [service for service in ALL_SERVICES if service.name != "edge"]
OVERLAYS = ["base", *(f"overlays/{path.name}" for path in sorted(KUBERNETES.glob("overlays/*")))]
MODELS = ROOT / "tests/support/kubernetes_models"
#: Kinds whose schemas are in no package that can be installed here.
WITHOUT_SCHEMA = {"BackendTrafficPolicy", "InferencePool"}
WITH_NPM = {"Gateway", "GRPCRoute", "ScaledObject"}

_rendered: dict[str, str] = {}


def render(overlay: str) -> str:
    if overlay not in _rendered:
        kubectl = Path(sys.executable).with_name("kubectl")
        command = [str(kubectl), "kustomize", str(KUBERNETES / overlay)]
        _rendered[overlay] = subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout
    return _rendered[overlay]


def documents(overlay: str, *kinds: str) -> list[Any]:
    found = yaml.safe_load_all(render(overlay))
    return [document for document in found if not kinds or document["kind"] in kinds]


def deployments() -> list[Any]:
    """Those of all overlays together."""
    found = {d["metadata"]["name"]: d for o in OVERLAYS for d in documents(o, "Deployment")}
    return list(found.values())


def containers() -> list[tuple[Any, Any]]:
    """Each container with its pod."""
    pods = [deployment["spec"]["template"]["spec"] for deployment in deployments()]
    return [(pod, c) for pod in pods for c in (*pod.get("initContainers", ()), *pod["containers"])]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_schemas_of_kubernetes_accept_it(overlay: str) -> None:
    theirs = WITHOUT_SCHEMA | WITH_NPM
    own = [document for document in documents(overlay) if document["kind"] not in theirs]
    assert len(own) > 20
    for document in own:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "arena-llm"


@pytest.fixture(scope="module")
def npm_folder() -> Path:
    """A folder with the schemas, installed once by the hashes of package-lock.json."""
    if shutil.which("npm") is None:
        pytest.skip("no npm: apt-get install npm (Debian)")
    lock = (MODELS / "package-lock.json").read_bytes()
    folder = ROOT / ".cache" / f"kubernetes-models-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / "node_modules/.package-lock.json").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(MODELS / name, folder)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"npm cannot install the schemas: {done.stderr[-500:]}")
        shutil.copy(MODELS / "validate.mjs", folder)
    return folder


def find_problems(npm_folder: Path, manifests: list[Any]) -> list[str]:
    command = ["node", str(npm_folder / "validate.mjs")]
    done = subprocess.run(
        command, input=json.dumps(manifests), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_schemas_of_the_gateway_api_and_of_keda_accept_it(npm_folder: Path) -> None:
    manifests = [document for o in OVERLAYS for document in documents(o, *WITH_NPM)]
    assert {manifest["kind"] for manifest in manifests} == WITH_NPM
    assert find_problems(npm_folder, manifests) == []
    wrong = [{**manifest, "spec": 1} for manifest in manifests]
    assert len(find_problems(npm_folder, wrong)) == len(wrong)


def test_every_container_is_confined() -> None:
    for pod, container in containers():
        assert pod["securityContext"]["runAsNonRoot"], container["name"]
        assert not pod["automountServiceAccountToken"], container["name"]
        # Otherwise ARENA_ROUTER_PORT would be a URL.
        assert not pod["enableServiceLinks"], container["name"]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"], container["name"]
        assert not security["allowPrivilegeEscalation"], container["name"]
        assert security["capabilities"] == {"drop": ["ALL"]}, container["name"]
        assert {"requests", "limits"} <= container["resources"].keys(), container["name"]


def test_a_pod_that_ends_has_time_for_its_calls() -> None:
    for deployment in deployments():
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (drain,) = [v["value"] for v in container["env"] if v["name"] == "ARENA_DRAIN_SECONDS"]
        before = (
            container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        )
        assert pod["terminationGracePeriodSeconds"] >= before + int(drain) + 10, container["name"]


def test_every_service_has_a_deployment_and_the_router_finds_it() -> None:
    found = {deployment["metadata"]["name"]: deployment for deployment in deployments()}
    assert found.keys() == {service.name for service in DEPLOYED}
    services = {s["metadata"]["name"]: s["spec"] for s in documents("overlays/gpu", "Service")}
    routers = [d for d in documents("base", "Deployment") if d["metadata"]["name"] == "router"]
    (router,) = routers[0]["spec"]["template"]["spec"]["containers"]
    environ = {v["name"]: v.get("value") for v in router["env"]}
    for service in DEPLOYED:
        (container,) = found[service.name]["spec"]["template"]["spec"]["containers"]
        (port,) = re.findall(rf"{service.variable}:-(\d+)", service.config_path.read_text())
        ports = {p["name"]: p["containerPort"] for p in container["ports"]}
        assert ports["http" if service.speaks_http else "grpc"] == int(port)
        assert container["command"] == ["python", "-m", service.module]
        spec = services[service.name]
        assert spec["ports"][0]["port"] == int(port)
        if service.name not in ("router", "gateway"):
            assert spec["clusterIP"] == "None"
            assert environ[f"ARENA_{service.name.upper()}_HOST"] == service.name


def test_each_image_is_what_its_manifest_expects() -> None:
    for pod, container in containers():
        name = image_name(container["image"])
        text = (IMAGES / f"{name}.Dockerfile").read_text()
        assert json.loads(re.findall(r"^CMD (.*)$", text, re.M)[0]) == container["command"]
        assert re.findall(r"^WORKDIR (.*)$", text, re.M)[-1] == container["workingDir"]
        user = pod["securityContext"]["runAsUser"]
        assert re.findall(r"^USER (.*)$", text, re.M) == [f"{user}:{user}"]
        ports = [str(port["containerPort"]) for port in container.get("ports", ())]
        assert " ".join(re.findall(r"^EXPOSE (.*)$", text, re.M)).split() == ports


def test_the_dockerfiles_pass_their_linter() -> None:
    files = sorted(map(str, IMAGES.glob("*.Dockerfile")))
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_compose_runs_the_same_commands() -> None:
    compose = yaml.safe_load((IMAGES / "compose.yaml").read_text())["services"]
    commands = {
        c["image"].rpartition("/")[2].partition(":")[0]: c["command"] for _, c in containers()
    }
    for service in compose.values():
        assert commands[service["image"]] == service["command"]
        assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_keda_asks_for_metrics_that_exist() -> None:
    names = {metric.name for metric in METRICS.values()}
    for scaled in documents("overlays/autoscale", "ScaledObject"):
        queries = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
        found = {name for query in queries for name in re.findall(r"\barena_llm_\w+", query)}
        assert found == {METRICS["held"].name, METRICS["in_flight"].name}
        assert found <= names
        assert all(scaled["metadata"]["name"] in query for query in queries)


def test_the_containers_run_and_hf_is_scaled_from_zero(tmp_path: Path) -> None:
    """Those of the autoscale overlay but vllm, whose image takes gigabytes.

    Each has the packages and the files that its image has, and no others.
    """
    if reason := why_not():
        pytest.skip(f"this system makes no namespaces: {reason}")
    file = tmp_path / "rendered.yaml"
    file.write_text(render("overlays/autoscale"))
    images = tmp_path / "images"
    for name in {image_name(container["image"]) for _, container in containers()} - {"vllm"}:
        build_environment(name, images)
    pods = tmp_path / "pods"
    pods.mkdir()
    arguments = map(str, (file, images, pods))
    command = [sys.executable, "-m", "tests.support.pod_scenario", *arguments]
    done = subprocess.run(
        [*outside(), *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=170
    )
    logs = "".join(path.read_text()[-2000:] for path in pods.glob("*/*.log"))
    assert done.returncode == 0, done.stderr + logs
    seen = json.loads(done.stdout)
    assert seen["held"], "the call waits while hf has no replica"
    assert seen["reply"] in ("0", "4")
    # A service that was reached, without a key; and a call that is held to its end.
    assert seen["reasons"] == {
        "openrouter_openai/gpt-4o-mini": "API_KEY_MISSING",
        "vllm_x": "DEADLINE_EXCEEDED",
    }
    assert seen["writable"] == ["/cache", "/run/arena-llm", "/tmp"]  # noqa: S108
    assert seen["user"] in (0, 10001)  # 0 is nobody, where who runs the tests is not root
    assert seen["exits"] == [0] * 5
