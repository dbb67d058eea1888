"""The comparison with the ancestor, as far as it goes without a GPU: its plumbing, with a stand-in for its file."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import ancestor, train_cuda
from ralph.adapters.data import read_prepared
from ralph.adapters.process import become_subreaper

STAND_IN = """\
import torch, torch.nn as nn
from kernels import get_kernel
cap = torch.cuda.get_device_capability()
attention = get_kernel("somebody/attention").flash_attn_interface
from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, make_dataloader, evaluate_bpb

class Model(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.table, self.head = nn.Embedding(vocabulary, 16), nn.Linear(16, vocabulary, bias=False)
    def forward(self, tokens, targets=None):
        x = self.table(tokens).view(*tokens.shape, 2, 8)
        x = attention.flash_attn_func(x, x, x, causal=True, window_size=(MAX_SEQ_LEN // 2, 0)).flatten(2)
        return self.head(x).float()

STEPS = 1  # replaced
torch.manual_seed(42)
torch.cuda.manual_seed(42)
device = torch.device("cuda")
tokenizer = Tokenizer.from_directory()
model = Model(tokenizer.get_vocab_size()).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
with torch.amp.autocast(device_type="cuda", dtype=torch.bfloat16):
    for step, (x, y, epoch) in zip(range(STEPS), make_dataloader(tokenizer, 4, MAX_SEQ_LEN, "train")):
        torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.cuda.synchronize()
    val_bpb = evaluate_bpb(model, tokenizer, 4)
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {TIME_BUDGET:.1f}")
print(f"peak_vram_mb:     {torch.cuda.max_memory_allocated() / 1024 / 1024:.1f}")
print(f"mfu_percent:      {10 * epoch:.2f}")
print(f"total_tokens_M:   {25.0:.1f}")
print(f"num_steps:        {STEPS}")
print(f"num_params_M:     {0.1:.1f}")
"""
OPTIONS = {"corpus": "files", "vocab_size": 300, "sequence_len": 32, "score_batch": 4, "val_bytes": 4000}


def options(train: Path, device: str, *constants: str) -> argparse.Namespace:
    words = ["--train", str(train), "--data", "data.json", "--artifact", "model.pt2", "--seed", "7", "--device", device]
    return ancestor.arguments([*words, *(word for each in constants for word in ("--set", each))])


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> train_cuda.Bench:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    become_subreaper()
    made = train_cuda.Bench(work=tmp_path, device="cpu", budget_s=0.5)
    made.layout.root.mkdir()
    made.make(OPTIONS | {"paths": [str(train_cuda.ROOT / "workspace" / "*.py")]})
    return made


@pytest.mark.slow
def test_both_are_trained_on_the_same_data_and_scored_by_our_scorer(bench: train_cuda.Bench, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "train.py").write_text(STAND_IN)
    data = bench.prepare()
    assert read_prepared(data.descriptor).sha256 == data.sha256
    theirs = train_cuda.ancestor(bench, data, tmp_path / "theirs" / "train.py", 3, ["STEPS=31"])
    assert theirs.get("refused", "") == ""
    assert 2.0 < theirs["val_bpb"] < 8.0
    assert theirs["steps"] == 31
    assert theirs["tokens_per_s"] == round(25e6 * 20 / 31 / 0.5), "its first 11 steps are not in its seconds"
    mine = train_cuda.ours(bench, data, 3)
    assert 2.0 < mine["val_bpb"] < 8.0, mine
    assert mine["cold"] is True


@pytest.mark.slow
def test_a_run_that_fails_is_a_row_that_says_so(bench: train_cuda.Bench, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('no kernel')\n")
    row = train_cuda.ancestor(bench, bench.prepare(), tmp_path / "train.py", 1, [])
    assert row["failed"] == "status 1"
    assert "no kernel" in row["tail"]
    assert "| ancestor | 1 | 0.5 | failed: status 1 |" in train_cuda.table([row])


def test_its_seed_and_constants_are_replaced_and_on_cuda_nothing_else(tmp_path: Path) -> None:
    changed = ancestor.adapted(STAND_IN, options(tmp_path / "train.py", "cuda:0", "STEPS=9")).splitlines()
    differ = [now for was, now in zip(STAND_IN.splitlines(), changed, strict=True) if was != now]
    assert differ == ["STEPS = 9  # replaced", "torch.manual_seed(7)", "torch.cuda.manual_seed(7)"]
    with pytest.raises(SystemExit, match="no constant DEPTH"):
        ancestor.adapted(STAND_IN, options(tmp_path / "train.py", "cuda:0", "DEPTH=9"))


def test_our_layers_and_flops_are_counted_as_the_ancestor_counts_its_own() -> None:
    config = {"DEPTH": 9, "LONG_EVERY": 5, "NEAREST": 256, "WINDOW": 2048}
    windows = train_cuda.our_windows(config)
    assert windows == [256] * 4 + [2048] + [256] * 3 + [2048]
    assert train_cuda.our_windows(config | {"LONG_EVERY": 1}) == [2048] * 9
    flops = train_cuda.flops_per_token(width=640, hidden=2560, windows=windows, vocab=8192)
    assert flops == 6 * (9 * 12 * 640**2 + 640 * 8192) + 12 * 640 * sum(windows)


@pytest.mark.slow
def test_the_corpus_is_text_of_this_machine_up_to_a_size() -> None:
    chosen = train_cuda.texts(200_000)
    assert 0 < sum(Path(name).stat().st_size for name in chosen) <= 200_000
    assert {Path(name).suffix for name in chosen} <= train_cuda.TEXTS
    assert chosen == train_cuda.texts(200_000)


def test_rows_add_up_in_one_file_as_long_as_the_device_is_the_same(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    wishes = train_cuda.arguments(["--device", "cpu", "--out", str(out)])
    for seed in (1, 2):
        train_cuda._add(wishes, {"who": "ours", "seed": seed})
    found = json.loads(out.read_text())
    assert [row["seed"] for row in found["rows"]] == [1, 2]
    assert found["machine"]["device_name"]
    out.write_text(json.dumps({"machine": {"device_name": "another"}, "rows": found["rows"]}))
    train_cuda._add(wishes, {"who": "ours", "seed": 3})
    assert [row["seed"] for row in json.loads(out.read_text())["rows"]] == [3]
