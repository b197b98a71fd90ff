"""docker/ fits the code: every command, path, port, variable and topic in it is one that there is.

Nothing here needs a container engine: the Dockerfile's own steps are run in fresh environments (`-m slow`), Prometheus'
files by Prometheus (tests/test_alerts.py), the rest is compared. Image and compose file run for real in
tests/test_image.py and tests/test_compose.py.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main
import yaml

from streamal.cli import app
from streamal.config import Config, load_config
from streamal.replay import read_stream, replay
from streamal.replay.annotators import AnnotatorsRules
from tests.conftest import environment
from tests.documents import PROMETHEUS_RULE, prometheus_rule

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOTENV = dict(
    line.split("=", 1) for line in (DOCKER / ".env").read_text().splitlines() if line and not line.startswith("#")
)
MAILS = read_stream(str(ROOT / "streamal/data/mails.csv.gz"), "label", "time")
COMMANDS: Any = typer.main.get_command(app)
KUBERNETES = DOCKER / "kubernetes"
MANIFESTS = [
    manifest
    for path in sorted(KUBERNETES.rglob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
    if manifest["kind"] not in {"Kustomization", "Component"}
]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("streamal:")]


def parsed(words: list[str]) -> str:
    """Parse a command as the command line would, and return its name; what it does not know is an error."""
    command = COMMANDS
    name, *rest = words
    while True:
        command = command.commands[name]
        if not hasattr(command, "commands"):
            break
        name, *rest = rest
    with command.make_context(name, [str(word) for word in rest]):
        return str(name)


def known_variable(name: str) -> bool:
    """Whether STREAMAL_SECTION__KEY is a key of the configuration."""
    tree: Any = Config
    for key in name.removeprefix("STREAMAL_").lower().split("__"):
        field = tree.model_fields.get(key)
        if field is None:
            return False
        tree = type(field.default)
    return True


def test_the_compose_file_is_one() -> None:
    """It holds to the Compose Specification's schema, and a misspelt key would not."""
    schema = json.loads((ROOT / "tests/schemas/compose-spec.json").read_text())
    validator = jsonschema.Draft7Validator(schema)  # its "$schema" misspells the draft that it is written in
    validator.validate(COMPOSE)
    wrong = {**COMPOSE, "services": {"kafka": {**SERVICES["kafka"], "imagine": "x"}}}
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(wrong)


def test_what_the_issue_names_is_there() -> None:
    """Kafka, topics, two workers, a label page, a simulator, Prometheus, Alertmanager and Grafana; in profiles."""
    assert SERVICES.keys() == {
        "kafka", "topics", "worker-1", "worker-2", "label", "simulator", "prometheus", "alertmanager", "grafana"
    }  # fmt: skip
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", ())}
    assert profiles == set(DOTENV["COMPOSE_PROFILES"].split(","))
    for service in SERVICES.values():
        for needed in service.get("depends_on", {}):
            assert "profiles" not in SERVICES[needed]


def test_images_are_pinned() -> None:
    """Every image names a whole version."""
    images = [
        service["image"].replace("${STREAMAL_VERSION}", DOTENV["STREAMAL_VERSION"]) for service in SERVICES.values()
    ]
    images += re.findall(r"^FROM (\S+)", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    images += re.findall(r"image: (\S+)", "".join(path.read_text() for path in KUBERNETES.rglob("*.yaml")))
    for image in images:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+(-[\w-]+)?", image), image
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {image.split(":")[1] for image in images if image.startswith("streamal:")} == {version}


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_what_there_is(name: str) -> None:
    """The command parses, its variables are keys, every mounted file exists; not root, nothing writable but volumes."""
    service = SERVICES[name]
    parsed(service["command"])
    if words := service.get("healthcheck", {}).get("test"):
        assert words[:2] == ["CMD", "streamal"]
        parsed(words[2:])
    for variable in service["environment"]:
        assert known_variable(variable)
    assert (service["user"], service["read_only"], service["cap_drop"]) == ("10001:10001", True, ["ALL"])
    volumes = [volume.split(":") for volume in service["volumes"]]
    assert "/etc/streamal/config.toml" in {volume[1] for volume in volumes}
    assert all(volume[0] in COMPOSE["volumes"] or volume[2] == "ro" for volume in volumes)


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists_and_what_is_published_stays_here(name: str) -> None:
    """Paths on the left exist in docker/, volumes are declared, ports are on the loopback, variables are in .env."""
    service = SERVICES[name]
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    for variable in re.findall(r"\$\{(\w+)\}", json.dumps(service)):
        assert DOTENV[variable]


def test_the_workers_configuration_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """docker/config.toml loads with the token of .env; Kafka, ports and topics are those of the other files."""
    monkeypatch.setenv("STREAMAL_SERVER__TOKEN", DOTENV["STREAMAL_TOKEN"])
    config = load_config(DOCKER / "config.toml")
    kafka = SERVICES["kafka"]["environment"]
    assert config.transport.client == "confluent"
    assert f"INTERNAL://{config.transport.bootstrap_servers}" in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert config.transport.bootstrap_servers in SERVICES["kafka"]["healthcheck"]["test"]
    assert (DOCKER / "secrets/streamal_token").read_text() == DOTENV["STREAMAL_TOKEN"]
    assert "/run/secrets/streamal_token" in (DOCKER / "prometheus/prometheus.yml").read_text()
    targets = yaml.safe_load((DOCKER / "prometheus/targets/workers.yml").read_text())[0]["targets"]
    assert targets == [f"{name}:{config.server.port}" for name in SERVICES if name.startswith("worker")]
    assert f"EXPOSE {config.server.port}" in (DOCKER / "Dockerfile").read_text()
    written = [v.split(":")[1] for v in SERVICES["worker-1"]["volumes"] if v.startswith("worker-1")]
    assert str(config.snapshots.directory).startswith(written[0])


def option(name: str) -> float:
    """Return the number of an option of the simulator."""
    [value] = [word for word in SERVICES["simulator"]["command"] if word.startswith(f"--{name}=")]
    return float(value.partition("=")[2])


def test_the_demo_asks_for_as_long_as_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream has no end; the cap of a day pays for a whole day of it, and for three times what one round asks."""
    monkeypatch.setenv("STREAMAL_SERVER__TOKEN", DOTENV["STREAMAL_TOKEN"])
    budget = load_config(DOCKER / "config.toml").budget
    assert "--repeat" in SERVICES["simulator"]["command"]
    assert budget.cost_per_day is not None
    labels = budget.cost_per_day / Decimal(str(budget.cost_per_label))
    assert labels >= 3 * budget.share * len(MAILS.rows)
    assert labels >= budget.share * Decimal(option("rate") * 86_400) + budget.burst
    assert option("rate") <= 5  # what a person can watch


@pytest.mark.slow
def test_the_demo_asks_in_each_quarter_of_its_first_three_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same stream, budget and annotators by the stream's own clock: four rounds, and asking never stops.

    The cap of a day and the burst are divided among the partitions, as with the workers of the compose file.
    """
    monkeypatch.setenv("STREAMAL_SERVER__TOKEN", DOTENV["STREAMAL_TOKEN"])
    config = load_config(DOCKER / "config.toml")
    rate = option("rate")
    rows = [
        MAILS.rows[number % len(MAILS.rows)]._replace(time=number / rate, label_time=None)
        for number in range(round(3 * 3_600 * rate))
    ]
    rules = AnnotatorsRules(delay_s=option("delay"), silence=option("silence"))
    found = replay(dataclasses.replace(MAILS, rows=rows), config, rules, batch=10)
    quarter = round(900 * rate)
    quarters = (found.asked[start : start + quarter] for start in range(0, len(rows), quarter))
    asked = [sum(lane is not None for lane in lanes) for lanes in quarters]
    assert len(asked) == 12
    assert min(asked) > 0.05 * quarter, asked


def dockerfile_steps() -> Iterator[tuple[str, str]]:
    """Yield (instruction, rest) of each step, comments left out."""
    for line in (DOCKER / "Dockerfile").read_text().replace("\\\n", "").splitlines():
        if line and not line.startswith("#"):
            instruction, _, rest = line.partition(" ")
            yield instruction, rest


def test_the_dockerfile_says_what_the_others_rely_on() -> None:
    """A numeric user, an entry point that there is, a default command that parses, only files that exist."""
    steps = list(dockerfile_steps())
    assert ("USER", "10001:10001") in steps
    assert ("ENTRYPOINT", '["streamal"]') in steps
    command = next(json.loads(rest) for instruction, rest in steps if instruction == "CMD")
    parsed(command)
    checked = next(
        json.loads(rest.partition(" CMD ")[2]) for instruction, rest in steps if instruction == "HEALTHCHECK"
    )
    assert checked == ["streamal", "health", *command[1:]]
    parsed(checked[1:])
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text()
    for instruction, rest in steps:
        if instruction == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}\n" in ignored


def test_an_upgrade_of_streamal_is_a_layer_of_its_own() -> None:
    """Nothing of ours is copied or installed before the dependencies; the image takes first those, then us."""
    steps = [f"{instruction} {rest}" for instruction, rest in dockerfile_steps()]
    second = next(number for number, step in enumerate(steps) if number and step.startswith("FROM"))
    locked = next(number for number, step in enumerate(steps) if "-r docker/requirements.lock" in step)
    ours = next(number for number, step in enumerate(steps) if re.match("COPY .*streamal", step))
    assert locked < ours < second
    copied = [step.split()[2] for step in steps[second:] if step.startswith("COPY --from=build")]
    assert copied == ["/dependencies", "/only"]


def test_the_image_is_built_from_the_base_alone() -> None:
    """No syntax line, which fetches a front end from a registry; no pip, no setuid program; HOME can be written to."""
    text = (DOCKER / "Dockerfile").read_text()
    assert "syntax=" not in text
    last = text.rpartition("FROM ")[2]
    for wanted in ("pip uninstall --yes pip", "/ensurepip", "-perm /6000", "chmod a-s"):
        assert wanted in last
    home = re.search(r"HOME=(\S+)", last)
    assert home is not None
    assert f"VOLUME {home[1]}\n" in last


def test_the_lock_is_hashed_and_names_no_host() -> None:
    """Every requirement of the project is locked to one version with hashes; no index is written into the files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = (DOCKER / "requirements.lock").read_text()
    wanted = [*project["dependencies"], *project["optional-dependencies"]["confluent"]]
    for requirement in wanted:
        name = re.split(r"[<>=\[ ]", requirement)[0]
        assert re.search(rf"^{name}==\S+ .*\\\n    --hash=sha256:", locked, flags=re.MULTILINE | re.IGNORECASE), name
    for path in DOCKER.glob("*.lock"):
        assert not re.search(r"://|index-url", path.read_text())
        pins = re.findall(r"^\w[\w.-]*==", path.read_text(), flags=re.MULTILINE)
        assert len(pins) <= path.read_text().count("--hash=sha256:")


def test_the_lock_has_what_the_containers_run() -> None:
    """Beside the daemon: librdkafka, the label page, the bridge, spans; as docs/containers.md makes it."""
    [command] = re.findall(r"uv pip compile .*", (ROOT / "docs/containers.md").read_text())
    extras = re.findall(r"--extra (\S+)", command)
    assert {"confluent", "label", "label-studio", "otel"} <= set(extras)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = set(re.findall(r"^([\w.-]+)==", (DOCKER / "requirements.lock").read_text(), flags=re.MULTILINE))
    wanted = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    assert {re.split(r"[<>=\[ ]", one)[0] for one in wanted} <= locked


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_make_a_streamal_that_runs(tmp_path: Path) -> None:
    """The build stage's RUN and COPY steps, one after the other, in fresh environments; then the demo's `check`."""
    steps = list(dockerfile_steps())
    build = steps[: next(n for n, step in enumerate(steps) if n and step[0] == "FROM")]
    source = tmp_path / "src"
    source.mkdir()
    for instruction, rest in build:
        if instruction == "COPY":
            *sources, target = rest.split()
            subprocess.run(["cp", "-r", *[ROOT / one for one in sources], source / target], check=False)
            (source / target).mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", *[ROOT / one for one in sources], source / target], check=True)
        elif instruction == "RUN":
            command = re.sub(r"(?<!\w)/(opt|only|dependencies)\b", rf"{tmp_path}/\1", rest)
            command = re.sub(r"\bpython -m", f"{sys.executable} -m", command)
            subprocess.run(command, shell=True, cwd=source, check=True)
    subprocess.run(["cp", "-r", f"{tmp_path}/only{tmp_path}/opt", tmp_path], check=True)  # the second layer
    done = subprocess.run(
        [tmp_path / "opt/streamal/bin/streamal", "check", "--config", DOCKER / "config.toml",
         "--set", "transport.kind=sqlite", "--set", "snapshots.directory=snapshots",
         "--set", "transport.path=streamal.db", "--json"],
        cwd=tmp_path, env={**environment(STREAMAL_SERVER__TOKEN=DOTENV["STREAMAL_TOKEN"]), "PYTHONPATH": ""},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "LogisticRegression" in done.stdout
    assert not (tmp_path / "opt/streamal/bin/pip").exists()
    parts = "confluent_kafka, httpx, jinja2, markdown_it, opentelemetry.sdk, starlette, uvicorn"
    subprocess.run([tmp_path / "opt/streamal/bin/python", "-c", f"import {parts}"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_the_manifests_hold_to_kubernetes_schemas(manifest: dict[str, Any]) -> None:
    """Strictly, for what Kubernetes itself knows; others are of operators and are compared below."""
    schema = json.loads((ROOT / "tests/schemas/kubernetes-1.36.json").read_text())
    theirs = {"PrometheusRule", "ServiceMonitor", "ScaledObject", "TriggerAuthentication"}
    if manifest["kind"] not in theirs:
        reference = {"$ref": f"#/$defs/{schema['kinds'][manifest['kind']]}", "$defs": schema["$defs"]}
        validator = jsonschema.Draft202012Validator(reference)
        validator.validate(manifest)
        if "template" in manifest.get("spec", {}):
            manifest = json.loads(json.dumps(manifest))
            manifest["spec"]["template"]["spec"]["containers"][0]["prots"] = []
            with pytest.raises(jsonschema.ValidationError):
                validator.validate(manifest)


def the(kind: str, name: str = "streamal") -> dict[str, Any]:
    return next(each for each in MANIFESTS if (each["kind"], each["metadata"]["name"]) == (kind, name))


WORKLOADS = [("StatefulSet", "streamal"), ("Deployment", "streamal-label"), ("Job", "streamal-topics")]


@pytest.mark.parametrize(("kind", "name"), WORKLOADS)
def test_a_pod_is_locked_down_and_its_configuration_loads(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not root, nothing writable but bounded volumes, no links of services; command, secrets and variables exist."""
    pod = the(kind, name)["spec"]["template"]["spec"]
    [container] = pod["containers"]
    parsed(container["args"])
    for variable in container["env"]:
        assert known_variable(variable["name"])
        source = variable.get("valueFrom", {})
        if reference := source.get("secretKeyRef"):
            assert reference["name"] == the("Secret")["metadata"]["name"]
            monkeypatch.setenv(variable["name"], the("Secret")["stringData"][reference["key"]])
        else:
            monkeypatch.setenv(variable["name"], variable.get("value", "streamal-0"))
    config = load_config(KUBERNETES / "base/config.toml")
    assert config.transport.client == "confluent"
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert (pod["enableServiceLinks"], pod["automountServiceAccountToken"]) == (False, False)
    assert {"memory", "ephemeral-storage"} == set(container["resources"]["limits"])
    assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(config.snapshots.directory and config.snapshots.directory.parent) in mounts
    assert str(config.transport.security.ssl_cafile and config.transport.security.ssl_cafile.parent) in mounts


def test_the_manifests_fit_each_other_and_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports, probes, topic, group, the number of partitions and who is selected are the same everywhere."""
    monkeypatch.setenv("STREAMAL_TRANSPORT__SECURITY__SASL_PASSWORD", "secret")
    config = load_config(KUBERNETES / "base/config.toml")
    workers = the("StatefulSet")["spec"]["template"]
    [container] = workers["spec"]["containers"]
    assert container["ports"] == [{"name": "admin", "containerPort": config.server.port}]
    assert the("Service")["spec"]["ports"][0]["port"] == config.server.port
    assert the("NetworkPolicy", "streamal-metrics")["spec"]["ingress"][0]["ports"][0]["port"] == config.server.port
    [page] = the("Deployment", "streamal-label")["spec"]["template"]["spec"]["containers"]
    assert page["ports"] == [{"name": "page", "containerPort": config.label_page.port}]
    assert the("NetworkPolicy", "streamal-label")["spec"]["ingress"][0]["ports"][0]["port"] == config.label_page.port
    [path] = the("Ingress", "streamal-label")["spec"]["rules"][0]["http"]["paths"]
    assert {"name": "STREAMAL_LABEL_PAGE__ROOT_PATH", "value": path["path"]} in page["env"]
    assert path["backend"]["service"]["name"] == the("Service", "streamal-label")["metadata"]["name"]
    kafka = the("NetworkPolicy")["spec"]["egress"][0]["ports"][0]["port"]
    assert config.transport.bootstrap_servers.endswith(f":{kafka}")
    endpoint = the("ServiceMonitor")["spec"]["endpoints"][0]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")
    assert endpoint["authorization"]["credentials"]["key"] in the("Secret")["stringData"]
    trigger = the("ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert trigger["topic"] == config.topics.events
    assert trigger["consumerGroup"] == config.transport.group
    assert trigger["bootstrapServers"] == config.transport.bootstrap_servers
    assert the("ScaledObject")["spec"]["maxReplicaCount"] == config.transport.partitions
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert probes == {"/livez", "/readyz"}
    labels = workers["metadata"]["labels"]
    selected = [the(kind)["spec"]["selector"] for kind in ("StatefulSet", "PodDisruptionBudget", "ServiceMonitor")]
    assert [each["matchLabels"] for each in selected] == [labels] * 3
    assert the("Service")["spec"]["selector"] == labels


def test_nobody_sets_what_an_autoscaler_sets() -> None:
    """The workers have no number: the next apply would set it back. The Secret is applied by no kustomization."""
    target = the("ScaledObject")["spec"]["scaleTargetRef"]
    assert "replicas" not in the(target["kind"], target["name"])["spec"]
    for path in DOCKER.rglob("kustomization.yaml"):
        assert "secret" not in json.dumps(yaml.safe_load(path.read_text())).lower()


def test_the_operator_has_the_alerts_and_the_dashboard() -> None:
    """The PrometheusRule is made from our rules; the ConfigMap from the dashboard that compose provisions."""
    assert PROMETHEUS_RULE.read_text() == prometheus_rule(), "run python -m tests.documents"
    assert the("PrometheusRule")["spec"] == yaml.safe_load((DOCKER / "prometheus/rules.yml").read_text())


COMPONENTS = ["label-page", "keda", "prometheus-operator"]


def render(directory: Path) -> list[dict[str, Any]]:
    """Return what `kubectl kustomize` makes of *directory*."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: the kustomizations are not rendered")
    done = subprocess.run(["kubectl", "kustomize", directory], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def test_the_kustomizations_render(tmp_path: Path) -> None:
    """The one to apply, and one with all components: every manifest is in it, but for the examples."""
    plain = {(each["kind"], each["metadata"]["name"]) for each in render(KUBERNETES)}
    assert {("StatefulSet", "streamal"), ("Job", "streamal-topics"), ("Deployment", "streamal-label")} <= plain
    assert not {kind for kind, _ in plain} & {"Secret", "Ingress", "ScaledObject", "ServiceMonitor"}
    shutil.copytree(DOCKER, tmp_path / "docker")
    everything = tmp_path / "docker/kubernetes/all"
    everything.mkdir()
    (everything / "kustomization.yaml").write_text(
        "resources: [../base]\ncomponents: [" + ", ".join(f"../components/{name}" for name in COMPONENTS) + "]\n"
    )
    assert sorted(COMPONENTS) == sorted(path.name for path in (KUBERNETES / "components").iterdir())
    rendered = render(everything)
    found = {(each["kind"], each["metadata"]["name"]) for each in rendered if each["kind"] != "ConfigMap"}
    written = {(each["kind"], each["metadata"]["name"]) for each in MANIFESTS}
    assert found == written - {("Secret", "streamal"), ("Ingress", "streamal-label")}
    boards = [each for each in rendered if each["metadata"]["name"] == "streamal-dashboard"]
    board = (DOCKER / "grafana/dashboards/streamal.json").read_text()
    assert [each["data"]["streamal.json"] for each in boards] == [board]


def test_another_configuration_rolls_the_pods_and_changes_nothing_else(tmp_path: Path) -> None:
    """Of all that is applied, only what runs by it differs: not the Job, whose template cannot be changed."""
    shutil.copytree(DOCKER, tmp_path / "docker")
    config = tmp_path / "docker/kubernetes/base/config.toml"
    before = render(tmp_path / "docker/kubernetes")
    config.write_text(config.read_text().replace("share = 0.10", "share = 0.20"))
    after = render(tmp_path / "docker/kubernetes")
    changed = {f"{each['kind']} {each['metadata']['name']}" for each in after if each not in before}
    [generated] = [name for name in changed if name.startswith("ConfigMap streamal-") and "topics" not in name]
    assert changed - {generated} == {"ConfigMap streamal-topics", "StatefulSet streamal", "Deployment streamal-label"}


def test_the_commands_in_comments_parse() -> None:
    """What the comments tell to run with streamal is a command."""
    for path in DOCKER.rglob("*"):
        if path.is_file() and path.suffix in {".yaml", ".yml", ".toml"}:
            for command in re.findall(r"`streamal ([^`]+)`", path.read_text()):
                words = shlex.split(command)
                parsed(words)
