"""The files in deploy/: each is what its reader takes, and says what is true of the service."""

import asyncio
import copy
import json
import re
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import SchemaNotFoundError, ValidationError
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Match

from app.application import create_app
from app.keys import new_key
from app.settings import Settings
from app.siblings import Shared, Siblings
from tests.app.conftest import SUBWORD

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSION = "1.31"  # of Kubernetes: the oldest that is still looked after by many
MANIFESTS = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")


def read(name: str) -> dict[str, Any]:
    manifest = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert isinstance(manifest, dict)
    return manifest


def check(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


@pytest.fixture
def pod() -> dict[str, Any]:
    return read("deployment")["spec"]["template"]["spec"]


@pytest.fixture
def container(pod) -> dict[str, Any]:
    (container,) = pod["containers"]
    return container


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_manifest_fits_the_schema(path: Path):
    check(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("name", "place", "key", "value"),
    [
        ("deployment", ("spec",), "replica", 2),
        ("deployment", ("spec",), "selector", None),
        ("deployment", ("spec", "template", "spec"), "terminationGracePeriodSeconds", "soon"),
        ("deployment", ("spec", "template", "spec", "containers", 0), "readinesProbe", {}),
        ("deployment", ("spec", "template", "spec", "containers", 0), "name", None),
        ("service", ("spec",), "ports", {"port": 80}),
        ("horizontalpodautoscaler", ("spec",), "maxReplicas", None),
        ("poddisruptionbudget", ("spec",), "maxUnavailabel", 1),
        ("networkpolicy", ("spec",), "ingress", "none"),
        ("namespace", (), "kind", "Namespaces"),
    ],
)
def test_a_broken_manifest_does_not(name, place, key, value):
    manifest = copy.deepcopy(read(name))
    node: Any = manifest
    for step in place:
        node = node[step]
    if value is None:
        del node[key]
    else:
        node[key] = value
    with pytest.raises((ValidationError, SchemaNotFoundError)):
        check(manifest)


def test_kustomize_applies_all_of_them():
    kustomization = read("kustomization")
    assert sorted(kustomization["resources"]) == [path.name for path in MANIFESTS]
    (image,) = kustomization["images"]
    assert image["name"] == read("deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert re.search(rf'^version = "{re.escape(image["newTag"])}"', _pyproject(), re.MULTILINE)
    assert kustomization["namespace"] == read("namespace")["metadata"]["name"]


def _pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text()


def test_everything_selects_the_same_pods():
    labels = read("deployment")["spec"]["template"]["metadata"]["labels"]
    assert read("deployment")["spec"]["selector"]["matchLabels"] == labels
    assert read("service")["spec"]["selector"] == labels
    assert read("poddisruptionbudget")["spec"]["selector"]["matchLabels"] == labels
    assert read("networkpolicy")["spec"]["podSelector"]["matchLabels"] == labels
    target = read("horizontalpodautoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (
        "Deployment",
        read("deployment")["metadata"]["name"],
    )


def test_probes_ask_for_what_there_is(container, tmp_path):
    routes = create_app(Settings(models_dir=tmp_path)).routes
    ports = {port["name"] for port in container["ports"]}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[name]["httpGet"]
        scope = {"type": "http", "method": "GET", "path": asked["path"], "headers": []}
        assert any(route.matches(scope)[0] == Match.FULL for route in routes), name
        assert asked["port"] in ports
    # A model that is loading, or busy, is no reason to be killed.
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"


def test_ports_are_the_same_everywhere(container):
    (port,) = container["ports"]
    annotations = read("deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])
    assert f"NEXTWORD_PORT={port['containerPort']}" in (ROOT / "Dockerfile").read_text()
    assert read("service")["spec"]["ports"][0]["targetPort"] == port["name"]
    assert read("networkpolicy")["spec"]["ingress"][0]["ports"][0]["port"] == port["name"]


def test_settings_are_those_of_the_service(pod, container):
    values = {variable["name"]: variable.get("value") for variable in container["env"]}
    names = {name.removeprefix("NEXTWORD_").lower() for name in values}
    assert names <= Settings.model_fields.keys()
    plain = {k.removeprefix("NEXTWORD_").lower(): v for k, v in values.items() if v is not None}
    settings = Settings(**plain)
    assert settings.drain_seconds < settings.shutdown_seconds
    assert settings.shutdown_seconds + 5 <= pod["terminationGracePeriodSeconds"]


def test_it_may_do_no_more_than_it_needs(pod, container):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert f"USER {pod['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text()
    assert pod["automountServiceAccountToken"] is False
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"]["drop"] == ["ALL"]
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert read("networkpolicy")["spec"]["egress"] == []


# What Prometheus itself says of everything that it collects from.
_OF_PROMETHEUS = {"up": {"instance", "job"}}
_FUNCTIONS = {"sum", "rate", "increase", "histogram_quantile", "by"}


def uses(expression: str) -> list[tuple[str, set[str]]]:
    """The metrics of an expression, and the labels that it picks each by."""
    found = []
    for name, picked in re.findall(r"([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?", _bare(expression)):
        if name not in _FUNCTIONS:
            found.append((name, set(re.findall(r"(\w+)=", picked))))
    return found


def _bare(expression: str) -> str:
    """Without what stands in quotes, ranges and groupings, whose labels `grouped` returns."""
    without = re.sub(r'"[^"]*"', '""', expression)
    return re.sub(r"\bby \([^)]*\)|\[[^]]*\]", " ", without)


def grouped(expression: str) -> set[str]:
    return {
        label.strip()
        for labels in re.findall(r"\bby \(([^)]*)\)", expression)
        for label in labels.split(",")
    }


@pytest.fixture(scope="module")
def exposed(models_dir: Path) -> dict[str, set[str]]:
    """What /metrics exposes: the labels of each name; any of them has an instance too."""
    found: dict[str, set[str]] = dict(_OF_PROMETHEUS)
    for name, labels in scrape(models_dir):
        found.setdefault(name, {"instance", "job"}).update(labels)
    return found


def scrape(models_dir: Path) -> list[tuple[str, dict[str, str]]]:
    """What one of several workers answers, after a question and a reload."""

    async def scenario() -> str:
        siblings = Siblings(Shared(2), 0)
        key, stored = new_key("operator", "admin")
        app = create_app(Settings(models_dir=models_dir, api_keys=stored.line()), siblings)
        async with app.router.lifespan_context(app):
            siblings.start(app.state.metrics, lambda: None)
            transport = httpx.ASGITransport(app)
            headers = {"x-api-key": key}
            async with httpx.AsyncClient(
                transport=transport, base_url="http://test", headers=headers
            ) as client:
                asked = await client.post("/score", json={"text": "we", "model": SUBWORD})
                assert asked.status_code == 200
                reloaded = await client.post(f"/models/{SUBWORD}/reload")
                assert reloaded.status_code == 200
                return (await client.get("/metrics")).text

    text = asyncio.run(scenario())
    families = text_string_to_metric_families(text)
    return [(sample.name, sample.labels) for family in families for sample in family.samples]


def dashboard() -> dict[str, Any]:
    return json.loads((ROOT / "deploy" / "grafana" / "nextword.json").read_text())


def expressions() -> list[str]:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]] + [
        rule["expr"] for group in rules["groups"] for rule in group["rules"]
    ]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_that_is_asked_for_is_exposed(expression, exposed):
    used = uses(expression)
    assert used
    labels: set[str] = set()
    for name, picked in used:
        assert name in exposed, name
        assert picked <= exposed[name], (name, picked)
        labels |= exposed[name]
    assert grouped(expression) <= labels


def test_a_metric_that_is_not_there_is_noticed(exposed):
    for wrong in ("rate(nextword_rejections_total[5m])", "sum(nextword_queue)"):
        ((name, _),) = uses(wrong)
        assert name not in exposed
    ((name, picked),) = uses('sum by (le) (rate(nextword_tokens_total{mode=~"$model"}[5m]))')
    assert name in exposed
    assert not picked <= exposed[name]


def test_the_dashboard_is_whole(exposed):
    found = dashboard()
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in found["panels"]}
    assert len(places) == len(ids)
    variables = {variable["name"] for variable in found["templating"]["list"]}
    text = json.dumps(found["panels"])
    assert set(re.findall(r"\$\{?([a-z]\w*)", text)) <= variables
    for variable in found["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert asked
            assert asked[2] in exposed[asked[1]]


def test_copies_are_made_by_a_metric_that_is_there(exposed):
    (metric,) = read("horizontalpodautoscaler")["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in exposed
    assert name in (ROOT / "docs" / "operations.md").read_text()


def test_alerts_are_rules():
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())
    for group in rules["groups"]:
        assert group.keys() == {"name", "rules"}
        for rule in group["rules"]:
            assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
            mentioned = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
            kept = grouped(rule["expr"]) or {"instance", "job"}
            assert mentioned <= kept
