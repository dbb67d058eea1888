"""Corpora: complete, deterministic, split by content, and clear about what is missing."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

import corpus
from corpus import CorpusError
from tests.workspace.folders import make_texts


def test_the_standard_library_gives_the_same_corpus_twice() -> None:
    first, second = corpus.stdlib(50_000), corpus.stdlib(50_000)
    assert first.manifest == second.manifest
    assert first.name == f"python-{sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]}-stdlib"
    assert sum(map(len, first.train())) > 3_000_000
    assert list(first.val()) == list(second.val())


def test_the_standard_library_comes_without_what_distributions_split_off() -> None:
    everything = b"".join(corpus.stdlib(50_000).train())
    assert b"class OrderedDict(dict):" in everything
    for other in (b"import idlelib", b"class TestCase_", b"build_time_vars = {"):
        assert other not in everything


def stream_of(*texts: bytes) -> corpus.Corpus:
    return corpus.by_hash("t", lambda: iter(texts), 60)


def test_the_split_follows_content_not_order_or_repetition() -> None:
    texts = [b"%03d " % n + b"x" * (n % 4) for n in range(100)]
    one, other = stream_of(*texts), stream_of(*reversed(texts), *texts[:30])
    assert one.manifest == other.manifest
    assert list(one.val()) == list(other.val())
    assert sorted(one.train()) == sorted(other.train())
    assert list(one.audit()) == list(other.audit())
    parts = [list(one.train()), list(one.val()), list(one.audit())]
    assert sorted(text for part in parts for text in part) == sorted(texts), "each document is in one part, once"
    for held_out in parts[1:]:
        assert 60 <= sum(map(len, held_out)) < 60 + 8


def test_another_byte_is_another_manifest() -> None:
    texts = [b"%03d" % n for n in range(100)]
    assert stream_of(*texts).manifest != stream_of(*texts, b"more").manifest


def test_a_large_document_is_never_held_out() -> None:
    texts = [b"%03d" % n for n in range(100)]
    for filler in range(20):
        large = bytes([filler]) * 30
        assert large in list(stream_of(*texts, large).train())


def test_too_little_text_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(CorpusError, match="lower it or add text"):
        stream_of(b"short", b"texts")


def test_files_come_from_folders_globs_and_lists(tmp_path: Path) -> None:
    texts = make_texts(tmp_path)
    (texts / ".hidden").write_text("a secret of the editor")
    whole = corpus.files(["texts"], 4000, "text", tmp_path)
    globbed = corpus.files(["texts/*.txt"], 4000, "text", tmp_path)
    listed = corpus.files([str(path) for path in texts.glob("*.txt")], 4000, "text", tmp_path / "elsewhere")
    assert whole.manifest == globbed.manifest == listed.manifest
    together = b"".join(whole.train()) + b"".join(whole.val())
    assert b"secret" not in together
    assert len(together) <= sum(path.stat().st_size for path in texts.glob("*.txt"))


def test_files_in_a_folder_with_a_hostile_name(hostile: Path) -> None:
    make_texts(hostile)
    assert list(corpus.files(["texts/**/*.txt"], 4000, "text", hostile).val())


def test_pieces_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    content = "".join(f"line {n} ☃\n" * (n % 5) for n in range(2000)) + "x" * 3000
    path.write_text(content)
    got = list(corpus.pieces(path, 500))
    assert b"".join(got).decode() == content
    assert max(map(len, got)) <= 500 + 500


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes("Grüße".encode("latin-1"))
    assert b"".join(corpus.pieces(path, 500)).decode() == "Gr\ufffd\ufffde"


def test_no_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no files match .*nothing.*set paths"):
        corpus.files(["nothing/*.txt"], 4000, "text", tmp_path)


@pytest.fixture
def parquet(tmp_path: Path) -> Iterator[Path]:
    texts = [f"row {n} " + "words " * (n % 7) for n in range(900)]
    table = pyarrow.table({"id": list(range(900)), "body": [*texts[:-1], None]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=100)
    yield tmp_path / "rows.parquet"
    shutil.rmtree(tmp_path)


def test_rows_of_a_parquet_file_are_documents(parquet: Path) -> None:
    rows = corpus.files([parquet.name], 2000, "body", parquet.parent)
    assert len({*rows.train(), *rows.val(), *rows.audit()}) == 899
    assert b"row 7 " in {*rows.train(), *rows.val(), *rows.audit()}


def test_a_missing_column_names_those_that_there_are(parquet: Path) -> None:
    with pytest.raises(CorpusError, match=r"no column 'text'.*id, body"):
        corpus.files([parquet.name], 2000, "text", parquet.parent)


def test_parquet_without_pyarrow_names_the_package(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(CorpusError, match="pip install pyarrow"):
        corpus.files([parquet.name], 2000, "body", parquet.parent)
