"""deploy/kubernetes: valid for an old and the newest Kubernetes, locked down, consistent."""

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from config import settings
from project.admin import imports
from project.api import bulk
from project.contract.import_runner import MAX_FILE_BYTES
from project.server import BODY_ALLOWANCE, HARD_BODY_LIMIT, STOP_S
from tests.deploy.reverse_proxies import DEPLOY

FOLDER = DEPLOY / "kubernetes"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
VERSIONS = ("1.27", "1.37")
Manifest = dict[str, Any]


def read(name: str) -> list[Manifest]:
    """Return the manifests of a file."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


ALL = [each for name in KUSTOMIZATION["resources"] for each in read(name)]
MANIFESTS = {each["kind"]: each for each in ALL}
INGRESSES = read("ingress.yaml")
FOREIGN = {"ServiceMonitor"}
"""Kinds of operators, whose schema Kubernetes does not have."""
PODS = {kind: MANIFESTS[kind]["spec"]["template"]["spec"] for kind in ("StatefulSet", "Job")}
[SERVICE] = PODS["StatefulSet"]["containers"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "manifest",
    [each for each in ALL if each["kind"] not in FOREIGN],
    ids=lambda each: f"{each['kind']}-{each['metadata']['name']}",
)
def test_every_manifest_is_valid(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_base_names_every_file_and_nothing_is_missing() -> None:
    files = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml"}

    assert set(KUSTOMIZATION["resources"]) == files
    assert MANIFESTS.keys() == {
        "StatefulSet", "Job", "Service", "Ingress", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor",
    }  # fmt: skip


@pytest.mark.parametrize("kind", PODS)
def test_every_pod_is_unprivileged_and_read_only(kind: str) -> None:
    pod = PODS[kind]
    [container] = pod["containers"]
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)

    assert pod["securityContext"]["runAsNonRoot"]
    assert {pod["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {int(user)}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod["automountServiceAccountToken"]
    assert container["resources"]["limits"]["memory"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/var/lib/useradd", "/tmp"}


def test_the_spool_outlives_its_pod() -> None:
    [claim] = MANIFESTS["StatefulSet"]["spec"]["volumeClaimTemplates"]
    [mount] = [mount for mount in SERVICE["volumeMounts"] if mount["name"] == claim["metadata"]["name"]]

    assert f"DATA_DIR={mount['mountPath']}" in DOCKERFILE


def test_the_ingress_limits_bodies_as_the_service_does() -> None:
    limits = {
        path["path"]: ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
        for ingress in INGRESSES
        for path in ingress["spec"]["rules"][0]["http"]["paths"]
    }
    large = {path.rstrip("/") for path in (*bulk.PATHS, imports.UPLOAD_PATH)}

    largest = (max(bulk.MAX_BULK_BODY_BYTES, MAX_FILE_BYTES) + BODY_ALLOWANCE) // 2**20
    assert limits == dict.fromkeys(large, f"{largest}m") | {"/": f"{HARD_BODY_LIMIT // 1024}k"}


def test_both_ingresses_serve_the_same_host() -> None:
    main, large = (
        [ingress["spec"]["ingressClassName"], ingress["spec"]["tls"], ingress["spec"]["rules"][0]["host"]]
        for ingress in INGRESSES
    )

    assert main == large


@pytest.mark.parametrize("name", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_for_the_host_name_of_the_ingress(name: str) -> None:
    [rule] = MANIFESTS["Ingress"]["spec"]["rules"]
    [header] = SERVICE[name]["httpGet"]["httpHeaders"]
    environment = {each["name"]: each.get("value") for each in SERVICE["env"]}

    assert header == {"name": "Host", "value": rule["host"]}
    assert environment["TRUSTED_HOSTS"] == f"{rule['host']},$(POD_IP)"
    assert SERVICE[name]["httpGet"]["path"] == ("/readyz" if name == "readinessProbe" else "/livez")


def test_ports_and_labels_are_consistent() -> None:
    (port,) = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    labels = MANIFESTS["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    [allowed] = MANIFESTS["NetworkPolicy"]["spec"]["ingress"]

    assert SERVICE["ports"] == [{"name": "http", "containerPort": int(port)}]
    assert allowed["ports"] == [{"protocol": "TCP", "port": int(port)}]
    assert MANIFESTS["Service"]["spec"]["selector"] == labels
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= (
        MANIFESTS["Service"]["metadata"]["labels"].items()
    )


def test_a_stop_has_time_to_answer_every_request() -> None:
    deadline_s = settings()["request_deadline_s"]["parse"](settings()["request_deadline_s"]["shown"])
    _, pause = SERVICE["lifecycle"]["preStop"]["exec"]["command"]

    assert PODS["StatefulSet"]["terminationGracePeriodSeconds"] > int(pause) + deadline_s + STOP_S


def test_the_settings_of_the_base_are_settings_of_the_service() -> None:
    [config] = KUSTOMIZATION["configMapGenerator"]
    names = {literal.partition("=")[0] for literal in config["literals"]}

    assert names <= {name.upper() for name in settings()}
    assert all({"configMapRef": {"name": config["name"]}} in pod["containers"][0]["envFrom"] for pod in PODS.values())


def test_the_migration_runs_the_command_of_compose() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())

    assert PODS["Job"]["containers"][0]["command"] == compose["services"]["migrate"]["command"]
