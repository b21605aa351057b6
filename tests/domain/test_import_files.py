"""Reading a file of rows in bounded pieces, going on in the middle, and the file of rejected rows."""

import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.import_files import LONGEST, ROWS, Complaint, FileError, Lines, RejectedFile, SourceFile

BOM = b"\xef\xbb\xbf"


def source(tmp_path: Path, content: bytes) -> SourceFile:
    path = tmp_path / "rows.ndjson"
    path.write_bytes(content)
    made = SourceFile(path)
    made.begin()
    return made


def every(file: SourceFile) -> list[Lines]:
    found = []
    while (lines := file.lines()) is not None:
        found.append(lines)
    return found


def texts(batches: list[Lines]) -> list[bytes | None]:
    return [line for batch in batches for line in batch.lines]


@pytest.mark.parametrize("start", [b"", BOM])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [b"", b"\n"])
def test_lines_come_as_they_stand_there(tmp_path: Path, start: bytes, ending: bytes, last: bytes) -> None:
    content = start + ending.join([b"one", b"", b"three"]) + last
    with source(tmp_path, content) as file:
        (lines,) = every(file)
    assert (lines.first, lines.lines) == (1, (b"one", b"", b"three"))
    assert (lines.after.offset, lines.after.line) == (len(content), 3)


@pytest.mark.parametrize("content", [b"", BOM])
def test_an_empty_file_has_no_lines(tmp_path: Path, content: bytes) -> None:
    with source(tmp_path, content) as file:
        assert every(file) == []


def test_batches_are_bounded_and_number_their_lines_on(tmp_path: Path) -> None:
    with source(tmp_path, b"x\n" * (2 * ROWS + 5)) as file:
        batches = every(file)
    assert [(batch.first, len(batch.lines)) for batch in batches] == [(1, ROWS), (ROWS + 1, ROWS), (2 * ROWS + 1, 5)]


@pytest.mark.parametrize("size", [LONGEST - 1, LONGEST, LONGEST + 1, LONGEST + 2, LONGEST + 3, 5 * LONGEST, 3_000_000])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
def test_a_line_that_is_too_long_is_passed_over_whole_and_alone(tmp_path: Path, size: int, ending: bytes) -> None:
    long = b"x" * size
    after = [b"after"] if ending else []
    content = b"before\n" + long + ending + b"".join(after)
    with source(tmp_path, content) as file:
        batches = every(file)
    assert texts(batches) == [b"before", long if size <= LONGEST else None, *after]
    assert batches[-1].after.offset == len(content)


@settings(max_examples=50)
@given(
    st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"").rstrip(b"\r")), min_size=1, max_size=3000),
    st.data(),
)
def test_who_goes_on_at_a_place_reads_what_is_left(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], data: st.DataObject
) -> None:
    lines = (lines * (ROWS // len(lines) + 1)) if data.draw(st.booleans()) else lines
    with source(tmp_path_factory.mktemp("file"), b"\n".join(lines)) as file:
        batches = every(file)
        for number, batch in enumerate(batches):
            assert file.go_to(batch.after)
            assert file.place == batch.after
            assert every(file) == batches[number + 1 :]


def test_who_goes_on_in_another_file_is_told(tmp_path: Path) -> None:
    with source(tmp_path, b"a\n" * 3000) as file:
        place = every(file)[1].after
    with source(tmp_path, b"a\n" * 1500 + b"b\n" * 1500) as changed:
        assert not changed.go_to(place)
    with source(tmp_path, b"a\n" * 1500) as shorter:
        assert not shorter.go_to(place)
    with source(tmp_path, b"a\n" * 2000 + b"b\n" * 1000) as same_so_far:
        assert same_so_far.go_to(place)


def test_files_are_told_apart_by_size_and_beginning(tmp_path: Path) -> None:
    contents = [b"a\n" * 10, b"a\n" * 11, b"b\n" * 10]
    names = []
    for content in contents:
        with source(tmp_path, content) as file:
            names.append(file.identity)
    assert len(set(names)) == len(contents)
    with source(tmp_path, contents[0]) as again:
        assert again.identity == names[0]


def test_what_is_added_while_it_is_read_is_not_read(tmp_path: Path) -> None:
    with source(tmp_path, b"one\ntwo") as file:
        with file.path.open("ab") as other:
            other.write(b"more\nthree\n")
        assert texts(every(file)) == [b"one", b"two"]


def test_what_cannot_be_read_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read: No such file"):
        SourceFile(tmp_path / "none")
    with pytest.raises(FileError, match="no plain file"):
        SourceFile(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileError, match="no plain file"):
        SourceFile(pipe)


# --- Rejected rows ---


def test_complaints_are_lines_of_json_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "rejected"
    with RejectedFile(path) as file:
        assert file.write([]) == 0
        size = file.write([Complaint(3, "mobile", "format"), Complaint(5, "", "malformed")])
    assert size == path.stat().st_size
    assert [orjson.loads(line) for line in path.read_bytes().splitlines()] == [
        {"line": 3, "field": "mobile", "reason": "format"},
        {"line": 5, "field": "", "reason": "malformed"},
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_written_after_a_place_is_cut_off_and_what_was_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "rejected"
    with RejectedFile(path) as file:
        size = file.write([Complaint(1, "", "columns")])
        kept = path.read_bytes()
        file.write([Complaint(2, "", "columns")])
    with RejectedFile(path) as file:
        assert not file.cut(10_000)
        assert file.cut(size)
        assert path.read_bytes() == kept
        file.write([Complaint(3, "", "tooLong")])
    assert [orjson.loads(line)["line"] for line in path.read_bytes().splitlines()] == [1, 3]


def test_two_cannot_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "rejected"
    with RejectedFile(path), pytest.raises(FileError, match="another import is writing"):
        RejectedFile(path)
    with RejectedFile(path) as free_again:
        assert free_again.write([]) == 0


def test_what_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written"):
        RejectedFile(tmp_path / "none" / "rejected")
