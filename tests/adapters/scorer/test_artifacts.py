"""Artifacts that are broken or bring code: a crash or invalid, with a reason, and nothing of them is run."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.adapters.scorer.graphs import (
    BATCH,
    LENGTH,
    Altered,
    Bench,
    Honest,
    answer,
    edit_graph,
    refusal,
    rewrite,
    save,
    save_honest,
    wraps_in_autocast,
)


def test_a_missing_artifact_is_a_crash(bench: Bench) -> None:
    assert refusal(bench) == ("crash", "no_artifact")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_archive_is_a_crash(bench: Bench, content: bytes) -> None:
    bench.artifact.write_bytes(content)
    assert refusal(bench) == ("crash", "bad_artifact")


def test_an_archive_cut_short_is_a_crash(bench: Bench) -> None:
    save_honest(bench)
    bench.artifact.write_bytes(bench.artifact.read_bytes()[:-2000])
    assert refusal(bench) == ("crash", "bad_artifact")


def test_weights_cut_short_are_a_crash(bench: Bench) -> None:
    save_honest(bench)
    rewrite(bench.artifact, lambda name, content: {name: content[:8] if "/weight_" in name else content})
    assert refusal(bench) == ("crash", "bad_artifact")


BROKEN: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "another vocabulary": ("shape", lambda _tokens, logits: logits[..., :-1]),
    "last position only": ("shape", lambda _tokens, logits: logits[:, -1]),
    "whole numbers": ("shape", lambda _tokens, logits: logits.long()),
    "NaN": ("nan", lambda _tokens, logits: logits / 0.0 * 0.0),
    "infinite logits": ("nan", lambda _tokens, logits: logits + torch.inf),
    "certain of something else": ("nan", lambda tokens, logits: logits.masked_fill(logits < 1e9, -torch.inf)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_logits_that_are_none_are_a_crash(bench: Bench, name: str) -> None:
    kind, change = BROKEN[name]
    save(Altered(change), bench.artifact)
    assert refusal(bench) == ("crash", kind)


def test_another_batch_shape_fails_on_the_validation_tokens(bench: Bench) -> None:
    save(Honest(), bench.artifact, shape=(BATCH, LENGTH // 2))
    assert refusal(bench)[0] == "crash"


# --- code in the archive


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_in_the_sample_inputs_is_never_opened(bench: Bench) -> None:
    save_honest(bench)
    mark = bench.folder / "executed"
    bomb = pickle.dumps(Bomb(mark))
    pickle.loads(bomb)
    assert mark.exists(), "the bomb works"
    mark.unlink()
    rewrite(bench.artifact, lambda name, content: {name: bomb if "sample_inputs" in name else content})
    assert answer(bench)["ok"] is True
    assert not mark.exists()


@pytest.mark.parametrize("folder", ["weights", "constants"])
def test_a_weight_stored_as_a_pickle_is_invalid(bench: Bench, folder: str) -> None:
    save_honest(bench)
    mark = bench.folder / "executed"

    def change(name: str, content: bytes) -> dict[str, bytes]:
        if name.endswith(f"model_{folder}_config.json"):
            config = json.loads(content)
            for entry in config["config"].values():
                entry["use_pickle"] = True
            return {name: json.dumps(config).encode()}
        return {name: pickle.dumps(Bomb(mark)) if f"/{folder}/" in name else content}

    rewrite(bench.artifact, change)
    assert refusal(bench) == ("invalid", "forbidden")
    assert not mark.exists()


@pytest.mark.parametrize(
    "member", ["m/data/constants/custom_obj_0", "m/data/aotinductor/model/a.so", "m/extra/../../x", "m/code.py"]
)
def test_a_member_that_export_does_not_write_is_invalid(bench: Bench, member: str) -> None:
    save_honest(bench)
    with zipfile.ZipFile(bench.artifact, "a") as archive:
        archive.writestr(member, b"x")
    assert refusal(bench) == ("invalid", "forbidden")


FORBIDDEN_TARGETS = [
    "torch.ops.mine.op.default",
    "torch.ops.aten.from_file.default",
    "torch.ops.aten.empty.memory_format",
    "torch.ops.aten.new_empty.default",
    "torch.ops.aten.set_.source_Tensor",
    "torch.ops.aten.resize_.default",
    "torch.ops.higher_order.cond",
    "torch.ops.aten.__class__.default",
    "torch.load",
    "os.system",
    "_operator.call",
    "torch.ops.aten.add.Tensor; import os",
]


@pytest.mark.parametrize("target", FORBIDDEN_TARGETS)
def test_only_torchs_own_operators_are_run(bench: Bench, target: str) -> None:
    save_honest(bench)

    def edit(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    edit_graph(bench.artifact, edit)
    verdict, kind = refusal(bench)
    assert (verdict, kind) in {("invalid", "forbidden"), ("crash", "bad_artifact")}


def test_symbolic_shapes_are_not_evaluated(bench: Bench) -> None:
    save_honest(bench)
    mark = bench.folder / "executed"
    expression = f"__import__('pathlib').Path({str(mark)!r}).touch()"

    def edit(program: dict[str, Any]) -> None:
        node = program["graph_module"]["graph"]["nodes"][0]
        node["inputs"].append({"name": "x", "arg": {"as_sym_int": {"as_name": expression}}, "kind": 2})

    edit_graph(bench.artifact, edit)
    assert refusal(bench) == ("invalid", "forbidden")
    assert not mark.exists()


def test_nested_code_in_a_subgraph_is_found(bench: Bench) -> None:
    save(Altered(wraps_in_autocast), bench.artifact)

    def edit(program: dict[str, Any]) -> None:
        for node in program["graph_module"]["graph"]["nodes"]:
            for item in node["inputs"]:
                if "as_graph" in item["arg"]:
                    item["arg"]["as_graph"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"

    edit_graph(bench.artifact, edit)
    assert refusal(bench) == ("invalid", "forbidden")
