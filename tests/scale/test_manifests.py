"""What deploy/ has for clusters, held to the schemas of those who read it, as far as they can be had without one.

KubeRay's own schema cannot: of a RayService its Serve configuration goes to Ray, its pods to Kubernetes, and the names
around them to what KubeRay 1.5 documents.
"""

import subprocess
import sys
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cosyserve.settings import Settings
from tests.running import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
VERSIONS = ["1.28", "1.34"]
RAY_SERVICE = {"serveConfigV2", "rayClusterConfig"}
RAY_CLUSTER = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec"}
RAY_CLUSTER |= {"workerGroupSpecs"}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


RAY = next(each for each in documents("rayservice.yaml") if each["kind"] == "RayService")
CLUSTER = RAY["spec"]["rayClusterConfig"]
GROUPS = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["cosyserve.yaml", "rayservice.yaml"])
def test_kubernetes_own_objects_are_as_it_has_them(name: str, version: str) -> None:
    own = [each for each in documents(name) if each["kind"] != "RayService"]
    assert own
    for document in own:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pods_of_the_ray_service_are_pods(version: str) -> None:
    for group in GROUPS:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, **group["template"]}
        kubernetes_validate.validate(pod, version, strict=True)


def test_a_mistake_is_found() -> None:
    deployment = next(each for each in documents("cosyserve.yaml") if each["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_the_ray_service_has_no_other_names_than_kuberay() -> None:
    assert RAY["apiVersion"] == "ray.io/v1"
    assert set(RAY["spec"]) <= RAY_SERVICE
    assert set(CLUSTER) <= RAY_CLUSTER
    assert all(set(group) <= GROUP for group in GROUPS)
    assert all(isinstance(value, str) for group in GROUPS for value in group["rayStartParams"].values())


def test_serve_takes_the_configuration_and_kubernetes_gets_the_same() -> None:
    plain = yaml.safe_load((ROOT / "deploy" / "ray" / "cosyserve.yaml").read_text())
    check = "import sys, yaml; from ray.serve import schema; "
    check += "schema.ServeDeploySchema.model_validate(yaml.safe_load(sys.stdin))"
    subprocess.run([sys.executable, "-c", check], input=RAY["spec"]["serveConfigV2"], text=True, check=True)
    assert yaml.safe_load(RAY["spec"]["serveConfigV2"]) == plain


def test_the_numbers_fit_together() -> None:
    (application,) = yaml.safe_load(RAY["spec"]["serveConfigV2"])["applications"]
    replica = next(each for each in application["deployments"] if each["name"] == "Replica")
    scaling = replica["autoscaling_config"]
    assert application["args"]["most_replicas"] == scaling["max_replicas"]
    assert replica["max_ongoing_requests"] == Settings(_env_file=None).max_streams
    assert scaling["target_ongoing_requests"] * 2 == replica["max_ongoing_requests"]
    (cards,) = CLUSTER["workerGroupSpecs"]
    assert (cards["minReplicas"], cards["maxReplicas"]) == (scaling["min_replicas"], scaling["max_replicas"])


def test_all_claims_that_are_mounted_are_there() -> None:
    for name in ("cosyserve.yaml", "rayservice.yaml"):
        text = (KUBERNETES / name).read_text()
        claims = {each["metadata"]["name"] for each in documents(name) if each["kind"] == "PersistentVolumeClaim"}
        assert {line.split()[-1] for line in text.splitlines() if "claimName:" in line} == claims
