"""Tokens: byte counts are those of the text, files are what was encoded, facts are what they say."""

import math
import resource
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpus
import tokens
from corpus import Corpus, CorpusError

TEXTS = [f"def f{n}(x):\n    return x + {n}  # ☃ naïve\n".encode() for n in range(300)]
TOKENIZER = tokens.train_tokenizer(TEXTS, 300, 1 << 20)


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_token_bytes_add_up_to_the_bytes_of_any_text(text: str) -> None:
    """Single bytes of a character that it never saw count one each, which a round trip through str denies."""
    lengths = tokens.token_bytes(TOKENIZER)
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert int(lengths[ids].sum()) == len(text.encode())


def test_the_separator_stands_for_no_bytes_and_cannot_be_written_in_text() -> None:
    lengths = tokens.token_bytes(TOKENIZER)
    assert lengths[0] == 0
    assert (lengths[1:] > 0).all()
    assert lengths.shape == (300,)


def test_the_same_text_trains_the_same_tokenizer() -> None:
    assert tokens.train_tokenizer(TEXTS, 300, 1 << 20).to_str() == TOKENIZER.to_str()


def test_a_token_file_holds_the_documents_one_after_another(tmp_path: Path) -> None:
    heard: list[int] = []
    record = tokens.write_tokens(tmp_path / "x.bin", TOKENIZER, TEXTS, heard.append)
    written = np.fromfile(tmp_path / "x.bin", dtype=np.uint16)
    documents = np.split(written, np.flatnonzero(written == 0))[1:]
    lengths = tokens.token_bytes(TOKENIZER)
    assert record == {"path": "x.bin", "tokens": len(written), "bytes": sum(map(len, TEXTS))}
    assert [int(lengths[d].sum()) for d in documents] == [len(text) for text in TEXTS]
    assert TOKENIZER.decode(documents[7][1:].tolist(), skip_special_tokens=False).encode() != b""
    assert heard[-1] == sum(map(len, TEXTS))


def test_wide_vocabularies_get_wide_tokens() -> None:
    assert tokens.token_dtype(1 << 16) == np.uint16
    assert tokens.token_dtype((1 << 16) + 1) == np.uint32


def split(train: list[bytes], val: list[bytes]) -> Corpus:
    return Corpus(name="t", manifest="m", train=lambda: iter(train), val=lambda: iter(val), audit=lambda: iter(val))


def test_facts_are_the_yardsticks_they_claim_to_be() -> None:
    train, val = [b"aaab"], [b"ab", b"ba"]
    found = tokens.facts(split(train, val))
    a, b = 4 / 260, 2 / 260
    assert found["order0_bpb"] == pytest.approx(-(2 * math.log2(a) + 2 * math.log2(b)) / 4)
    assert found["zlib9_bpb"] == 8 * len(zlib.compress(b"abba", 9)) / 4


def test_a_vocabulary_that_the_text_cannot_fill_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="smaller vocab_size"):
        tokens.build(tmp_path, split([b"abc"], [b"c"]), 5000, 1000, lambda _phase, _share: None)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x"
    tokens.write_file(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # the kernel takes no more, as on a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            tokens.write_file(path, b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"


def test_the_whole_embedded_corpus_counts_its_bytes_right(tmp_path: Path) -> None:
    library = corpus.stdlib(30_000)
    record = tokens.write_tokens(tmp_path / "val.bin", TOKENIZER, library.val(), lambda _done: None)
    written = np.fromfile(tmp_path / "val.bin", dtype=np.uint16)
    assert int(tokens.token_bytes(TOKENIZER)[written].sum()) == record["bytes"] == sum(map(len, library.val()))
