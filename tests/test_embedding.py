"""`features.embed`: a text becomes a vector before the model sees it; topics and people keep the text."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamal.bootstrap import build, build_for_figures
from streamal.bootstrap.transports import create_topics
from streamal.config import Config, load_config
from streamal.core.model.embedding import Embedding, EmbeddingRules, load_embedding
from streamal.core.records import Event
from streamal.edge.sqlite import SqliteTransport
from streamal.errors import ConfigError, StreamalError
from streamal.recordings.reading import Recorded, Stream
from streamal.replay.annotators import AnnotatorsRules
from streamal.replay.replay import Player, play
from tests import embedders, recorded
from tests.conftest import Cli
from tests.embedders import CALLS, letters, nan_for_secrets

LETTERS = "tests.embedders:letters"
WORDS = {"a": ["sun", "sea", "sand"], "b": ["tax", "form", "file"]}


def embedding(function: str = "letters", **more: int) -> Embedding:
    return Embedding(EmbeddingRules((("t", f"tests.embedders:{function}"),), **more))


def config(*more: str) -> Config:
    return load_config(None, [f'features.embed={{t="{LETTERS}"}}', 'labels.classes=["a","b"]', *more])


def texts_of(count: int) -> Stream:
    """Return texts of words that lean to a class."""
    rng = np.random.default_rng(4)
    rows = []
    for i in range(count):
        label = "ab"[int(rng.integers(2))]
        rows.append(Recorded({"t": " ".join(rng.choice(WORDS[label], 4)) + f" {i}"}, label, float(i), None))
    return Stream("texts", rows, {"t": "text"}, ("a", "b"))


def test_texts_go_through_the_function_in_batches_and_once() -> None:
    """At most ``embed_batch`` in a call; a text that is kept, or blank, is not embedded again."""
    found = embedding(batch=3)
    CALLS.clear()
    found.prepare([{"t": text} for text in ["one", "two", "three", "four", "two", " ", ""]] + [{"x": 1.0}])
    assert CALLS == [["one", "two", "three"], ["four"]]
    vector = found.apply({"t": "two", "x": 1.0})
    assert list(vector) == ["t", "x"]
    assert np.array_equal(vector["t"], letters(["two"])[0])
    assert not np.any(found.apply({"t": ""})["t"])
    assert CALLS == [["one", "two", "three"], ["four"], ["two"]], "the last one is the test's own"


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the memory of the vectors; those used last stay."""
    monkeypatch.setattr("streamal.core.model.embedding._KEPT_MIN", 2)
    found = embedding(cache_bytes=3 * (8 * 26 + 200))
    found.prepare([{"t": text} for text in "abc"])
    found.apply({"t": "a"})
    found.prepare([{"t": "d"}])
    CALLS.clear()
    for text in "acdb":
        found.apply({"t": text})
    assert CALLS == [["b"]]


@pytest.mark.parametrize(
    ("function", "said"),
    [("too_few", "array of shape"), ("nowhere", "cannot load"), ("CALLS", "is no function")],
)
def test_a_function_that_does_not_work_is_named_before_the_start(function: str, said: str) -> None:
    """One line says which key, which function, and what it did."""
    with pytest.raises(ConfigError, match=r"^features\.embed\.t: ") as caught:
        embedding(function)
    assert said in str(caught.value)


def test_a_failure_later_ends_the_process_and_is_no_refusal() -> None:
    """The events are not to blame: a supervisor starts it again, and nothing is lost."""
    found = embedding("fails_later")
    with pytest.raises(StreamalError, match=r"features\.embed\.t: .*raised OSError: the model is gone") as caught:
        found.prepare([{"t": "hello"}])
    assert caught.value.exit_code == 1


def test_a_text_without_finite_numbers_counts_as_zeros() -> None:
    """One odd text does not end the stream."""
    found = embedding("nan_for_secrets")
    assert found.apply({"t": "a secret"})["t"].tolist() == [0.0, 0.0]  # type: ignore[union-attr]
    assert found.apply({"t": "else"})["t"].tolist() == [1.0, 2.0]  # type: ignore[union-attr]


def test_check_refuses_a_function_that_depends_on_its_call() -> None:
    """Workers would hold different models; one text a call is the way out of the first kind."""
    assert embedding().problems() == []
    [problem] = embedding("beside").problems()
    assert "set features.embed_batch = 1" in problem
    assert embedding("beside", batch=1).problems() == []
    assert embedding("never_alike", batch=1).problems() == [
        "features.embed.t: a text has another vector in the next call"
    ]


def test_a_copy_is_made_by_name_and_shares_what_is_kept() -> None:
    """A snapshot holds neither the function nor the vectors."""
    found = load_embedding(EmbeddingRules((("t", LETTERS),)))
    assert pickle.loads(pickle.dumps(found)) is found
    assert found.identities()["t"][:2] == [LETTERS, "1.0"]


def test_the_version_of_the_function_is_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it makes of a probe: another version folds the log afresh."""
    load_embedding.cache_clear()
    before = build(config('features.declared={t="text"}')).settings.fingerprint
    assert build(config('features.declared={t="text"}')).settings.fingerprint == before
    monkeypatch.setattr(letters, "version", "2.0")
    load_embedding.cache_clear()
    assert build(config('features.declared={t="text"}')).settings.fingerprint != before
    monkeypatch.setattr(letters, "version", "1.0")
    monkeypatch.setattr(embedders, "letters", nan_for_secrets)
    load_embedding.cache_clear()
    assert build(config('features.declared={t="text"}')).settings.fingerprint != before
    load_embedding.cache_clear()


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "inferred"])
def test_the_model_sees_vectors_and_everybody_else_the_text(cli: Cli, directory: Path, declared: bool) -> None:
    """Requests and examples carry the text alone; `verify` derives every prediction again; the default model fits."""
    text = f'[labels]\nclasses = ["a", "b"]\n[budget]\nshare = 0.4\n[features]\nembed = {{ t = "{LETTERS}" }}\n'
    text += "infer_from = 5\n"
    (directory / "config.toml").write_text(text + ('declared = { t = "text" }\n' if declared else ""))
    world = recorded.World(load_config(directory / "config.toml", []))
    create_topics(world.config)
    topics, stream = world.topics, texts_of(150)
    log = SqliteTransport("streamal.db", "streamal", "w", topics.events, topics.labels, synchronous="OFF")
    daemon = world.daemon(transport=log)
    play(daemon, Player(log, topics, stream, AnnotatorsRules()), world.clock, 5, lambda _: None)
    examples = [row for row in recorded.rows_of(log, topics.training) if row["kind"] == "example"]
    predictions = recorded.rows_of(log, topics.predictions)
    log.close()
    assert len(examples) > 30
    assert all(isinstance(row["features"]["t"], str) for row in examples)
    right = [row["label"] == stream.rows[i].label for i, row in enumerate(predictions)]
    assert sum(right[75:]) > 65
    assert "UnitVectors" in daemon.fold.learned.model.describe()
    assert "BROKEN" not in cli("verify").out


def test_predictions_are_alike_however_many_come() -> None:
    """One by one, or as rows."""
    learned = build(config('features.declared={t="text",x="number"}')).new_fold().learned
    rows: list[dict[str, Any]] = [{"t": f"word {i * i} sun", "x": float(i)} for i in range(40)]
    rows[7] = {"x": 1.0}
    rows[9] = {"t": "only a text"}
    for i, row in enumerate(rows):
        learned.model.learn(learned.select(row), "ab"[i % 2])
    events = [Event(0, i, None, None, row) for i, row in enumerate(rows)]
    one_by_one = [learned.predict(event) for event in events]
    for size in (1, 7, 40):
        assert [p for s in range(0, 40, size) for p in learned.predict_many(events[s : s + size])] == one_by_one
    assert len({str(each) for each in one_by_one}) > 30


def test_a_warm_start_is_embedded_too(tmp_path: Path) -> None:
    """Its rows hold texts."""
    path = tmp_path / "labelled.jsonl"
    rows = [{"t": " ".join(WORDS[label] * 2) + str(i), "label": label} for i in range(20) for label in "ab"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    warm = config('features.declared={t="text"}', f'model.warm_start="{path}"')
    learned = build(warm).new_fold().learned
    assert learned.predict(Event(0, 0, None, None, {"t": "sun sea sand"}))["a"] > 0.6


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ('features.declared={x="number"}', 'embed.t: declare it too: features.declared = { t = "text", … }'),
        ('features.declared={t="number"}', "embed.t: declare it too"),
        ('features.embed={t="import os"}', "features.embed.t"),
        ("limits.vector_length=25", "limits.vector_length is 25"),
    ],
)
def test_a_wrong_setting_is_one_line(override: str, said: str) -> None:
    """Before anything is read."""
    with pytest.raises(ConfigError) as caught:
        build(config(override))
    assert said in str(caught.value)


def test_commands_that_only_count_load_no_function() -> None:
    """The label page and the status need no model, and so no embedder."""
    CALLS.clear()
    load_embedding.cache_clear()
    build_for_figures(config()).new_fold()
    assert CALLS == []


def test_check_runs_the_function(cli: Cli, directory: Path) -> None:
    """A function that depends on its call ends with 2 and the way out."""
    for function, code in (("letters", 0), ("beside", 2)):
        (directory / "config.toml").write_text(
            f'[labels]\nclasses = ["a", "b"]\n[features]\ndeclared = {{ t = "text" }}\n'
            f'embed = {{ t = "tests.embedders:{function}" }}\n'
        )
        create_topics(load_config(directory / "config.toml", []))
        assert cli("check").code == code


def wordllama() -> Callable[[list[str]], Any]:
    pytest.importorskip("wordllama")
    from streamal.edge.wordllama import embed

    return embed


def test_wordllama_needs_no_network() -> None:
    """Its wheel has the model; a text has the same bits alone and in a batch."""
    embed = wordllama()
    texts = ["you have won a lottery prize", "the minutes of the meeting", "winner of the lottery"]
    vectors = embed(texts)
    assert vectors.shape == (3, 256)
    assert all((embed([text])[0] == vector).all() for text, vector in zip(texts, vectors, strict=True))
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1] + 0.2
    assert Embedding(EmbeddingRules((("t", "wordllama"),))).problems() == []
