"""deploy/compose.yaml keeps what it promises: as far as that can be told without an engine."""

import os
import re
import shutil
import subprocess

import pytest
import yaml

from candlecast import cli
from candlecast.settings import CHECKOUT, Settings

DEPLOY = CHECKOUT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
ENDING = {"migrate", "metabase-setup"}
LASTING = set(SERVICES) - ENDING
SECRET = re.compile(r"PASSWORD|PASS$|TOKEN|DATABASE_URL")


def environment(name):
    return SERVICES[name].get("environment", {})


def test_all_parts_are_there_and_each_that_lasts_says_whether_it_is_well():
    names = {"postgres", "triton", "server", "dashboard", "prometheus", "grafana", "metabase"}
    assert names == LASTING
    for name in LASTING:
        check = SERVICES[name]["healthcheck"]
        assert check["test"][0] in {"CMD", "CMD-SHELL"} and check["retries"] and check["timeout"], name
        assert SERVICES[name]["restart"] == "unless-stopped", name
    for name in ENDING:
        assert SERVICES[name]["restart"] == "no", name


def test_they_wait_for_those_that_they_need_to_be_well():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ENDING else "service_healthy"
            assert how == {"condition": wanted}, (name, other)
    assert {"migrate", "triton"} <= SERVICES["server"]["depends_on"].keys()


def test_there_is_no_default_password_and_nothing_starts_without_one():
    for name in SERVICES:
        for variable, value in environment(name).items():
            if SECRET.search(variable) and not variable.startswith("CANDLECAST_INSECURE"):
                assert re.search(r"\$\{[A-Z_]+:\?", str(value)), f"{name}: {variable} has a value of its own"
    required = set(re.findall(r"\$\{([A-Z_]+):\?", TEXT))
    assert required == set(re.findall(r"^([A-Z_]+)=$", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert set(re.findall(r"\$\{([A-Z_]+):-", TEXT)) == {"CANDLECAST_MODEL"}


def test_viewers_come_as_the_role_that_only_reads():
    assert "//candlecast_read:" in environment("dashboard")["DATABASE_URL"]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/candlecast.yml").read_text())
    (postgresql,) = [one for one in source["datasources"] if "postgresql" in one["type"]]
    assert postgresql["user"] == "candlecast_read"
    for variable in re.findall(r"\$([A-Z_]+)", str(source)):
        assert variable in environment("grafana"), variable
    assert SERVICES["migrate"]["command"][:2] == ["migrate", "--reader-password-file"]
    assert SERVICES["migrate"]["command"][2] == "/run/secrets/read_password"
    assert COMPOSE["secrets"] == {"read_password": {"environment": "CANDLECAST_READ_PASSWORD"}}


def test_doors_are_on_loopback_and_database_and_model_have_none():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"server", "dashboard", "prometheus", "grafana", "metabase"}
    ports = [port for some in published.values() for port in some]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert all(SERVICES[name]["networks"] == ["inside"] for name in ("postgres", "triton", "migrate"))


def test_triton_serves_grpc_and_metrics_alone():
    for file in ("compose.yaml", "compose.gpu.yaml"):
        command = yaml.safe_load((DEPLOY / file).read_text())["services"]["triton"]["command"]
        assert "--allow-http=false" in command and "--model-control-mode=explicit" in command
        assert not [word for word in command if "http-port" in word]
    gpu = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"]["triton"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert "--model-config-name=tensorrt" in gpu["command"]
    plain = SERVICES["triton"]["command"]
    assert [word for word in gpu["command"] if "model-config-name" not in word] == plain


def test_images_are_of_one_version_and_ours_gives_up_what_it_does_not_need():
    for name, service in SERVICES.items():
        tag = service["image"].rpartition(":")[2]
        assert tag != "latest" and (tag == "local" or re.match(r"v?\d", tag)), name
        assert "no-new-privileges:true" in service.get("security_opt", ()) or name == "postgres", name
    for name in ("server", "dashboard"):
        assert SERVICES[name]["read_only"] and SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["user"] == "10001:10001"


@pytest.mark.parametrize("name", ["migrate", "server", "dashboard"])
def test_our_commands_and_settings_are_those_of_the_program(name):
    arguments = cli.parser().parse_args(SERVICES[name]["command"])
    assert arguments.run
    for variable in environment(name):
        if variable.startswith("CANDLECAST_"):
            assert variable.removeprefix("CANDLECAST_").lower() in Settings.model_fields, variable


def test_addresses_are_those_of_services_and_their_ports():
    command = " ".join(SERVICES["server"]["command"])
    assert "--triton triton:8001" in command and "--grpc-port=8001" in SERVICES["triton"]["command"]
    targets = yaml.safe_load((DEPLOY / "prometheus/targets-compose.yml").read_text())
    hosts = {target.split(":")[0] for one in targets for target in one["targets"]}
    assert hosts == {"server", "dashboard", "triton"}
    assert environment("server")["CANDLECAST_METRICS"].endswith(":9464")


def test_what_is_mounted_copied_and_run_is_there():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), (name, source)
            else:
                assert source in COMPOSE["volumes"], (name, source)
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    for line in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", dockerfile, re.MULTILINE):
        for path in line.split():
            assert (CHECKOUT / path).exists(), path
            reaches = {f"!{path}", f"!{path.split('/')[0]}"} & set(ignored)
            assert reaches, f"{path} does not reach the build"
    assert "USER 10001:10001" in dockerfile
    for script in ("postgres/10-roles.sh", "candlecast-ready"):
        assert os.access(DEPLOY / script, os.X_OK), script
    assert subprocess.run(["sh", "-n", DEPLOY / "postgres/10-roles.sh"]).returncode == 0


def test_compose_itself_accepts_it(tmp_path):
    compose = shutil.which("docker-compose")
    plugin = shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True)
    if compose is None and not (plugin and plugin.returncode == 0):
        pytest.skip("neither docker-compose nor docker's plugin is here")
    command = [compose] if compose else ["docker", "compose"]
    names = re.findall(r"\$\{([A-Z_]+):\?", TEXT)
    filled = os.environ | dict.fromkeys(names, "0123456789abcdef")
    files = ["-f", str(DEPLOY / "compose.yaml")]
    done = subprocess.run([*command, *files, "config"], capture_output=True, text=True, env=filled, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    empty = {name: value for name, value in os.environ.items() if name not in names}
    refused = subprocess.run([*command, *files, "config"], capture_output=True, text=True, env=empty, cwd=tmp_path)
    assert refused.returncode != 0
