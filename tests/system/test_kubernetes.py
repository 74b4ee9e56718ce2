"""The shipped manifests, as kubectl renders them: valid, whole, and in step with the code."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import app
from app.cli.program import commands
from app.settings import NAMES, Settings
from tests.support.manifests import Manifest, containers, named, pod_templates, reference_faults, rendered

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8").replace("\\\n", " ")
SECRETS = {
    name: set(re.findall(r"--from-(?:file|literal)=(\w+)", rest))
    for name, rest in re.findall(r"create secret \w+ ([\w-]+)(.*)", PAGE)
}
"""The Secrets that docs/kubernetes.md tells to make, with their keys"""
VERSION = "1.37"
OF_OTHERS = {"ServiceMonitor", "Cluster"}
"""Their schemas come with their operators."""
STOP_SECONDS = 11
"""What docs/deploying.md says that a stop takes beside DRAIN_DELAY and RESPONSE_DEADLINE"""

# kubectl is among the checking tools.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["base", "example"])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(request.param)


@pytest.fixture(scope="module")
def example() -> list[Manifest]:
    return rendered("example")


def settings_of(manifests: list[Manifest]) -> dict[str, str]:
    data: dict[str, str] = next(one for one in manifests if one["kind"] == "ConfigMap")["data"]
    return data


def test_each_is_valid(manifests: list[Manifest]) -> None:
    # Of the checking tools, which `make test` does without.
    import kubernetes_validate  # noqa: PLC0415

    own = [one for one in manifests if one["kind"] not in OF_OTHERS]
    assert len(own) >= 8
    for one in own:
        kubernetes_validate.validate(one, VERSION, strict=True)


def test_what_they_name_exists(manifests: list[Manifest]) -> None:
    assert [] == reference_faults(manifests, SECRETS)


def _service_pods(manifests: list[Manifest]) -> Manifest:
    template: Manifest = named(manifests, "Deployment", "pos-sync")["spec"]["template"]
    return template


BREAK: dict[str, Callable[[list[Manifest]], object]] = {
    "selector": lambda all_: named(all_, "Deployment", "pos-sync")["spec"]["selector"]["matchLabels"].update(a="b"),
    "no volume": lambda all_: _service_pods(all_)["spec"]["volumes"].pop(0),
    "nobody mounts": lambda all_: _service_pods(all_)["spec"]["volumes"].append({"name": "x"}),
    "no Secret": lambda all_: _service_pods(all_)["spec"]["volumes"][0]["secret"].update(secretName="x"),
    "no ServiceAccount": lambda all_: _service_pods(all_)["spec"].update(serviceAccountName="x"),
    "no ConfigMap": lambda all_: _service_pods(all_)["spec"]["containers"][0]["envFrom"][0]["configMapRef"].update(name="x"),
    "readinessProbe": lambda all_: _service_pods(all_)["spec"]["containers"][0]["readinessProbe"]["httpGet"].update(port="x"),
    "to be spread": lambda all_: _service_pods(all_)["spec"]["topologySpreadConstraints"][0]["labelSelector"].update(
        matchLabels={"a": "b"}
    ),
    "Service pos-sync: no port": lambda all_: named(all_, "Service", "pos-sync")["spec"]["ports"][0].update(targetPort="x"),
    "Service pos-sync: selects": lambda all_: named(all_, "Service", "pos-sync")["spec"]["selector"].update(a="b"),
    "PodDisruptionBudget": lambda all_: named(all_, "PodDisruptionBudget", "pos-sync")["spec"]["selector"].update(
        matchLabels={"a": "b"}
    ),
    "NetworkPolicy pos-sync: selects": lambda all_: named(all_, "NetworkPolicy", "pos-sync")["spec"]["podSelector"].update(
        matchLabels={"app.kubernetes.io/name": "pos-sync"}
    ),
    "NetworkPolicy pos-sync: no port": lambda all_: named(all_, "NetworkPolicy", "pos-sync")["spec"]["ingress"][0].update(
        ports=[{"port": "x"}]
    ),
    "ServiceMonitor pos-sync: selects": lambda all_: named(all_, "Service", "pos-sync")["metadata"]["labels"].clear(),
    "ServiceMonitor pos-sync: no port": lambda all_: named(all_, "ServiceMonitor", "pos-sync")["spec"]["endpoints"][0].update(
        port="x"
    ),
    "Ingress pos-sync: no port": lambda all_: all_.remove(named(all_, "Service", "pos-sync")),
    "Ingress pos-sync: no Secret": lambda all_: named(all_, "Ingress", "pos-sync")["spec"]["tls"][0].update(secretName="x"),
    "Cluster pos-sync-db: no Secret": lambda all_: named(all_, "Cluster", "pos-sync-db")["spec"]["managed"]["roles"][0][
        "passwordSecret"
    ].update(name="x"),
}


@pytest.mark.parametrize("fault", BREAK)
def test_a_name_of_nothing_is_found(example: list[Manifest], fault: str) -> None:
    broken = copy.deepcopy(example)
    BREAK[fault](broken)

    assert any(fault in found for found in reference_faults(broken, SECRETS))


def test_settings_and_secrets_are_those_of_the_code(manifests: list[Manifest]) -> None:
    assert set(settings_of(manifests)) <= NAMES
    assert {"database_url"} == SECRETS["pos-sync-owner"]
    required = {name for name, field in Settings.model_fields.items() if field.is_required()}
    assert required <= SECRETS["pos-sync"] <= {name.lower() for name in NAMES}
    for _, template in pod_templates(manifests):
        # A variable goes before a file, and is seen by more people.
        assert not any("env" in one for one in containers(template))
    values: dict[str, Any] = {name.lower(): value for name, value in settings_of(manifests).items()}
    settings = Settings(_env_file=None, database_url="postgresql://u@h/d", mipos_client_secret="x" * 20, **values)
    ports = _service_pods(manifests)["spec"]["containers"][0]["ports"]
    assert [settings.port] == [port["containerPort"] for port in ports]
    assert "0.0.0.0" == settings.host


def test_secrets_are_where_the_settings_look(manifests: list[Manifest]) -> None:
    for _, template in pod_templates(manifests):
        for one in containers(template):
            assert {"secrets": "/run/secrets", "tmp": "/tmp"} == {it["name"]: it["mountPath"] for it in one["volumeMounts"]}


def test_each_command_exists(manifests: list[Manifest]) -> None:
    context = click.Context(commands, info_name="pos-sync")
    args = [one["args"] for _, template in pod_templates(manifests) for one in containers(template)]
    assert ["migrate", "migrate", "serve"] == sorted(words[0] for words in args)
    for name, *options in args:
        command = commands.get_command(context, name)
        assert command is not None
        command.make_context(name, list(options))


def test_none_has_more_rights_than_it_needs(manifests: list[Manifest]) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    for _, template in pod_templates(manifests):
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert (int(user[1]), int(user[2])) == (pod["runAsUser"], pod["runAsGroup"])
        assert "RuntimeDefault" == pod["seccompProfile"]["type"]
        assert template["spec"]["automountServiceAccountToken"] is False
        for one in containers(template):
            rights = one["securityContext"]
            assert (False, True) == (rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"])
            assert ["ALL"] == rights["capabilities"]["drop"]
            assert {"cpu", "memory"} == set(one["resources"]["requests"])
            assert "memory" in one["resources"]["limits"]


def test_a_stop_has_the_time_that_it_needs(manifests: list[Manifest]) -> None:
    settings = settings_of(manifests)
    wanted = sum(
        float(settings.get(name.upper(), Settings.model_fields[name].default)) for name in ("drain_delay", "response_deadline")
    )
    pod = _service_pods(manifests)["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pod["terminationGracePeriodSeconds"] > pause + wanted + STOP_SECONDS


def test_the_version_is_that_of_the_code(manifests: list[Manifest]) -> None:
    images = {one["image"] for _, template in pod_templates(manifests) for one in containers(template)}
    jobs = [one["metadata"]["name"] for one in manifests if one["kind"] == "Job"]

    assert {f"mipos-pos-sync:{app.version()}"} == images
    assert [f"pos-sync-migrate-{app.version().replace('.', '-')}"] == jobs


def test_two_replicas_may_be_evicted_one_at_a_time(manifests: list[Manifest]) -> None:
    assert 2 == named(manifests, "Deployment", "pos-sync")["spec"]["replicas"]
    assert 1 == named(manifests, "PodDisruptionBudget", "pos-sync")["spec"]["maxUnavailable"]
