"""Tables of text as people have them: what is written is understood, or refused in one line; no row goes silently."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from streamal.core.codec.wire_rules import WireRules
from streamal.errors import ConfigError
from streamal.recordings.reading import Stream, read_stream
from streamal.recordings.rules import ReadingRules
from tests.conftest import Cli
from tests.messy import csv_text, weather, with_column, written

ROWS = weather(40)


def read(path: Path, text: str | bytes, name: str = "s.csv", **rules: Any) -> Stream:
    return read_stream(written(path, name, text), "label", rules=ReadingRules(**rules))


def features(stream: Stream, name: str) -> list[Any]:
    return [row.features.get(name) for row in stream.rows]


def kinds_found(stream: Stream) -> list[str]:
    return [finding.kind for finding in stream.account.findings]


# Quotes, and rows of another length.


def quoted(first: str, second: str) -> str:
    """Return 40 rows with a note in front, of which rows 10 and 30 have another."""
    notes = {10: first, 30: second}
    return csv_text(with_column(ROWS, "note", lambda number, _: notes.get(number + 1, "tv")))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (quoted('"5 inch', '"7"" tv"'), "line 11, row 10"),  # the next quote is far away, and followed by a text
        (quoted('"5 inch', "tv"), "line 11, row 10"),  # never closed
        (quoted('"5" inch', "tv"), "line 11, row 10"),  # closed too early
        (quoted('"5 inch', 'tv"'), "line 11, row 10"),  # paired with another: 21 rows in one cell
        (csv_text(ROWS) + '1,2,N,"wet\n', "line 42, row 41"),
        ('"temp,label\n1,a\n', "line 1, row 1"),
        ("\n\n" + quoted('"5 inch', "tv"), "line 13, row 10"),
    ],
    ids=["far", "unclosed", "early", "paired", "last", "header", "blank lines before"],
)
def test_a_stray_quote_names_the_row_in_which_it_opens(tmp_path: Path, text: str, told: str) -> None:
    """Whatever follows it: nobody knows where the next row begins."""
    with pytest.raises(ConfigError, match="quote") as raised:
        read(tmp_path, text)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("first", "third"),
    [('"5 inch,wet', 'tv",dry'), ('wet,"5 inch', 'dry,tv"')],
    ids=["text first", "label first"],
)
def test_a_stray_quote_is_found_in_two_columns_too(tmp_path: Path, first: str, third: str) -> None:
    """There a line of a text may well have one comma: it is a row of its own if it has a label as well."""
    header, other, more = (
        ("note,label", "tv,wet", "a,dry") if "wet" in first[-3:] else ("label,note", "wet,tv", "dry,a")
    )
    with pytest.raises(ConfigError, match="line 3, row 2: a quote opens a cell that takes in 3 whole rows"):
        read(tmp_path, f"{header}\n{other}\n{first}\n{other}\n{third}\n{more}\n")
    letter = '"Dear Ann,\nit rains, and\nit is cold, too",wet' if header == "note,label" else 'wet,"Hi, Ann\nbye, Bob"'
    assert len(read(tmp_path, f"{header}\n{other}\n{letter}\n{more}\n").rows) == 3


@pytest.mark.parametrize("cell", ['"7"" tv"', "7in tv", "5' tv", '7" tv', '"a, b"', '"two\nlines"', '"a\n\n, b\n"'])
def test_a_quote_that_is_right_stays_right(tmp_path: Path, cell: str) -> None:
    """Doubled, inside a cell without quotes, or around delimiters and lines: all 40 rows are there."""
    stream = read(tmp_path, quoted(cell, "tv"))
    assert len(stream.rows) == 40
    assert stream.account.findings == ()
    assert features(stream, "note")[9] == cell.removeprefix('"').removesuffix('"').replace('""', '"').strip()


def test_short_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    """With the line of the first one; the rows behind them keep their numbers."""
    lines = csv_text(with_column(ROWS, "temp", lambda n, row: "warm" if n == 30 else row["temp"])).splitlines()
    lines[5], lines[9] = "1,2", "3"
    stream = read(tmp_path, "\n".join(lines))
    assert (stream.account.rows, stream.account.kept) == (40, 38)
    assert "2 of 40 rows are shorter than the header, and left out: line 6, row 5" in stream.account.lines()
    (misfit,) = [finding for finding in stream.account.findings if finding.kind == "misfit"]
    assert (misfit.first[0].row, misfit.first[0].line) == (31, 32)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x,x,label\n1,2,a\n", "two columns, 1 and 2, are called 'x'"),
        ("x, x ,label\n1,2,a\n", "'x'"),
        ("label,x,label\n1,2,a\n", "'label'"),
        ("x,label\n1,a\n2,b,c\n", "line 3 has more fields than the header (3, not 2)"),
        ("x,label\n1,a\n2,b,,c\n", "line 3"),
    ],
)
def test_a_table_that_contradicts_its_header_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """A name that stands twice, a row with more cells."""
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "x,label,\n1,a,\n2,b,\n",
        "x,label\n1,a,\n2,b,\n",
        "x,label\n1,a\n\n2,b\n\n",
        "x,label\n1,a\nx,label\n2,b\n",
        "x,label\r\n1,a\r\n2,b\r\n",
        "x,label\r1,a\r2,b\r",
        "x,label\n1,a\n2,b",
        ",x,label\n0,1,a\n1,2,b\n",
        "Unnamed: 0,x,label\n0,1,a\n1,2,b\n",
        "Unnamed: 0.1,Unnamed: 0,x,label\n0,0,1,a\n1,1,2,b\n",
        '"x","label"\n"row 1",1,"a"\n"row 2",2,"b"\n',
    ],
    ids=[
        *("delimiters at the end", "only of the rows", "blank lines", "header again", "CRLF", "CR", "no last line end"),
        *("index", "Unnamed", "twice", "R"),
    ],
)
def test_what_programs_add_to_a_table_is_no_feature(tmp_path: Path, text: str) -> None:
    """Indices, row names, trailing delimiters, a header in the middle: two rows of one number."""
    stream = read(tmp_path, text)
    assert [(row.features, row.label) for row in stream.rows] == [({"x": 1.0}, "a"), ({"x": 2.0}, "b")]
    assert stream.kinds == {"x": "number"}


def test_an_index_is_said_and_any_column_can_be_dropped(cli: Cli, directory: Path) -> None:
    """`--drop ''` is the column without a name; a name with a comma stands in quotes."""
    rows = [{"": n, "a,b": n, **row} for n, row in enumerate(weather(60))]
    names, *lines = csv_text(rows).splitlines()
    text = "\n".join([names.replace("a,b", '"a,b"'), *lines])
    written(directory, "s.csv", text)
    ended = cli("replay", "s.csv", "--label", "label", "--json")
    assert "column '' is a row number without a name: left out" in ended.err
    ended = cli("replay", "s.csv", "--label", "label", "--json", "--drop", '"","a,b"')
    assert (ended.code, ended.err.count("row number")) == (0, 0), ended.err
    ended = cli("replay", "s.csv", "--label", "label", "--json", "--drop", "")
    assert (ended.code, ended.err.count("row number")) == (0, 0)
    assert read_stream("s.csv", "label", drop=["", "a,b"]).kinds.keys() == {"temp", "humidity", "wind"}


# Dialects.

GERMAN = [
    {k: str(v).replace(".", ",") if isinstance(v, float) else v for k, v in row.items()} | {"wind": "Süd"}
    for row in ROWS
]
PLAIN = csv_text(with_column(ROWS, "wind", lambda *_: "Süd"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.csv", PLAIN.encode()),
        ("s.CSV", PLAIN.encode()),
        ("s.Csv.GZ", gzip.compress(PLAIN.encode())),
        ("s.csv", b"\xef\xbb\xbf" + PLAIN.encode()),
        ("s.csv", PLAIN.encode("utf-16")),
        ("s.csv", PLAIN.encode("utf-16-le")),
        ("s.csv", PLAIN.encode("utf-16-be")),
        ("s.csv", PLAIN.encode("utf-32")),
        ("s.csv", PLAIN.encode("cp1252")),
        ("s.tsv", PLAIN.replace(",", "\t").encode()),
        ("s.txt", PLAIN.replace(",", "|").encode()),
        ("s.csv", PLAIN.replace(",", ";").encode()),
        ("s.csv", csv_text(GERMAN, ";").encode()),
        ("s.csv", csv_text(GERMAN, "\t").encode("cp1252")),
        ("s.csv", ("sep=;\n" + csv_text(GERMAN, ";")).encode("utf-16")),
        ("s.csv", ('"sep=;"\n' + PLAIN.replace(",", ";")).encode()),
        ("s.csv", ("# made by hand\n# on a Friday\n" + PLAIN).encode()),
        ("s.csv", ("#" + PLAIN).encode()),
        ("s.csv", ("# made by hand\n# " + PLAIN).encode()),
        ("s.csv", PLAIN.replace(",", ", ").encode()),
        ("s.csv", PLAIN.replace(",", " , ").encode()),
        ("s.csv", "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.split()).encode()),
    ],
    ids=[
        *("plain", "CSV", "gz", "mark", "UTF-16", "16-le", "16-be", "UTF-32", "cp1252", "tsv", "pipe", "semicolon"),
        *("German", "German tab", "sep=", "sep= quoted", "comments", "header is a comment", "both", "space after"),
        *("spaces around", "all quoted"),
    ],
)
def test_a_dialect_is_found_out(tmp_path: Path, name: str, text: bytes) -> None:
    """The same 40 rows, whoever wrote them."""
    stream = read(tmp_path, text, name)
    expected = [{key: value for key, value in row.items() if key != "label"} | {"wind": "Süd"} for row in ROWS]
    assert [row.features for row in stream.rows] == expected
    assert [row.label for row in stream.rows] == [row["label"] for row in ROWS]
    assert not any(finding.is_loss for finding in stream.account.findings)


def test_what_is_guessed_of_a_dialect_is_said(tmp_path: Path) -> None:
    """Another encoding, a decimal comma."""
    assert any("read as cp1252" in line for line in read(tmp_path, PLAIN.encode("cp1252")).account.lines())
    assert any("is read as" in line for line in read(tmp_path, csv_text(GERMAN, ";")).account.lines())
    late = PLAIN.replace("Süd", "S") + ",".join(["1.5"] * 2) + ",Süd,wet\n" * 1
    stream = read(tmp_path, (PLAIN.replace("Süd", "S").encode() * 1) + late.encode("cp1252").splitlines()[-1])
    assert features(stream, "wind")[-1] == "Süd"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"encoding": "klingon"}, "no such encoding"),
        ({"encoding": "ascii"}, "--encoding"),
        ({"delimiter": "::"}, "one character"),
        ({"delimiter": '"'}, "one character"),
        ({"delimiter": "|"}, "there is no column 'label'"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    """The option is named, or what it leads to."""
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, PLAIN, **options)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_options_tell_what_cannot_be_found_out(cli: Cli, directory: Path) -> None:
    """--delimiter and --encoding, of a command too."""
    text = csv_text(weather(60), "~").replace("wet", "mokrý")
    written(directory, "s.csv", text.encode("iso8859_2"))
    ended = cli("replay", "s.csv", "--label", "label", "--json", "--delimiter", "~", "--encoding", "latin2")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["recall"].keys() == {"dry", "mokrý"}
    stream = read_stream("s.csv", "label", rules=ReadingRules(delimiter="~", encoding="latin2"))
    assert stream.classes == ("dry", "mokrý")


# Types.


@pytest.mark.parametrize(
    "spelling", ["NA", "N/A", "n/a", "null", "NULL", "None", "-", "?", "#N/A", "nan", ".", "missing"]
)
def test_a_spelling_of_missing_leaves_a_number_column_one(tmp_path: Path, spelling: str) -> None:
    """Those cells are missing, and the account says how many and how they are spelt."""
    every_tenth = with_column(ROWS, "temp", lambda n, row: spelling if n % 10 == 0 else row["temp"])
    stream = read(tmp_path, csv_text(every_tenth))
    assert stream.kinds["temp"] == "number"
    assert features(stream, "temp").count(None) == 4
    assert stream.columns["temp"].spellings == {spelling: 4}
    assert stream.account.count("missing") == 4
    assert not any(finding.is_loss for finding in stream.account.findings)


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "", " ", "2"], "number", [1.0, None, None, 2.0]),
        (["1", "inf", "-Infinity", "2"], "number", [1.0, None, None, 2.0]),
        (["True", "FALSE", "true", "NA"], "boolean", [True, False, True, None]),
        (["yes", "no", "yes", ""], "string", ["yes", "no", "yes", None]),
        (["01067", "00501", "10115", "?"], "string", ["01067", "00501", "10115", None]),
        (["2_5", "1_000", "3", "4"], "string", ["2_5", "1_000", "3", "4"]),
        (["0", "0.5", "-0.25", "10"], "number", [0.0, 0.5, -0.25, 10.0]),
        (["1e3", "1E-2", "+5", ".5"], "number", [1000.0, 0.01, 5.0, 0.5]),
        (["1,5", "2,25", "3", "NA"], "number", [1.5, 2.25, 3.0, None]),
        (["1,234", "12", "1,234,567", "1"], "number", [1234.0, 12.0, 1234567.0, 1.0]),
        (["1.234,5", "12", "1.234.567", "0,5"], "number", [1234.5, 12.0, 1234567.0, 0.5]),
        (["1 234", "12", "1 234 567", "0.5"], "number", [1234.0, 12.0, 1234567.0, 0.5]),
        (["1'234.50", "12", "-1'000", "0.5"], "number", [1234.5, 12.0, -1000.0, 0.5]),
        (["$1.50", "$1,234", "$0.10", "-$5"], "number", [1.5, 1234.0, 0.1, -5.0]),
        (["1.50 €", "12 €", "0,10 €", "NA"], "string", ["1.50 €", "12 €", "0,10 €", None]),
        (["1,50 €", "12 €", "0,10 €", "NA"], "number", [1.5, 12.0, 0.1, None]),
        (["12 %", "5%", "0.5 %", "100%"], "number", [12.0, 5.0, 0.5, 100.0]),
        (["(1,200)", "300", "(5)", "7"], "number", [-1200.0, 300.0, -5.0, 7.0]),
        (["−5", "3", "-2", "1"], "number", [-5.0, 3.0, -2.0, 1.0]),
        (["100000000000861798", "1", "2", "3"], "string", ["100000000000861798", "1", "2", "3"]),
        (["١٢", "٣", "1", "2"], "string", ["١٢", "٣", "1", "2"]),
        (["0x10", "1", "2", "3"], "string", ["0x10", "1", "2", "3"]),
        (["2024-03-01", "2024-03-02", "2024-03-03", ""], "string", ["2024-03-01", "2024-03-02", "2024-03-03", None]),
    ],
)
def test_what_a_column_holds_is_told_by_its_cells(
    tmp_path: Path, cells: list[str], kind: str, values: list[object]
) -> None:
    """Numbers as people and spreadsheets write them, truth values, codes."""
    text = "x;z;label\n" + "".join(f"{cell};{n};{'ab'[n % 2]}\n" for n, cell in enumerate(cells))
    stream = read(tmp_path, text)
    assert stream.kinds["x"] == kind
    assert features(stream, "x") == values


@pytest.mark.parametrize(
    "cell", ["2024-03-01", "01.03.2024", "3/1/24", "2024-03-01 12:00:00", "yes", "$5", "1,5", "007"]
)
def test_what_is_not_plain_is_named(tmp_path: Path, cell: str) -> None:
    """Dates, words for true and false, currency, commas and codes: how they are read stands in the account."""
    other = {"yes": "no"}.get(cell, cell)
    text = "x;z;label\n" + "".join(f"{(cell, other)[n % 2]};{n};{'ab'[n % 2]}\n" for n in range(10))
    (line,) = read(tmp_path, text).account.lines()
    assert line.startswith("column 'x': ")


def test_a_column_of_95_percent_numbers_is_one_of_numbers(tmp_path: Path) -> None:
    """The rest is missing, and named with row and value; with 94 % it is a column of texts."""
    rows = weather(100)
    five = with_column(rows, "temp", lambda n, row: "warm" if n in {3, 50, 70, 80, 90} else row["temp"])
    stream = read(tmp_path, csv_text(five))
    assert stream.kinds["temp"] == "number"
    (finding,) = stream.account.findings
    assert (finding.kind, finding.count, finding.is_loss) == ("misfit", 5, True)
    assert [(place.row, place.value) for place in finding.first] == [(4, "'warm'"), (51, "'warm'"), (71, "'warm'")]
    assert "line 5, row 4 'warm'" in finding.text
    six = with_column(five, "temp", lambda n, row: "cold" if n == 7 else row["temp"])
    assert read(tmp_path, csv_text(six)).kinds["temp"] == "string"


def test_a_declared_kind_reaches_the_reader(tmp_path: Path) -> None:
    """A code stays a text, words are truth values, and a column that nobody declared is not read."""
    text = 'zip,flag,price,more,label\n01067,yes,"1,50",5,a\n10115,no,"2,00",6,b\n'
    declared = {"zip": "string", "flag": "boolean", "price": "number"}
    stream = read(tmp_path, text, declared=declared, drops_undeclared=True)
    assert [row.features for row in stream.rows] == [
        {"zip": "01067", "flag": True, "price": 1.5},
        {"zip": "10115", "flag": False, "price": 2.0},
    ]
    assert stream.columns["more"].role == "undeclared"
    numbers = read(tmp_path, text, declared={"zip": "number"}, drops_undeclared=True)
    assert features(numbers, "zip") == [1067.0, 10115.0]


def test_a_declared_kind_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    """The first cell, and how many there are; a column that no row has is named too."""
    with pytest.raises(ConfigError, match=r"line 3, row 2: column 'x' is 'two', not a number as declared.*1 of 2"):
        read(tmp_path, "x,label\n1,a\ntwo,b\n", declared={"x": "number"})
    stream = read(tmp_path, "x,label\n1,a\n2,b\n", declared={"x": "number", "gone": "number"})
    assert "features.declared has 'gone', and no row has a value of it" in stream.account.lines()


def test_an_empty_column_is_no_feature(tmp_path: Path) -> None:
    """It says nothing, and so its kind is unknown."""
    stream = read(tmp_path, "x,e,label\n1,,a\n2,NA,b\n")
    assert stream.kinds == {"x": "number"}
    assert "column 'e' holds no value in any row: it is no feature" in stream.account.lines()


def test_bounds_hold_in_a_file_as_live(tmp_path: Path) -> None:
    """A number, a name or a count of features beyond its limit: the row is refused, or the file in one line."""
    rows = with_column(ROWS, "temp", lambda n, row: "1e15" if n == 4 else row["temp"])
    stream = read(tmp_path, csv_text(rows))
    (finding,) = stream.account.findings
    assert (finding.kind, finding.reason, finding.first[0].row) == ("refused", "number_out_of_range", 5)
    with pytest.raises(ConfigError, match=r"has 300 bytes, 256 allowed \(limits.feature_name_bytes\): rename"):
        read(tmp_path, f"{'x' * 300},label\n1,a\n")
    with pytest.raises(ConfigError, match="4 features, 3 allowed"):
        read(tmp_path, "a,b,c,d,label\n1,2,3,4,a\n", wire=WireRules(features_max=3))


# Labels.


@pytest.mark.parametrize(
    ("cells", "classes", "left_out"),
    [
        (["1", "0", "1.0", "0.0"], ("0", "1"), 0),
        (["True", "False", "TRUE", "false"], ("false", "true"), 0),
        ([" wet", "dry ", "wet", "dry"], ("dry", "wet"), 0),
        (["wet", "NA", "dry", ""], ("dry", "wet"), 2),
        (["wet", "?", "dry", "null"], ("dry", "wet"), 2),
        (["007", "7", "07", "7.0"], ("007", "07", "7"), 0),
    ],
)
def test_labels_are_classes(tmp_path: Path, cells: list[str], classes: tuple[str, ...], left_out: int) -> None:
    """However they are written; a spelling of missing is no class, and those rows are said."""
    stream = read(tmp_path, "x,label\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))
    assert stream.classes == classes
    assert stream.account.count("no_label") == left_out
    assert len(stream.rows) == 4 - left_out


def test_a_declared_class_is_never_missing(tmp_path: Path) -> None:
    """A defect may be called "none"; --na makes any other text missing."""
    text = "x,label\n1,none\n2,crack\n3,9999\n"
    assert read(tmp_path, text, classes=["none", "crack"], na=["9999"]).classes == ("crack", "none")
    assert read(tmp_path, text).classes == ("9999", "crack")


# Strict.


@pytest.mark.parametrize(
    ("text", "strict"),
    [
        ("x,label\n1,a\n2\n", True),
        ("x,label\n1,a\n2,\n", True),
        ("x,label\n1,a\n1e15,b\n", True),
        ("x,label\n" + "1,a\n" * 20 + "one,b\n", True),
        ("x,z,label\n1,1,a\nNA,2,b\n", False),
        (",x,label\n0,1,a\n1,2,b\n", False),
        ("x;label\n1,5;a\n2,5;b\n", False),
    ],
    ids=["short", "no label", "refused", "misfit", "missing", "index", "comma"],
)
def test_strict_makes_an_error_of_a_loss(cli: Cli, directory: Path, text: str, strict: bool) -> None:
    """Of what is left out, not of what is understood."""
    path = written(directory, "s.csv", text)
    assert read_stream(path, "label").account.findings
    ended = cli("replay", path, "--label", "label", "--strict", "--json")
    assert ended.code == (2 if strict else 0), ended.err
    assert not strict or "--strict: " in ended.line


@pytest.mark.parametrize("command", ["replay", "compare"])
def test_commands_say_what_was_left_out(cli: Cli, directory: Path, command: str) -> None:
    """One line each on standard error, and a field of the JSON."""
    rows = with_column(weather(80), "label", lambda n, row: "NA" if n % 8 == 0 else row["label"])
    written(directory, "s.csv", csv_text(rows))
    more = ["--seeds", "1", "--budgets", "0.2", "--strategies", "variable", "--cache", "", "--workers", "1"]
    ended = cli(command, "s.csv", "--label", "label", "--json", *(more if command == "compare" else []))
    assert "streamal: s.csv: 10 of 80 rows have no label, and are left out: line 2, row 1" in ended.err
    account = json.loads(ended.out)["account"]
    assert (account["rows"], account["kept"]) == (80, 70)
    assert account["findings"][0]["first"][0] == {"row": 1, "line": 2, "column": "label", "value": "'NA'"}


def test_missing_numbers_cost_little_accuracy(cli: Cli, directory: Path) -> None:
    """A tenth of one column spelt NA: within three points of the clean file, not eight below."""
    rows = weather()
    written(directory, "clean.csv", csv_text(rows))
    written(directory, "na.csv", csv_text(with_column(rows, "temp", lambda n, r: "NA" if n % 10 == 3 else r["temp"])))
    clean, na = (
        json.loads(cli("replay", name, "--label", "label", "--json").out)["accuracy"]
        for name in ("clean.csv", "na.csv")
    )
    assert clean > 0.8
    assert na > clean - 0.03


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("s.csv", gzip.compress(b"a,label\n"), "it is packed with gzip: let its name end in .gz"),
        ("s.csv", b"PK\x03\x04" + bytes(40), "it is an Excel file or a ZIP archive: save the sheet as CSV"),
        ("s.jsonl", b"PAR1" + bytes(40), "it is a Parquet file: let its name end in .parquet"),
        ("s.csv.gz", b"a,label\n1,b\n", "it is not packed with gzip, as its name says: leave .gz out of the name"),
        ("s.csv.gz", gzip.compress(b"a,label\n1,b\n") + b"more", "other bytes follow what is packed"),
        ("s.csv.gz", gzip.compress(csv_text(ROWS).encode())[:-20], "it is cut off"),
    ],
)
def test_a_file_of_another_kind_says_what_to_do(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    """No codec is blamed for an Excel file."""
    with pytest.raises(ConfigError, match=re.escape(told)):
        read(tmp_path, data, name)


@pytest.mark.parametrize("title", ["Weather in March\n", "Report;2024\n\nMade by,Excel\n", '"A, b"\n# c\n\n'])
def test_lines_of_a_title_above_the_header_are_said(tmp_path: Path, title: str) -> None:
    """The header is the first line with the label."""
    stream = read(tmp_path, title + csv_text(ROWS))
    assert (len(stream.rows), sorted(stream.kinds)) == (40, ["humidity", "temp", "wind"])
    assert "the header is line" in "".join(stream.account.lines())


def test_one_bad_byte_does_not_change_all_other_texts(tmp_path: Path) -> None:
    """A file of UTF-8 with a broken line names it, rather than to be read as Windows-1252."""
    text = csv_text(with_column(ROWS, "wind", lambda *_: "Föhn")).encode().replace("Föhn".encode(), b"F\xf6hn", 1)
    with pytest.raises(ConfigError, match="line 2 is no UTF-8, and other lines are"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["1.5", "2,5"], "100% of the cells are numbers, such as '1.5', in several spellings: declare a number"),
        (["True", "yes", "0"], "100% of the cells are truth values, such as 'True', in several spellings"),
        (["1.5", "2.5", "warm"], "of the cells are numbers, such as '1.5', others are not, such as 'warm'"),
        (["1.5 km", "12 km"], "numbers with a unit, such as '1.5 km', stay texts"),
        (["12%", "0.13"], "'12%' is read as 12, though other cells have no % sign"),
        (["$12", "€13"], "though the cells are of several currencies"),
    ],
)
def test_a_mixture_in_a_column_is_said(tmp_path: Path, cells: list[str], told: str) -> None:
    """What half of the cells are is no silent text, and what is mixed is no silent number."""
    table = csv_text(with_column(ROWS, "x", lambda number, _: cells[number % len(cells)]), ";")
    assert any(told in line for line in read(tmp_path, table).account.lines())


@pytest.mark.parametrize("cells", [["red", "blue"], ["A1", "B2"], ["10-20", "20-30"], ["1.2.3", "10.0.1"]])
def test_plain_texts_are_nothing_to_say(tmp_path: Path, cells: list[str]) -> None:
    """A clean column of texts has no finding, whatever digits are in it."""
    table = csv_text(with_column(ROWS, "x", lambda number, _: cells[number % len(cells)]))
    assert read(tmp_path, table).account.lines() == []


def test_errors_of_a_spreadsheet_are_missing(tmp_path: Path) -> None:
    """A cell that Excel could not compute is no text."""
    cells = ["#DIV/0!", "#VALUE!", "3", "4"]
    stream = read(tmp_path, csv_text(with_column(ROWS, "x", lambda number, _: cells[number % 4])))
    assert stream.kinds["x"] == "number"
    assert features(stream, "x")[:4] == [None, None, 3.0, 4.0]


def test_decimal_commas_in_a_file_of_commas_are_no_row_names(tmp_path: Path) -> None:
    """Each row has a cell more than the header, as R's have; but its first cells are not distinct."""
    text = "temp,wind,label\n" + "".join(f"{n % 9},5,N,wet\n" for n in range(40))
    with pytest.raises(ConfigError, match=r"line 2 has more fields than the header .4, not 3.: .* a decimal comma"):
        read(tmp_path, text)


@pytest.mark.parametrize("declared", [{}, {"x": "number"}])
def test_a_number_may_mean_missing(tmp_path: Path, declared: dict[str, str]) -> None:
    """Loggers write -9999; in a column of numbers alone, too."""
    text = csv_text(with_column(ROWS, "x", lambda number, _: -9999 if number % 4 == 0 else number))
    stream = read(tmp_path, text, na=["-9999"], declared=declared)
    assert features(stream, "x")[:3] == [None, 1.0, 2.0]
    assert "spelt '-9999' 10" in "".join(stream.account.lines())


def test_a_text_is_no_vector(tmp_path: Path) -> None:
    """A daemon would refuse the text of a list where a vector is declared."""
    text = csv_text(with_column(ROWS, "v", lambda number, _: f'"[{number}, 1]"'))
    with pytest.raises(ConfigError, match=r"column 'v' is '.0, 1.', not a vector.2. as declared"):
        read(tmp_path, text, declared={"v": "vector(2)"})


@pytest.mark.parametrize("encoding", ["rot13", "base64", "idna", "utf-16"])
@pytest.mark.parametrize("name", ["s.csv", "s.jsonl"])
def test_no_encoding_makes_a_traceback(tmp_path: Path, name: str, encoding: str) -> None:
    """What Python calls a codec may be none of texts; and UTF-16 may lack its mark."""
    with pytest.raises(ConfigError, match=f"s.{name[2:]}: "):
        read(tmp_path, csv_text(ROWS), name, encoding=encoding)


def test_the_label_cannot_be_dropped(tmp_path: Path) -> None:
    """One line, no KeyError."""
    with pytest.raises(ConfigError, match="column 'label' is to be dropped, and is named as label or time"):
        read_stream(written(tmp_path, "s.csv", csv_text(ROWS)), "label", drop=["label"])


@pytest.mark.parametrize(("other", "value"), [("0,5", 1234.0), ("0.5", 1.234)])
def test_points_separate_thousands_beside_decimal_commas(tmp_path: Path, other: str, value: float) -> None:
    """A German spreadsheet writes 1.234 for 1234: the other columns tell it from one point and 234 thousandths."""
    rows = with_column(ROWS, "temp", lambda *_: other)
    rows = with_column(rows, "humidity", lambda number, _: ["1.234", "987", "", "5.678"][number % 4])
    stream = read(tmp_path, csv_text(rows, ";"))
    assert features(stream, "humidity")[:3] == [value, 987.0, None]
    said = "column 'humidity': '1.234' is read as 1234, since other columns have decimal commas"  # the first cell
    assert (said in stream.account.lines()) is (value > 2)
