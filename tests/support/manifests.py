"""What kubectl makes of the shipped manifests, and what their names refer to. A schema passes a selector that selects nothing."""

import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUBECTL = Path(sys.executable).parent / "kubectl"

Manifest = dict[str, Any]


def rendered(folder: str) -> list[Manifest]:
    """The manifests of a folder below deploy/kubernetes."""
    # Of the checking tools, which `make test` does without.
    import yaml  # noqa: PLC0415

    done = subprocess.run([KUBECTL, "kustomize", KUBERNETES / folder], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def named(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    return next(one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name)


def pod_templates(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Each (name, template) that makes pods."""
    for one in manifests:
        if one["kind"] in {"Deployment", "Job"}:
            yield f"{one['kind']} {one['metadata']['name']}", one["spec"]["template"]


def containers(template: Manifest) -> list[Manifest]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def reference_faults(manifests: Sequence[Manifest], secrets: Collection[str]) -> list[str]:
    """What a manifest names and nothing is; `secrets` are those that a person makes."""
    found = []
    for name, template in pod_templates(manifests):
        found += [f"{name}: {fault}" for fault in _pod_faults(template, manifests, secrets)]
    for one in manifests:
        check = _CHECKS.get(one["kind"])
        if check is not None:
            found += [f"{one['kind']} {one['metadata']['name']}: {fault}" for fault in check(one, manifests, secrets)]
    return found


def _names(manifests: Sequence[Manifest], kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in manifests if one["kind"] == kind}


def _selected(manifests: Sequence[Manifest], labels: dict[str, str]) -> list[Manifest]:
    """The pod templates that have all of `labels`."""
    templates = [template for _, template in pod_templates(manifests)]
    return [template for template in templates if labels.items() <= template["metadata"]["labels"].items()]


def _ports(template: Manifest) -> set[Any]:
    return {port[key] for one in containers(template) for port in one.get("ports", []) for key in ("name", "containerPort")}


def _pod_faults(template: Manifest, manifests: Sequence[Manifest], secrets: Collection[str]) -> Iterator[str]:
    spec = template["spec"]
    if spec["serviceAccountName"] not in _names(manifests, "ServiceAccount"):
        yield f"no ServiceAccount {spec['serviceAccountName']}"
    for constraint in spec.get("topologySpreadConstraints", []):
        if not constraint["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items():
            yield "its pods are not those that are to be spread"
    volumes = {volume["name"] for volume in spec["volumes"]}
    mounted = {mount["name"] for one in containers(template) for mount in one["volumeMounts"]}
    yield from (f"no volume {name}" for name in mounted - volumes)
    yield from (f"nobody mounts the volume {name}" for name in volumes - mounted)
    for volume in spec["volumes"]:
        if "secret" in volume and volume["secret"]["secretName"] not in secrets:
            yield f"no Secret {volume['secret']['secretName']}"
    for one in containers(template):
        yield from _container_faults(one, manifests, _ports(template))


def _container_faults(one: Manifest, manifests: Sequence[Manifest], ports: set[Any]) -> Iterator[str]:
    for source in one.get("envFrom", []):
        if source["configMapRef"]["name"] not in _names(manifests, "ConfigMap"):
            yield f"no ConfigMap {source['configMapRef']['name']}"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in one and one[probe]["httpGet"]["port"] not in ports:
            yield f"{probe}: no port {one[probe]['httpGet']['port']}"


def _deployment_faults(one: Manifest, _: Sequence[Manifest], __: Collection[str]) -> Iterator[str]:
    if not one["spec"]["selector"]["matchLabels"].items() <= one["spec"]["template"]["metadata"]["labels"].items():
        yield "its selector does not select its own pods"


def _service_faults(one: Manifest, manifests: Sequence[Manifest], _: Collection[str]) -> Iterator[str]:
    selected = _selected(manifests, one["spec"]["selector"])
    if len(selected) != 1:
        yield f"selects the pods of {len(selected)} templates"
    for port in one["spec"]["ports"]:
        if any(port["targetPort"] not in _ports(template) for template in selected):
            yield f"no port {port['targetPort']}"


def _budget_faults(one: Manifest, manifests: Sequence[Manifest], _: Collection[str]) -> Iterator[str]:
    if len(_selected(manifests, one["spec"]["selector"]["matchLabels"])) != 1:
        yield "does not select the pods of one template"


def _policy_faults(one: Manifest, manifests: Sequence[Manifest], _: Collection[str]) -> Iterator[str]:
    selected = _selected(manifests, one["spec"]["podSelector"]["matchLabels"])
    if len(selected) != 1:
        yield f"selects the pods of {len(selected)} templates"
    for rule in one["spec"]["ingress"] or []:
        for port in rule["ports"]:
            if any(port["port"] not in _ports(template) for template in selected):
                yield f"no port {port['port']}"


def _monitor_faults(one: Manifest, manifests: Sequence[Manifest], _: Collection[str]) -> Iterator[str]:
    labels = one["spec"]["selector"]["matchLabels"]
    services = [it for it in manifests if it["kind"] == "Service" and labels.items() <= it["metadata"]["labels"].items()]
    if len(services) != 1:
        yield f"selects {len(services)} Services"
    ports = {port["name"] for service in services for port in service["spec"]["ports"]}
    yield from (f"no port {endpoint['port']}" for endpoint in one["spec"]["endpoints"] if endpoint["port"] not in ports)


def _ingress_faults(one: Manifest, manifests: Sequence[Manifest], secrets: Collection[str]) -> Iterator[str]:
    yield from (f"no Secret {tls['secretName']}" for tls in one["spec"]["tls"] if tls["secretName"] not in secrets)
    for rule in one["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            backend = path["backend"]["service"]
            services = [it for it in manifests if it["kind"] == "Service" and it["metadata"]["name"] == backend["name"]]
            ports = {port["name"] for service in services for port in service["spec"]["ports"]}
            if backend["port"]["name"] not in ports:
                yield f"no port {backend['port']['name']} of a Service {backend['name']}"


def _cluster_faults(one: Manifest, _: Sequence[Manifest], secrets: Collection[str]) -> Iterator[str]:
    wanted = {one["spec"]["bootstrap"]["initdb"]["secret"]["name"]}
    wanted |= {role["passwordSecret"]["name"] for role in one["spec"]["managed"]["roles"]}
    yield from (f"no Secret {name}" for name in sorted(wanted - set(secrets)))


_CHECKS = {
    "Deployment": _deployment_faults,
    "Service": _service_faults,
    "PodDisruptionBudget": _budget_faults,
    "NetworkPolicy": _policy_faults,
    "ServiceMonitor": _monitor_faults,
    "Ingress": _ingress_faults,
    "Cluster": _cluster_faults,
}
