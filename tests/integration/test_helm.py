"""The Helm chart makes objects that Kubernetes takes, around a configuration that Spanledger takes."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from spanledger_processor.config import load
from tools import parts

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("helm")]

CHART = parts.ROOT / "deploy" / "helm"
KUBERNETES = ("1.29.0", "1.37.0")
"""The oldest that the chart asks for, and the newest whose schemas there are."""

LOOP: Mapping[str, Any] = {"collector": {"returnEndpoint": "otelcol.observability:6317"}}
COMPONENT: Mapping[str, Any] = {"topology": "component"}
SECRETS: Mapping[str, Any] = {
    "signingKey": {"existingSecret": "signing"},
    "auth": {"existingSecret": "senders"},
    "tls": {"existingSecret": "certificate"},
}
EVERYTHING: Mapping[str, Any] = {
    **LOOP,
    **SECRETS,
    "replicas": 3,
    "config": {"exporters": {"otlp_grpc/collector": {"compression": "gzip"}}, "state": {"max_size_mib": 4096}},
    "env": [{"name": "A", "value": "b"}],
    "envFrom": [{"secretRef": {"name": "more"}}],
    "imagePullSecrets": [{"name": "pull"}],
    "persistence": {"size": "1Gi", "storageClass": "fast", "accessMode": "ReadWriteOncePod", "retainOnDelete": False},
    "networkPolicy": {
        "readers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "returnPort": 16317,
        "egress": [{"ports": [{"port": 443}]}],
    },
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "fullnameOverride": "ledger",
}
VARIANTS: Sequence[Any] = [
    pytest.param(LOOP, id="loop"),
    pytest.param({**LOOP, **SECRETS}, id="loop with secrets"),
    pytest.param(COMPONENT, id="component"),
    pytest.param({**COMPONENT, **SECRETS}, id="component with secrets"),
    pytest.param(
        {"config": {"exporters": {"otlp_grpc": {"endpoint": "tempo:4317", "signals": ["traces"]}}}}, id="own exporters"
    ),
    pytest.param(EVERYTHING, id="everything"),
]


def _helm(folder: Path, values: Mapping[str, Any], version: str = KUBERNETES[-1]) -> subprocess.CompletedProcess[str]:
    (folder / "values.yaml").write_text(json.dumps(values))
    command = [str(parts.obtain("helm")), "template", "release", str(CHART), "--kube-version", version]
    return subprocess.run(
        [*command, "--values", str(folder / "values.yaml")], capture_output=True, text=True, timeout=60, check=False
    )


def _objects(folder: Path, values: Mapping[str, Any], version: str = KUBERNETES[-1]) -> dict[str, list[dict[str, Any]]]:
    """What the chart makes, by kind."""
    run = _helm(folder, values, version)
    assert run.returncode == 0, run.stderr
    objects: dict[str, list[dict[str, Any]]] = {}
    for made in yaml.safe_load_all(run.stdout):
        objects.setdefault(made["kind"], []).append(made)
    return objects


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", VARIANTS)
def test_kubernetes_takes_what_the_chart_makes(values: Mapping[str, Any], version: str, tmp_path: Path) -> None:
    objects = _objects(tmp_path, values, version)
    assert objects.keys() == {"StatefulSet", "Service", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget"}
    for made in (made for of_kind in objects.values() for made in of_kind):
        kubernetes_validate.validate(made, version.rpartition(".")[0], strict=True)


@pytest.mark.parametrize("values", VARIANTS)
def test_spanledger_takes_the_configuration(values: Mapping[str, Any], tmp_path: Path) -> None:
    objects = _objects(tmp_path, values)
    pod = objects["StatefulSet"][0]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    path = tmp_path / "spanledger.yaml"
    path.write_text(objects["ConfigMap"][0]["data"]["spanledger.yaml"])
    config = load(path, environ={entry["name"]: "from a secret" for entry in container["env"]})

    assert Path(config.state.path).is_relative_to(container["volumeMounts"][0]["mountPath"])
    enricher, otlp = config.receivers.enricher, config.receivers.otlp
    protocols = [otlp.protocols.grpc, otlp.protocols.http] if otlp is not None else []
    listeners = [one for one in (enricher, *protocols) if one is not None]
    listening = {int(one.rpartition(":")[2]) for one in (*(one.endpoint for one in listeners), config.api.endpoint)}
    assert {port["containerPort"] for port in container["ports"]} == listening
    names = {port["name"] for port in container["ports"]}
    assert len(listeners) == len(names) - 1
    for service in objects["Service"]:
        assert {port["targetPort"] for port in service["spec"]["ports"]} == names
    assert bool(values.get("auth")) == all(one.auth.bearer_token for one in listeners)
    assert bool(values.get("tls")) == all(one.tls for one in listeners)


@pytest.mark.parametrize("values", VARIANTS)
def test_everything_selects_the_pods(values: Mapping[str, Any], tmp_path: Path) -> None:
    objects = _objects(tmp_path, values)
    stateful_set = objects["StatefulSet"][0]["spec"]
    labels = stateful_set["template"]["metadata"]["labels"].items()
    selectors = [
        stateful_set["selector"]["matchLabels"],
        objects["NetworkPolicy"][0]["spec"]["podSelector"]["matchLabels"],
        objects["PodDisruptionBudget"][0]["spec"]["selector"]["matchLabels"],
        *(service["spec"]["selector"] for service in objects["Service"]),
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels
    assert stateful_set["serviceName"] in {service["metadata"]["name"] for service in objects["Service"]}


@pytest.mark.parametrize(
    ("api", "probed"),
    [
        ({}, {"port": "api"}),
        ({"tls": {"cert_file": "/c", "key_file": "/k"}}, {"port": "api", "scheme": "HTTPS"}),
        ({"health_check": {"endpoint": "0.0.0.0:9000"}}, {"port": 9000}),
    ],
)
def test_probes_go_where_health_is_told(api: Mapping[str, Any], probed: Mapping[str, Any], tmp_path: Path) -> None:
    pod = _objects(tmp_path, {**COMPONENT, "config": {"api": api}})["StatefulSet"][0]["spec"]["template"]["spec"]
    probes = [pod["containers"][0][f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert probes == [{"path": path, **probed} for path in ("/livez", "/livez", "/readyz")]


def test_a_new_configuration_restarts_the_pod(tmp_path: Path) -> None:
    def digest(values: Mapping[str, Any]) -> str:
        template = _objects(tmp_path, values)["StatefulSet"][0]["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert digest(LOOP) == digest({**LOOP, "podLabels": {"a": "b"}})
    assert digest(LOOP) != digest({**LOOP, "config": {"state": {"max_size_mib": 4096}}})


def test_the_network_lets_in_senders_only(tmp_path: Path) -> None:
    ingress = _objects(tmp_path, LOOP)["NetworkPolicy"][0]["spec"]["ingress"]
    assert [port["port"] for rule in ingress for port in rule["ports"]] == ["otlp-grpc", "otlp-http"]
    assert all(rule["from"] for rule in ingress)  # an empty list would let everybody in
    closed = _objects(tmp_path, {**LOOP, "networkPolicy": {"senders": []}})["NetworkPolicy"][0]["spec"]
    assert not closed["ingress"]
    assert [port["port"] for port in closed["egress"][1]["ports"]] == [6317]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "collector.returnEndpoint"),
        ({"collector": {"returnEndpoint": "otelcol"}}, "returnEndpoint"),
        ({**COMPONENT, "replicas": 2}, "one with topology: component"),
        ({"topology": "components"}, "topology"),
        ({**LOOP, "netwokPolicy": {}}, "netwokPolicy"),
        ({**LOOP, "signingKey": {"value": "secret"}}, "value"),
    ],
)
def test_wrong_values_are_refused(values: Mapping[str, Any], reason: str, tmp_path: Path) -> None:
    run = _helm(tmp_path, values)
    assert run.returncode != 0
    assert reason in run.stderr


def test_its_version_is_that_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == tomllib.loads((parts.ROOT / "pyproject.toml").read_text())["project"]["version"]
