"""`streamal health`: the exit code says whether a daemon is alive, wherever it listens, and costs next to nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from streamal.__main__ import main
from streamal.bootstrap import edges
from streamal.config import load_config
from streamal.edge import health
from streamal.edge.health import require_alive
from streamal.edge.http import AdminServer, Page
from streamal.edge.tls import tls_context
from streamal.errors import ConfigError, ServiceUnavailable
from tests.conftest import Cli, environment

TOKEN = "a-token-of-the-test"
Serve = Callable[..., int]


@pytest.fixture
def serve(directory: Path) -> Iterator[Serve]:
    """Return a function that serves /livez and /healthz at a host, and returns the port."""
    with ExitStack() as stack:

        def start(host: str = "127.0.0.1", status: int = 200, text: str = "ok", **more: object) -> int:
            page = Page(status, "text/plain", text.encode())
            server = AdminServer(host, 0, {"/livez": lambda _: page, "/healthz": lambda _: page}, **more)  # type: ignore[arg-type]
            port = server.start()
            stack.callback(server.stop)
            return port

        yield start


def configuration(text: str) -> str:
    Path("config.toml").write_text(text)
    return "config.toml"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "127.0.0.7", "::1", "::"])
def test_a_daemon_is_asked_where_it_listens(serve: Serve, host: str) -> None:
    """On any address and port; one that listens everywhere is asked at the loopback."""
    try:
        port = serve(host, token=TOKEN)
    except ConfigError:
        pytest.skip(f"{host} cannot be listened on here")
    require_alive(configuration(f'[server]\nhost = "{host}"\nport = {port}\n'))


def test_who_is_stuck_or_gone_is_not_alive(serve: Serve) -> None:
    """Another status than 200 and a port where nobody listens are failures, with one line that says so."""
    path = configuration(f"[server]\nport = {serve(status=503, text='the loop is stuck')}\n")
    with pytest.raises(ServiceUnavailable, match="/livez: the loop is stuck"):
        require_alive(path)
    with pytest.raises(ServiceUnavailable, match=r"nothing answers at 127\.0\.0\.1 port 1"):
        require_alive(path, ["server.port=1"])


def test_who_does_not_answer_is_not_waited_for_for_ever(serve: Serve) -> None:
    """A port that takes connections and says nothing ends with an error."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute:
        path = configuration(f"[server]\nport = {mute.getsockname()[1]}\n")
        with pytest.raises(ServiceUnavailable, match="timed out"):
            require_alive(path, timeout_s=0.05)


def test_tls_is_spoken_and_a_certificate_is_not_judged(serve: Serve, directory: Path) -> None:
    """A probe sends no secret, and a restart would not mend a certificate that has run out."""
    authority = trustme.CA()
    made = authority.issue_cert("worker.example")
    made.private_key_and_cert_chain_pem.write_to_path(directory / "both.pem")
    both = directory / "both.pem"
    port = serve(tls=tls_context(both, both))
    keys = f'port = {port}\ntls_certfile = "both.pem"\ntls_keyfile = "both.pem"\n'
    require_alive(configuration(f"[server]\n{keys}"))


def test_the_label_page_is_asked_too(serve: Serve) -> None:
    """Under the section of its own, and at /healthz."""
    path = configuration(f"[server]\nport = 1\n[label_page]\nport = {serve()}\n")
    require_alive(path, section="label_page")


def test_no_proxy_is_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says; a proxy that does not exist would be an error."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    require_alive(configuration(f"[server]\nport = {serve()}\n"))


@pytest.mark.parametrize(
    ("file", "variables", "overrides"),
    [
        ("", {}, []),
        ("[server]\nhost = '127.0.0.2'\nport = 9001\n", {}, []),
        ("[server]\nport = 9001\n", {"STREAMAL_SERVER__PORT": "9002", "STREAMAL_SERVER__HOST": "127.0.0.3"}, []),
        ("[server]\nport = 9001\n", {"STREAMAL_SERVER__PORT": "9002"}, ["server.port=9003", "server.host=localhost"]),
        ("[server]\nport = 9001\n", {"streamal_server__port": "9002"}, ['server.host="127.0.0.4"', "budget.share=0.2"]),
        ("[server]\nport = 9001\n", {"STREAMAL_SERVER__ENABLED": "true"}, ["server.port=9004", "server.port=9005"]),
        ("[server]\nenabled = false\n", {"STREAMAL_SERVER__ENABLED": "on"}, []),
    ],
)
def test_the_address_is_the_configurations(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    variables: dict[str, str],
    overrides: list[str],
) -> None:
    """The short way to the address comes to the same as `load_config`, by file, environment and --set."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    asked = []

    def answer(host: str, port: int, *_: object) -> str:
        asked.append((host, port))
        return "HTTP/1.1 200 OK"

    monkeypatch.setattr(health, "_ask", answer)
    require_alive(configuration(file), overrides)
    found = edges.admin_port(load_config(Path("config.toml"), overrides).server)
    assert found is not None
    assert [found.url] == [f"http://{host}:{port}" for host, port in asked]


@pytest.mark.parametrize(
    "text", ["[server]\nenabled = false\n", "[server]\nport = 0\n", "[server]\nport = 'x'\n", "[[\n"]
)
def test_who_cannot_be_asked_is_a_wrong_configuration(directory: Path, text: str) -> None:
    """Exit code 2: no port, no number, no TOML; so is a file that is not there."""
    with pytest.raises(ConfigError):
        require_alive(configuration(text))
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        require_alive("nowhere.toml")


def test_both_ways_in_end_alike(cli: Cli, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    """Typer's command, which has the help, and the short way in `main` give the same exit codes and the same line."""
    assert isinstance(capsys, pytest.CaptureFixture)
    good, bad = f"server.port={serve()}", "server.port=1"
    configuration("")
    for words, code in (([good], 0), ([bad], 1), (["server.port=0"], 2)):
        ended = cli("health", "--set", *words)
        monkeypatch.setattr(sys, "argv", ["streamal", "health", "-c", "config.toml", "--set", *words])
        with pytest.raises(SystemExit) as left:
            main()
        assert (left.value.code, capsys.readouterr().err) == (code, ended.err)
        assert ended.code == code


def test_a_health_check_imports_next_to_nothing(directory: Path) -> None:
    """None of what the other commands need, not even Python's own HTTP client; and it does not start Python twice."""
    configuration("")
    code = (
        "import sys\nsys.argv = ['streamal', 'health']\nfrom streamal.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert left.code == 1\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=directory, env=environment(PYTHONPATH=str(Path(__file__).parents[1])),
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {
        "typer",
        "pydantic",
        "river",
        "numpy",
        "urllib",
        "http",
        "ssl",
        "asyncio",
        "pathlib",
        "argparse",
    }
    assert {name for name in done.stdout.split() if name.startswith("streamal")} == {
        "streamal", "streamal.__main__", "streamal.edge", "streamal.edge.health", "streamal.errors"
    }  # fmt: skip
