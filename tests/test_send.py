"""`send`: events from a file, a pipe or a file that grows, checked as the daemon would check them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamal.cli.send import known_schema
from streamal.config import Config
from streamal.core.codec.events import encode
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Record, SchemaSet
from streamal.core.schema import Schema
from streamal.edge.memory import Broker
from streamal.edge.sqlite import SqliteLog
from streamal.errors import ConfigError
from streamal.exchange.csv_events import CsvEvents, CsvOptions
from streamal.exchange.events import EventLine, Events, JsonEvents, LineFlaw, check_events, partition_of_key
from streamal.exchange.lines import Line, follow_file, split_lines
from streamal.exchange.sender import Sender, find_schema
from tests.conftest import Cli, environment
from tests.kafka_broker import Cluster
from tests.kafka_world import World
from tests.label_world import until
from tests.recorded import rows_of

TOPIC = "streamal.events"
GOOD = '{"id": 7, "time": 1038965069, "features": {"x": 1.5, "wind": "N"}}'


def sent(path: str | Path = "streamal.db") -> list[dict[str, Any]]:
    log = SqliteLog(path)
    try:
        return rows_of(log, TOPIC)
    finally:
        log.close()


def given(directory: Path, name: str, *lines: str, config: str = "") -> Path:
    (directory / "config.toml").write_text(config)
    (directory / name).write_text("".join(f"{line}\n" for line in lines))
    return directory / name


def lines_of(text: str) -> list[Line]:
    return [Line(number, line.encode()) for number, line in enumerate(text.splitlines(), 1)]


def read_csv(text: str, kinds: dict[str, str] | None = None, rules: WireRules | None = None, **more: Any) -> Events:
    """Return the events of a CSV file that comes in one go, and what is wrong with the other rows."""
    reader = CsvEvents(rules or WireRules(), kinds or {}, CsvOptions("it", **more))
    first, last = reader.feed(lines_of(text)), reader.finish()
    return Events([*first.ready, *last.ready], [*first.flaws, *last.flaws])


def features(events: Events) -> list[dict[str, Any]]:
    return [json.loads(event.value)["features"] for event in events.ready]


# The command.


def test_json_lines_are_sent_as_they_are(cli: Cli, directory: Path) -> None:
    """Byte for byte, in order; blank lines are no events."""
    path = given(directory, "e.jsonl", GOOD, "", '{"features": {"x": 2}}')
    ended = cli("send", path, "--json")
    assert (ended.code, json.loads(ended.out)) == (0, {"sent": 2, "refused": 0, "features_dropped": 0, "line": 3})
    assert sent() == [json.loads(GOOD), {"features": {"x": 2}}]


def test_a_line_that_the_daemon_would_refuse_is_named_and_left_out(cli: Cli, directory: Path) -> None:
    """With its number and the daemon's own reason; the others are sent, and the exit code is 2."""
    ended = cli("send", given(directory, "e.jsonl", GOOD, '{"features": {"x": NaN}}', GOOD), "--json")
    assert ended.code == 2
    assert ended.line.startswith(f"streamal: {directory / 'e.jsonl'}, line 2: not_json: ")
    assert (json.loads(ended.out)["refused"], len(sent())) == (1, 2)


def test_strict_sends_nothing_of_a_file_with_such_a_line(cli: Cli, directory: Path) -> None:
    """The whole file is read before the first event is sent."""
    ended = cli("send", given(directory, "e.jsonl", GOOD, "{", GOOD), "--strict")
    assert (ended.code, sent()) == (2, [])
    assert "line 2: not_json" in ended.err
    assert "1 lines are refused; nothing was sent" in ended.err
    assert cli("send", given(directory, "e.jsonl", GOOD, GOOD), "--strict").code == 0
    assert len(sent()) == 2


def test_without_the_check_the_daemon_decides(cli: Cli, directory: Path) -> None:
    """Whatever the line holds is sent."""
    assert cli("send", given(directory, "e.jsonl", '{"features": {"x": null}}'), "--no-check").code == 0
    assert sent() == [{"features": {"x": None}}]


def test_the_check_knows_the_declared_features(cli: Cli, directory: Path) -> None:
    """A text where a number is declared is refused; an undeclared name is dropped by the daemon, and counted."""
    config = '[features]\ndeclared = { x = "number" }\n'
    path = given(directory, "e.jsonl", GOOD, '{"features": {"x": "hot"}}', config=config)
    ended = cli("send", path, "--json")
    assert json.loads(ended.out) == {"sent": 1, "refused": 1, "features_dropped": 1, "line": 2}
    assert "line 2: feature_type: feature 'x' is a string, not a number" in ended.err


def test_the_check_knows_the_features_that_the_daemon_has_found(cli: Cli, directory: Path) -> None:
    """They are in the training log; columns of CSV have their types."""
    path = given(directory, "e.csv", "zip,label", "01067,dry")
    assert cli("send", path, "--skip", "1").code == 0  # makes the topics
    log = SqliteLog("streamal.db")
    log.append("streamal.training", 0, None, encode(SchemaSet({"zip": "string"}, 0.0)))
    log.close()
    ended = cli("send", path)
    assert "the schema does not know 'label': the daemon drops what it does not know" in ended.line
    assert sent()[-1] == {"features": {"zip": "01067", "label": "dry"}}


def test_csv_is_sent_as_events_of_the_configured_form(cli: Cli, directory: Path) -> None:
    """Id and time have places of their own; in a flat event they have the configured names."""
    rows = ("no,at,x,wind,label", "7,2026-01-01,1.5,N,dry", "8,5.5,,S,wet")
    config = '[events]\nformat = "flat"\nid = "no"\ntime = "at"\n'
    assert cli("send", given(directory, "e.csv", *rows, config=config), "--drop", "label").code == 0
    assert sent() == [{"no": 7, "at": "2026-01-01", "x": 1.5, "wind": "N"}, {"no": 8, "at": 5.5, "wind": "S"}]


def test_a_column_that_looks_like_the_answer_is_named(cli: Cli, directory: Path) -> None:
    """Without a schema it would become a feature."""
    ended = cli("send", given(directory, "e.csv", "x,label", "1,dry"))
    assert ended.code == 0
    assert "'label' is sent as a feature; if it is the answer, add --drop label" in ended.line


def test_standard_input_is_read_to_its_end(directory: Path) -> None:
    """A pipe of JSON lines, the last one without an end."""
    given(directory, "unused")
    command = [sys.executable, "-m", "streamal", "send", "-", "--json"]
    done = subprocess.run(command, input=f"{GOOD}\n{GOOD}".encode(), capture_output=True, check=True, env=environment())
    assert json.loads(done.stdout)["sent"] == len(sent()) == 2


def test_a_file_that_grows_is_followed_by_whole_lines(directory: Path) -> None:
    """What is added is sent soon; half a line waits; SIGTERM ends the command with 0 and its figures."""
    path = given(directory, "e.jsonl", GOOD)
    command = [sys.executable, "-m", "streamal", "send", str(path), "--watch", "--json"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
        try:
            until(lambda: (directory / "streamal.db").exists() and _count(directory) == 1)
            with path.open("a") as file:
                file.write(f'{GOOD}\n{{"features": ')
            until(lambda: _count(directory) == 2)
            process.terminate()
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert json.loads(out) == {"sent": 2, "refused": 0, "features_dropped": 0, "line": 2}


def _count(directory: Path) -> int:
    try:
        log = SqliteLog(directory / "streamal.db")
    except ConfigError:
        return 0  # it is just being made
    try:
        return log.end(TOPIC, 0) if log.partitions(TOPIC) else 0
    finally:
        log.close()


def test_lines_can_be_skipped(cli: Cli, directory: Path) -> None:
    """To go on where a command has ended; the header of CSV is read all the same."""
    assert cli("send", given(directory, "e.csv", "x", "1", "2", "3"), "--skip", "3").code == 0
    assert sent() == [{"features": {"x": 3.0}}]


def test_events_go_to_each_partition_in_turn_or_by_key_or_to_one(cli: Cli, directory: Path) -> None:
    """A key is the record's key too; it is a field of the event or a feature."""
    config = "[transport]\npartitions = 3\n"
    events = [json.dumps({"id": number, "features": {"who": f"c{number % 2}"}}) for number in range(6)]
    path = given(directory, "e.jsonl", *events, config=config)
    for options, counts in (((), [2, 2, 2]), (("--partition", "1"), [0, 6, 0]), (("--key", "who"), None)):
        (directory / "streamal.db").unlink(missing_ok=True)
        assert cli("send", path, *options).code == 0
        log = SqliteLog("streamal.db")
        found = [log.read(TOPIC, partition, 0, 10) for partition in range(3)]
        log.close()
        if counts is None:
            at = {(record.key, record.partition) for records in found for record in records}
            assert at == {(key, partition_of_key(key, 3)) for key in (b"c0", b"c1")}
        else:
            assert [len(records) for records in found] == counts
    ended = cli("send", path, "--key", "nobody")
    assert (ended.code, "line 1: there is no field or feature 'nobody' for the key" in ended.err) == (2, True)
    assert "has the partitions 0 to 2" in cli("send", path, "--partition", "3").line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.jsonl",), "gone.jsonl: no such file"),
        (("e.txt",), "say --format"),
        (("-", "--watch"), "--watch follows a plain file"),
        (("e.jsonl", "--drop", "x"), "JSON lines are sent as they are"),
        (("e.csv", "--delimiter", ";;"), "one character"),
        (("e.jsonl", "--strict", "--no-check"), "--strict"),
        (("e.jsonl", "--key", "a", "--partition", "0"), "not both"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments: tuple[str, ...], message: str, cli: Cli, directory: Path) -> None:
    """Exit code 2, and no database is made."""
    given(directory, "e.jsonl", GOOD)
    given(directory, "e.txt", GOOD)
    given(directory, "e.csv", "x", "1")
    ended = cli("send", *arguments)
    assert ended.code == 2
    assert message in ended.line
    assert not (directory / "streamal.db").exists()


def test_where_to_go_on_is_said_when_the_file_breaks_off(cli: Cli, directory: Path) -> None:
    """Rows before a quote that is never closed are sent, and counted."""
    rows = ["x,wind", *(f"{number},N" for number in range(150)), '1,"N', "2,S"]
    ended = cli("send", given(directory, "e.csv", *rows))
    assert ended.code == 2
    assert "line 152: a quote begins here and is never closed" in ended.err
    assert len(sent()) == 150
    assert "150 events were sent, up to line 151; go on with --skip 151" in ended.err


# CSV.


def test_a_column_is_a_number_if_all_first_rows_say_so() -> None:
    """Else it is a text; a blank is missing; codes with an underscore and leading zeros of declared texts stay."""
    found = read_csv("a,b,c,zip,t\n1,2_5,x,01067,true\n-2e3,3,,01067,False\n", {"zip": "string"})
    assert features(found) == [
        {"a": 1.0, "b": "2_5", "c": "x", "zip": "01067", "t": True},
        {"a": -2000.0, "b": "3", "zip": "01067", "t": False},
    ]
    assert not found.flaws


def test_a_table_is_read_as_the_reader_reads_it() -> None:
    """Decimal commas, spelt-out gaps, codes with leading zeros, yes and no for a declared truth value."""
    text = "a;b;zip;on\n10,5;NA;01067;yes\n-1,25;2;01069;no\n"
    reader = CsvEvents(WireRules(), {"on": "boolean"}, CsvOptions("it"))
    first, last = reader.feed(lines_of(text)), reader.finish()
    assert features(Events([*first.ready, *last.ready])) == [
        {"a": 10.5, "zip": "01067", "on": True},
        {"a": -1.25, "b": 2.0, "zip": "01069", "on": False},
    ]
    assert "column 'a': '10,5' is read as 10.5" in reader.notes()


def test_a_cell_that_is_not_of_its_columns_type_refuses_its_row() -> None:
    """Whether the type was declared or guessed; the row's line, the column and the value are named."""
    late = read_csv("a\n" + "1\n" * 3 + "hot\n", {"a": "number"})
    assert late.flaws == [LineFlaw(5, "column 'a' is 'hot', not a number")]
    assert read_csv("t\nmaybe\n", {"t": "boolean"}).flaws == [LineFlaw(2, "column 't' is 'maybe', not a boolean")]


def test_short_and_long_rows_are_named() -> None:
    """Neither loses a field in silence."""
    found = read_csv("a,b\n1\n1,2\n1,2,3\n")
    assert [flaw.reason for flaw in found.flaws] == ["1 field, but the header has 2", "3 fields, but the header has 2"]
    assert len(found.ready) == 1


def test_a_quoted_field_may_have_several_lines() -> None:
    """As spreadsheets write them; a doubled quote is one quote."""
    found = read_csv('a,b\n"one\n\ntwo ""and"" three",1\nx,2\n')
    assert features(found) == [{"a": 'one\n\ntwo "and" three', "b": 1.0}, {"a": "x", "b": 2.0}]
    assert [event.line for event in found.ready] == [4, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a,b\n1,2\n"5 inch,3\n"7"" tv",4\n', "it, line 3 to 4: a quote is where none can be"),
        ('a\n1\n"x\n2\n', "it, line 3: a quote begins here and is never closed"),
        ("a,b,a\n1,2,3\n", "it, line 1: column 'a' is there twice"),
    ],
)
def test_a_file_that_is_no_csv_is_refused(text: str, message: str) -> None:
    """Nobody knows where the rows after a stray quote begin."""
    with pytest.raises(ConfigError, match=message):
        read_csv(text)


def test_a_quote_is_not_waited_for_without_end() -> None:
    """A field in quotes has at most the bytes that a record may have."""
    with pytest.raises(ConfigError, match="line 2: a quote begins here and is not closed within 100 bytes"):
        read_csv('a\n"x\n' + "0123456789\n" * 20, rules=WireRules(record_bytes_max=100))


def test_the_header_tells_the_delimiter_and_may_come_again() -> None:
    """Semicolons and tabs; a second header is that of a second file."""
    assert features(read_csv("a;b\n1;x,y\na;b\n2;z\n")) == [{"a": 1.0, "b": "x,y"}, {"a": 2.0, "b": "z"}]
    assert features(read_csv("a\tb\n1\tx\n")) == [{"a": 1.0, "b": "x"}]
    assert features(read_csv("a|b\n1|x\n", delimiter=",")) == [{"a|b": "1|x"}]


# Lines.


def test_lines_are_split_wherever_the_chunks_end() -> None:
    """A mark at the beginning and carriage returns are no part of them; a long line is cut to one byte too many."""
    text = b"\xef\xbb\xbfone\r\n\ntwo\n" + b"x" * 50 + b"\nlast"
    for size in (1, 3, 1_000):
        chunks = (text[begin : begin + size] for begin in range(0, len(text), size))
        found = [line for lines in split_lines(chunks, 10) for line in lines]
        assert found == [Line(1, b"one"), Line(2, b""), Line(3, b"two"), Line(4, b"x" * 11), Line(5, b"last")]
    assert [line.text for lines in split_lines(iter([b"a\nb"]), 10, whole=True) for line in lines] == [b"a"]


def test_a_followed_file_may_be_rotated_or_cut(tmp_path: Path) -> None:
    """The rest of the old one comes first, and its last line gets an end; then the new one from its beginning."""
    path = tmp_path / "log"
    path.write_text("one\ntwo")

    def acts() -> Iterator[bool]:
        path.rename(tmp_path / "log.1")
        yield False  # there is none for a while
        with (tmp_path / "log.1").open("a") as old:
            old.write(" and a half")
        path.write_text("three, which is longer\n")
        yield False
        yield False
        path.write_text("four\n")
        yield False
        yield True

    act = acts()
    found = [line.text for lines in split_lines(follow_file(path, lambda: next(act)), 100) for line in lines]
    assert found == [b"one", b"two and a half", b"three, which is longer", b"four"]


# Sending.


def test_a_key_goes_where_kafkas_own_producers_put_it() -> None:
    """Other producers of the same topic share the order of a key."""
    default = pytest.importorskip("kafka.partitioner.default")
    for key in (b"", b"a", b"ab", b"abc", b"abcd", b"customer-1845", "größe".encode(), bytes(range(256))):
        assert partition_of_key(key, 12) == (default.murmur2(key) & 0x7FFFFFFF) % 12


def test_a_rate_is_kept() -> None:
    """The waits before the batches add up to what the rate asks for."""
    broker, slept = Broker(), list[float]()
    broker.create(TOPIC, 1)

    def wait(seconds: float) -> bool:
        slept.append(seconds)
        return False

    Sender(broker, TOPIC, None, 100.0, wait).send([EventLine(number, b"{}", None) for number in range(1, 21)])
    assert (broker.end(TOPIC, 0), len(slept)) == (20, 4)
    assert slept[-1] == pytest.approx(0.15, abs=0.1)


def test_an_end_is_looked_for_between_two_batches() -> None:
    """What was not sent then is not counted."""
    broker, stop = Broker(), threading.Event()
    broker.create(TOPIC, 1)
    sender = Sender(broker, TOPIC, None, None, stop.wait, lambda _: stop.set())
    sender.send([EventLine(number, b"{}", None) for number in range(1, 1_501)])
    assert (sender.sent, broker.end(TOPIC, 0)) == (1_000, 1_000)


def test_a_request_is_of_bounded_size() -> None:
    """Large events go in several."""
    broker, lines = Broker(), list[int]()
    broker.create(TOPIC, 1)
    sender = Sender(broker, TOPIC, None, None, lambda _: False, lines.append)
    sender.send([EventLine(number, b"x" * 1_500_000, None) for number in range(1, 6)])
    assert lines == [2, 4, 5]


def test_the_schema_of_the_log_is_found() -> None:
    """None before there is one; declared features come first."""
    broker = Broker()
    broker.create("t", 1)
    assert find_schema(broker, "t", Schema({})) is None
    broker.append("t", 0, None, encode(SchemaSet({"x": "number"}, 0.0)))
    assert find_schema(broker, "t", Schema({"y": "string"})) == Schema({"y": "string", "x": "number"})


class _Forbidden(Broker):
    """Lets nobody read, as a cluster may treat a producer."""

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        raise ConfigError("no permission")


def test_a_producer_need_not_be_allowed_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Then lines are checked without the features that the daemon has found, and that is said; declared ones count."""
    broker = _Forbidden()
    broker.create("streamal.training", 1)
    assert known_schema(broker, Config()) is None
    assert "lines are checked without the features that the daemon has found: no permission" in capsys.readouterr().err
    declared = Config.model_validate({"features": {"declared": {"x": "number"}}})
    assert known_schema(broker, declared) == Schema({"x": "number"})


def test_a_line_is_judged_as_by_the_daemon() -> None:
    """Flat or nested, by its bounds and its schema; flaws of several kinds come in the order of their lines."""
    lines = lines_of('{"x": 1}\n[]\n{"x": 1e99}')
    events = check_events(JsonEvents(None).feed(lines), WireRules(format="flat"), None)
    assert [(flaw.line, flaw.reason.partition(":")[0]) for flaw in events.flaws] == [
        (2, "not_an_object"),
        (3, "number_out_of_range"),
    ]


@pytest.mark.kafka
@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_events_reach_kafka_by_both_clients(client: str, kafka: Cluster, cli: Cli, directory: Path) -> None:
    """Keys, and the partitions that Kafka's own producers would choose."""
    world = World(kafka, partitions=2)
    config = (
        f'[transport]\nkind = "kafka"\nclient = "{client}"\nbootstrap_servers = "{kafka.bootstrap}"\npartitions = 2\n'
        f'[topics]\nevents = "{world.events}"\ntraining = "{world.labels}"\n'
    )
    path = given(directory, "e.jsonl", *(json.dumps({"id": n, "features": {"x": n}}) for n in range(10)), config=config)
    assert cli("send", path, "--key", "id").code == 0
    found = [record for partition in range(2) for record in world.log.read(world.events, partition, 0, 100)]
    assert sorted(json.loads(record.value or b"")["id"] for record in found) == list(range(10))
    assert all(record.partition == partition_of_key(record.key or b"", 2) for record in found)


def test_a_table_is_sent_as_it_is_replayed() -> None:
    """What a spreadsheet adds is left out: its sep= line, blanks after commas, the numbers of rows."""
    assert features(read_csv("sep=;\na;b\n1,5;x\n")) == [{"a": 1.5, "b": "x"}]
    assert features(read_csv('a, b\n1, "x, y"\n')) == [{"a": 1.0, "b": "x, y"}]
    assert features(read_csv("Unnamed: 0,a\n0,2\n")) == [{"a": 2.0}]
    assert features(read_csv("Unnamed: 0,a\n0,2\n", {"Unnamed: 0": "number"})) == [{"Unnamed: 0": 0.0, "a": 2.0}]


def test_a_header_that_is_no_utf_8_is_no_row_to_leave_out() -> None:
    """Else the next row would be the header."""
    reader = CsvEvents(WireRules(), {}, CsvOptions("it"))
    with pytest.raises(ConfigError, match="it, line 1: the header is no UTF-8"):
        reader.feed([Line(1, "tämp,x".encode("cp1252")), Line(2, b"1,2")])


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("s.csv", b"PK\x03\x04" + bytes(40), "it is an Excel file or a ZIP archive"),
        ("s.csv", gzip.compress(b"a\n1\n"), "it is packed with gzip: let its name end in .gz"),
        ("s.csv.gz", b"a\n1\n", "it is not packed with gzip, as its name says"),
        ("s.csv.gz", gzip.compress(b"a\n1\n") + b"more", "other bytes follow what is packed"),
    ],
)
def test_a_file_of_another_kind_is_not_sent(cli: Cli, directory: Path, name: str, data: bytes, told: str) -> None:
    """An Excel file is not sent as no event at all, with exit code 0."""
    given(directory, "config.toml")
    (directory / name).write_bytes(data)
    ended = cli("send", name)
    assert ended.code == 2
    assert told in ended.err
