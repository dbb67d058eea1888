"""Tokenizer and token files. Fixed; part of the arena.

Byte-level BPE, trained on the training part alone, once per corpus and vocabulary. Token 0 opens every document and
stands for no bytes; every other token stands for a string of raw bytes, whose length is in token_bytes.npy.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from corpus import Corpus, CorpusError

SEPARATOR = "<|document|>"
# Words with the sign before them, numbers by two digits, signs with the line end and indentation behind them, space.
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+(?:[\r\n]+ *)?|\s*[\r\n]+ *|\s+(?!\S)|\s+"
BATCH_BYTES = 1 << 20  # bytes of text handed to the tokenizer at once: bounds memory at any size of the corpus
FACT_BYTES = 1 << 25  # bytes: facts about a larger validation part are taken from its beginning

Progress = Callable[[str, float], None]


def train_tokenizer(documents: Iterable[bytes], vocab_size: int, limit_bytes: int) -> Tokenizer:
    """A byte-level BPE of `vocab_size` tokens from the first `limit_bytes` of `documents`. Deterministic."""
    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(documents, limit_bytes), trainer)
    return tokenizer


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytewise])
    return tokenizer


def _texts(documents: Iterable[bytes], limit_bytes: int) -> Iterator[str]:
    taken = 0
    for document in documents:
        yield document.decode()
        taken += len(document)
        if taken >= limit_bytes:
            return


def token_bytes(tokenizer: Tokenizer) -> npt.NDArray[np.int32]:
    """(vocab_size,) number of raw bytes that each token stands for; 0 for the separator.

    A byte-level token is spelt with one character per byte, so its bytes are counted without decoding it: tokens that
    are no valid UTF-8 by themselves count right.
    """
    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.int32)
    for text, index in tokenizer.get_vocab().items():
        lengths[index] = 0 if text == SEPARATOR else len(text)
    return lengths


def write_tokens(
    path: Path, tokenizer: Tokenizer, documents: Iterable[bytes], progress: Callable[[int], None]
) -> dict[str, Any]:
    """Write `documents` as one stream of tokens; returns its record for data.json. `progress` hears of bytes done."""
    dtype = token_dtype(tokenizer.get_vocab_size())
    tokens = size = 0
    with path.open("wb") as file:
        for batch in _batches(documents):
            for item in tokenizer.encode_batch_fast([text.decode() for text in batch], add_special_tokens=False):
                np.array([0, *item.ids], dtype=dtype).tofile(file)
                tokens += 1 + len(item.ids)
            size += sum(map(len, batch))
            progress(size)
        file.flush()
        os.fsync(file.fileno())
    return {"path": path.name, "tokens": tokens, "bytes": size}


def _batches(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def facts(corpus: Corpus) -> dict[str, float]:
    """What simple models reach on the validation bytes, in bits per byte: the yardsticks for a score."""
    counts = np.ones(256)
    for document in corpus.train():
        counts += np.bincount(np.frombuffer(document, dtype=np.uint8), minlength=256)
    held_out = bytearray()
    for document in corpus.val():
        held_out += document
        if len(held_out) >= FACT_BYTES:
            break
    seen = np.bincount(np.frombuffer(held_out, dtype=np.uint8), minlength=256)
    order0 = -float(seen @ np.log2(counts / counts.sum())) / len(held_out)
    return {"order0_bpb": order0, "zlib9_bpb": 8 * len(zlib.compress(held_out, 9)) / len(held_out)}


def build(folder: Path, corpus: Corpus, vocab_size: int, limit_bytes: int, progress: Progress) -> dict[str, Any]:
    """Fill `folder` with tokenizer.json, token_bytes.npy and the three parts; returns what data.json says of them.

    Raises:
        CorpusError: the text does not yield so many tokens.
    """
    progress("learning the tokenizer", 0.0)
    tokenizer = train_tokenizer(corpus.train(), vocab_size, limit_bytes)
    if tokenizer.get_vocab_size() != vocab_size:
        raise CorpusError(
            f"{corpus.name} yields {tokenizer.get_vocab_size()} tokens, not vocab_size = {vocab_size}; "
            "set a smaller vocab_size in [data.options], or add text"
        )
    write_file(folder / "tokenizer.json", tokenizer.to_str(pretty=True).encode())
    np.save(folder / "token_bytes.npy", token_bytes(tokenizer), allow_pickle=False)
    total = sum(map(len, corpus.train()))
    held_out = {
        part: write_tokens(folder / f"{part}.bin", tokenizer, texts(), lambda _done: progress("writing tokens", 0.0))
        for part, texts in (("val", corpus.val), ("audit", corpus.audit))
    }
    train = write_tokens(
        folder / "train.bin", tokenizer, corpus.train(), lambda done: progress("writing tokens", done / total)
    )
    names = ("train.bin", "val.bin", "audit.bin", "token_bytes.npy", "tokenizer.json")
    return {
        "name": corpus.name,
        "manifest": corpus.manifest,
        "vocab_size": vocab_size,
        "dtype": token_dtype(vocab_size).name,
        "train": train,
        **held_out,
        "token_bytes": "token_bytes.npy",
        "files": [{"path": name, "sha256": _file_digest(folder / name)} for name in names],
        "facts": facts(corpus),
    }


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The narrowest unsigned integer that holds every token."""
    return np.dtype("uint16" if vocab_size <= 1 << 16 else "uint32")


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_file(path: Path, content: bytes) -> None:
    """Write by temporary file, fsync and rename: a reader sees the old bytes or the new, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, record: object) -> None:
    """`write_file` for a record."""
    write_file(path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a rename is only on disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
