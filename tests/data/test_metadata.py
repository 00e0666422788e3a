from pathlib import Path

import pytest

from reverie.data.metadata import Record, records


def rows(root: Path, data: bytes) -> list[tuple[str, object]]:
    (root / "metadata.csv").write_bytes(data)
    return [
        (row.where, dict(row.values)) if isinstance(row, Record) else (row.path, row.reason)
        for row in records(root, root / "metadata.csv")
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_cells_are_read_as_what_most_of_their_column_are(tmp_path, mark, end):
    lines = ["file_name,text,age,night,,title", '1,"2, ""3""",4,True,x,1984', "b,7,,false,y,Emma", "c, ,n/a,,z,Ulysses"]
    lines += ["d,q,5e-1, TRUE,z,"]
    assert rows(tmp_path, mark + end.join(line.encode() for line in lines)) == [
        ("metadata.csv line 2", {"file_name": "1", "text": '2, "3"', "age": 4.0, "night": True, "title": "1984"}),
        ("metadata.csv line 3", {"file_name": "b", "text": "7", "night": False, "title": "Emma"}),
        ("metadata.csv line 4", {"file_name": "c", "age": "n/a", "title": "Ulysses"}),
        ("metadata.csv line 5", {"file_name": "d", "text": "q", "age": 0.5, "night": True}),
    ]


def test_damaged_rows_are_named_by_the_line_they_begin_in_and_the_rest_is_read(tmp_path):
    table = (
        b'file_name,text\na.png,"two\nlines"\nb.png\n\n,nobody\nc.png,caf\xe9\nd.png,"x"y\ne.png,fine\nf.png,"no end\ng'
    )
    assert rows(tmp_path, table) == [
        ("metadata.csv line 2", {"file_name": "a.png", "text": "two\nlines"}),
        ("metadata.csv line 4", "has 1 cells under 2 columns"),
        ("metadata.csv line 6", "names no image"),
        ("metadata.csv line 7", "not UTF-8"),
        ("metadata.csv line 8", "no CSV (',' expected after '\"')"),
        ("metadata.csv line 9", {"file_name": "e.png", "text": "fine"}),
        ("metadata.csv line 10", "no CSV (unexpected end of data)"),
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "has no column file_name"),
        (b"name,text\na.png,x\n", "has no column file_name"),
        (b'"file_name', "no CSV (unexpected end of data)"),
    ],
)
def test_a_table_without_a_head_is_one_trouble(tmp_path, data, said):
    assert rows(tmp_path, data) == [("metadata.csv line 1", said)]


def test_two_columns_of_one_name(tmp_path):
    assert rows(tmp_path, b"file_name,x,x\na,1,2\n") == [
        ("metadata.csv line 1", "has several columns 'x'; the last counts"),
        ("metadata.csv line 2", {"file_name": "a", "x": 2.0}),
    ]


def test_no_file_has_no_rows(tmp_path):
    assert list(records(tmp_path, tmp_path / "metadata.jsonl")) == []
