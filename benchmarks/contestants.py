"""The same work by others: from an event's bytes to a prediction's bytes, one event after the other, a tenth learned.

Each decodes with msgspec, as streamal does, and then does what its own library wants; each learns every tenth event,
but for those whose own sampler decides. A contestant imports its library when it is made.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from benchmarks import engine
from benchmarks.core_loop import Case, Loop
from benchmarks.kafka_world import cpu_s

_CASE = Case()
_EVERY = 10
_PATIENCE_S = 30.0
_VW = ["--active", "--loss_function", "logistic", "--link", "logistic", "--quiet"]
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Contestant(Protocol):
    """One who predicts."""

    predicted: list[str]
    """The classes it has said."""

    def run(self) -> None:
        """Work all events off: what is timed."""
        ...

    def helpers_s(self) -> float:
        """Return the CPU seconds of other processes that it has kept busy so far."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class Alone:
    """One who needs no other process; *learned* tells whether the event *i* is one of the tenth."""

    def __init__(self, values: Sequence[bytes], labels: Sequence[str]) -> None:
        """Take the events; the subclass imports its library here."""
        self.values, self.labels = values, labels
        self.predicted: list[str] = []
        self.out: list[bytes] = []

    def say(self, event: Mapping[str, Any], p: float) -> None:
        """Encode the prediction of an event, given the probability of the second class."""
        label = _CASE.names[p > 0.5]
        self.predicted.append(label)
        self.out.append(msgspec.json.encode({"id": event["id"], "label": label, "probabilities": [1.0 - p, p]}))

    def helpers_s(self) -> float:
        """Return nothing."""
        return 0.0

    def close(self) -> None:
        """Do nothing."""


class Streamal(Alone):
    """The production core, in steps of 500: with budget, requests, replies, training log, which nobody else has."""

    def __init__(self, values: Sequence[bytes], labels: Sequence[str]) -> None:
        super().__init__(values, labels)
        self._loop = Loop(_CASE.config(), _CASE.batch)

    def run(self) -> None:
        """Work all events off."""
        self._loop.work(self.values, self.labels)

    def close(self) -> None:
        """Decode what was said."""
        self.predicted = [_decode(value)["label"] for value in self._loop.predictions]


class ByHand(Alone):
    """The loop that one writes by hand, see `benchmarks.engine`; it does not keep what it says."""

    def __init__(self, values: Sequence[bytes], labels: Sequence[str]) -> None:
        super().__init__(values, labels)
        self._work = engine.by_hand(values, ["yes" if label == _CASE.names[1] else "no" for label in labels])

    def run(self) -> None:
        """Work all events off."""
        self._work()


class Activeml(Alone):
    """scikit-activeml's stream loop: VariableUncertainty at 10 %, logistic regression by SGD, fitted when it asks."""

    def __init__(self, values: Sequence[bytes], labels: Sequence[str]) -> None:
        super().__init__(values, labels)
        import numpy as np  # noqa: PLC0415
        from skactiveml.classifier import SklearnClassifier  # noqa: PLC0415
        from skactiveml.stream import VariableUncertainty  # noqa: PLC0415
        from sklearn.linear_model import SGDClassifier  # noqa: PLC0415

        warnings.filterwarnings("ignore")
        self._array = np.array
        classifier = SGDClassifier(loss="log_loss", random_state=1)
        self._clf: Any = SklearnClassifier(classifier, classes=[0, 1], random_state=1)
        self._sampler: Any = VariableUncertainty(budget=0.1, random_state=1)
        first = [list(_decode(value)["features"].values()) for value in values[:_EVERY]]  # unfitted, it raises
        self._clf.partial_fit(np.array(first), np.array([_CASE.names.index(label) for label in labels[:_EVERY]]))

    def run(self) -> None:
        """Work all events off."""
        clf, sampler = self._clf, self._sampler
        for value, label in zip(self.values, self.labels, strict=True):
            event = _decode(value)
            x = self._array([list(event["features"].values())])
            self.say(event, float(clf.predict_proba(x)[0, 1]))
            asked, utilities = sampler.query(candidates=x, clf=clf, return_utilities=True)
            sampler.update(candidates=x, queried_indices=asked, budget_manager_param_dict={"utilities": utilities})
            if len(asked):
                clf.partial_fit(x, self._array([_CASE.names.index(label)]))


class Moa(Alone):
    """MOA by way of CapyMOA: its logistic regression by SGD, in a Java machine inside the process.

    CapyMOA's own `SGDClassifier` is scikit-learn's, ten times dearer; this one is Java.

    A learner that is thrown away goes first: half a second of compiling would else be in the time.
    """

    def __init__(self, values: Sequence[bytes], labels: Sequence[str]) -> None:
        super().__init__(values, labels)
        import numpy as np  # noqa: PLC0415
        from capymoa.core import Instance, LabeledInstance  # noqa: PLC0415
        from capymoa.stream import Schema  # noqa: PLC0415

        names = list(_decode(values[0])["features"])
        self._schema = Schema.from_custom([*names, "class"], "class", {"class": _CASE.names})
        self._array, self._instance, self._labelled = np.array, Instance, LabeledInstance
        self._learner = self.learner(self._schema)
        self.run()
        self._learner, self.predicted, self.out = self.learner(self._schema), [], []

    def learner(self, schema: Any) -> Any:
        """Return a learner that knows nothing."""
        from capymoa.base import MOAClassifier  # noqa: PLC0415
        from moa.classifiers.functions import SGD  # noqa: PLC0415  (a package of Java's, once CapyMOA is imported)

        return MOAClassifier(schema=schema, moa_learner=SGD(), CLI="-o LOGLOSS")

    def run(self) -> None:
        """Work all events off."""
        learner = self._learner
        for i, value in enumerate(self.values):
            event = _decode(value)
            x = self._array(list(event["features"].values()))
            found = learner.predict_proba(self._instance.from_array(self._schema, x))
            self.say(event, 0.5 if found is None or len(found) < 2 else float(found[1]))
            if i % _EVERY == 0:
                known = _CASE.names.index(self.labels[i])
                learner.train(self._labelled.from_array(self._schema, x, known))


class MoaBayes(Moa):
    """Likewise, naive Bayes."""

    def learner(self, schema: Any) -> Any:
        """Return a learner that knows nothing."""
        from capymoa.classifier import NaiveBayes  # noqa: PLC0415

        return NaiveBayes(schema)


class Vw(Alone):
    """Vowpal Wabbit's Python binding, which keeps the importance of a label to itself."""

    def __init__(self, values: Sequence[bytes], labels: Sequence[str]) -> None:
        super().__init__(values, labels)
        import vowpalwabbit  # noqa: PLC0415

        # without --no_daemon, --active opens port 26542 to all the world and waits there for ever
        self._vw: Any = vowpalwabbit.Workspace(" ".join([*_VW, "--no_daemon"]))

    def run(self) -> None:
        """Work all events off."""
        for i, value in enumerate(self.values):
            event = _decode(value)
            text = as_text(event)
            self.say(event, self._vw.predict(text))
            if i % _EVERY == 0:
                self._vw.learn(sign(self.labels[i]) + text)


class VwDaemon(Alone):
    """Vowpal Wabbit's daemon, one question and its answer at a time, over loopback.

    It listens on every interface, there is no option against that: a port that nobody knows, for seconds.
    """

    def __init__(self, values: Sequence[bytes], labels: Sequence[str]) -> None:
        super().__init__(values, labels)
        import vowpalwabbit  # noqa: F401, PLC0415  (the daemon hides in its wheel)

        with tempfile.TemporaryDirectory() as directory:
            port = Path(directory) / "port"
            asked = ["--daemon", "--foreground", "--num_children", "1", "--port", "0", "--port_file", str(port)]
            command = [sys.executable, "-m", "vowpalwabbit", *_VW, *asked, "-d", "/dev/null"]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            number = self._port(port)
        self._socket = socket.create_connection(("127.0.0.1", number))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rwb", 0)

    def _port(self, file: Path) -> int:
        began = time.monotonic()
        while not (file.exists() and file.read_text().strip()):
            assert self._process.poll() is None, "vw has ended"
            assert time.monotonic() - began < _PATIENCE_S, "vw names no port"
            time.sleep(0.02)
        return int(file.read_text())

    def run(self) -> None:
        """Work all events off: p, the tag and, if the label is wanted, its importance come back."""
        lines = self._lines
        for i, value in enumerate(self.values):
            event = _decode(value)
            text = as_text(event).encode()
            lines.write(b"'%s %s\n" % (event["id"].encode(), text))
            self.say(event, float(lines.readline().split(maxsplit=1)[0]))
            if i % _EVERY == 0:
                lines.write(b"%s %s\n" % (sign(self.labels[i]).encode(), text))
                lines.readline()

    def helpers_s(self) -> float:
        """Return the daemon's CPU seconds, its child's included."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return cpu_s(pid) + sum(cpu_s(int(child)) for child in children)

    def close(self) -> None:
        """End the daemon."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=_PATIENCE_S)


def as_text(event: Mapping[str, Any]) -> str:
    """Return the features as Vowpal Wabbit reads them."""
    return "| " + " ".join(f"{name}:{value}" for name, value in event["features"].items())


def sign(label: str) -> str:
    """Return the label as Vowpal Wabbit reads it."""
    return "1 " if label == _CASE.names[1] else "-1 "
