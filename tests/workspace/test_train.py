"""train.py: its profiles, its parts, and one whole run by hand and under a gun, scored."""

import ast
import copy
import gc
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import prepare
import train
from ralph.adapters.scorer import language_model
from tests.workspace.folders import OPTIONS, WORKSPACE, make_arena
from tests.workspace.test_prepare import Supervisor

TINY = {"DEPTH": 2, "WIDTH": 32, "HEAD_DIM": 16, "MLP_RATIO": 2}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(train.profile("cpu")), **TINY, **changes})


def test_every_constant_is_a_plain_literal_with_unit_or_reason_on_one_line() -> None:
    source = (WORKSPACE / "train.py").read_text()
    lines = source.splitlines()
    constants = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    assert len(constants) > 30
    for node in constants:
        assert isinstance(ast.literal_eval(node.value), int | float | str | bool)
        assert node.lineno == node.end_lineno
        assert "  # " in lines[node.lineno - 1], lines[node.lineno - 1]


def test_each_device_sees_its_own_constants() -> None:
    cpu, cuda = train.profile("cpu"), train.profile("cuda:0")
    assert set(vars(cpu)) == set(vars(cuda))
    assert cpu.DEPTH == train.CPU_DEPTH
    assert cuda.DEPTH == train.CUDA_DEPTH


def test_the_cuda_model_has_the_size_to_which_the_ancestors_record_run_came() -> None:
    p = train.profile("cuda:0")
    with torch.device("meta"):
        model = train.GPT(p, 8192, 2048, torch.bfloat16)
        logits = model(torch.zeros((2, 2048), dtype=torch.int64))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 75e6 < parameters < 85e6
    assert logits.shape == (2, 2048, 8192)
    assert logits.dtype == torch.float32
    assert p.BATCH % p.DEVICE_BATCH == 0
    optimizers = train.build_optimizers(model, p)
    held = [m for optimizer in optimizers for group in optimizer.param_groups for m in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))


def test_the_model_in_bfloat16_is_close_to_itself_in_float32() -> None:
    """What the CUDA profile computes in, tried here where there is no CUDA."""
    torch.manual_seed(1)
    exact = train.GPT(tiny(), 64, 32, torch.float32)
    torch.nn.init.normal_(exact.head.weight, std=0.1)
    rough = train.GPT(tiny(), 64, 32, torch.bfloat16)
    rough.load_state_dict(exact.state_dict())
    tokens = torch.randint(64, (3, 32))
    with torch.no_grad():
        difference = (exact(tokens) - rough(tokens)).abs().max()
        stored = copy.deepcopy(rough).to(torch.bfloat16)
        assert torch.equal(rough(tokens), stored(tokens)), "weights are stored in the type that they are used in"
    assert rough(tokens).dtype == torch.float32
    assert 0 < float(difference) < 0.1


def test_orthogonalise_brings_singular_values_near_one() -> None:
    torch.manual_seed(1)
    for shape in ((2, 24, 8), (2, 8, 24), (1, 16, 16)):
        values = torch.linalg.svdvals(train.orthogonalise(torch.randn(shape)))
        assert float(values.min()) > 0.3
        assert float(values.max()) < 1.3


def test_muon_turns_a_gradient_into_steps_of_one_size() -> None:
    torch.manual_seed(1)
    matrix = torch.nn.Parameter(torch.zeros(8, 8))
    for scale in (1e-3, 1e3):
        optimizer = train.Muon([matrix], tiny(MATRIX_LR=0.1, WEIGHT_DECAY=0.0))
        before = matrix.detach().clone()
        matrix.grad = scale * torch.randn(8, 8)
        optimizer.step()
        assert 0.1 < float((matrix.detach() - before).norm()) < 0.5


def test_polar_express_brings_them_nearer() -> None:
    torch.manual_seed(1)
    for shape in ((2, 24, 8), (2, 8, 24), (1, 16, 16)):
        values = torch.linalg.svdvals(train.orthogonalise(torch.randn(shape), polar=True))
        assert 0.8 < float(values.min()) < float(values.max()) < 1.2


def test_even_steps_have_rows_of_one_size_and_the_norm_that_they_had() -> None:
    torch.manual_seed(1)
    for shape in ((2, 24, 8), (2, 8, 24)):
        along = -1 if shape[1] > shape[2] else -2
        update = torch.randn(shape) * torch.logspace(-1, 1, max(shape[1:])).unsqueeze(along)
        before = update.norm(dim=(-2, -1))
        squares = torch.zeros_like(update.mean(along, keepdim=True))
        for _ in range(200):
            even = train.even_out(update, squares)
        sizes = even.norm(dim=along)
        assert torch.allclose(sizes, sizes[:, :1], rtol=1e-3)
        assert torch.allclose(even.norm(dim=(-2, -1)), before, rtol=1e-4)


def test_cautious_decay_shrinks_only_what_the_step_shrinks() -> None:
    torch.manual_seed(1)
    steps = []
    for decay in (0.0, 0.5):
        matrix = torch.nn.Parameter(torch.ones(8, 8))
        matrix.grad = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
        train.Muon([matrix], tiny(MATRIX_LR=0.1, WEIGHT_DECAY=decay, MUON="cautious")).step()
        steps.append(matrix.detach() - 1)
    shrinks = steps[0] <= 0
    assert torch.allclose(steps[1][shrinks], steps[0][shrinks] - 0.1 * 0.5)
    assert torch.equal(steps[1][~shrinks], steps[0][~shrinks])


def test_layers_look_back_as_far_as_the_profile_says_and_the_last_one_to_the_beginning() -> None:
    model = train.GPT(tiny(DEPTH=6, LONG_EVERY=3, NEAREST=4), 64, 32, torch.float32)
    assert model.short == [True, True, False, True, True, False]
    assert train.GPT(tiny(DEPTH=4, LONG_EVERY=3), 64, 32, torch.float32).short == [True, True, False, False]
    assert not any(train.GPT(tiny(DEPTH=4, LONG_EVERY=1), 64, 32, torch.float32).short)
    band = train.near(9, 4, torch.device("cpu"))
    assert band.sum(1).tolist() == [1, 2, 3, 4, 4, 4, 4, 4, 4]
    assert not band.triu(1).any()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_computes_what_the_exported_band_does() -> None:
    torch.manual_seed(1)
    q, k, v = torch.randn(3, 2, 2, 256, 16)
    for nearest in (16, 100, 256):
        exact = train.attend(q, k, v, train.near(256, nearest, torch.device("cpu")))
        blocks = train.attend(q, k, v, train.near_blocks(256, nearest, "cpu"))
        assert float((exact - blocks).abs().max()) < 1e-5
    assert torch.allclose(exact, train.attend(q, k, v, None), atol=1e-6)


def test_steps_are_logged_in_time_and_none_begins_that_would_be_late(tmp_path: Path) -> None:
    began = time.monotonic()
    clock = prepare.Clock(tokens=np.zeros(4, np.uint16), budget_s=60.0, started=began, progress=tmp_path / "p.jsonl")
    steps = train.Steps(clock, on_cuda=False, log_every=2)
    for loss in (3.0, 2.0, 1.0):
        assert steps.room()
        steps.add(torch.tensor(loss))
    assert (steps.begun, steps.done, steps.loss) == (3, 3, 1.0)
    assert [json.loads(line)["step"] for line in (tmp_path / "p.jsonl").read_text().splitlines()] == [2]
    steps.slowest_s = 61.0
    assert not steps.room()
    steps.add(torch.tensor(0.5))
    assert clock.steps == 4, "the last one is on record, whatever its number"


def test_the_schedule_rises_and_falls_with_the_budget() -> None:
    model = train.GPT(tiny(), 64, 32, torch.float32)
    p = tiny(WARMUP=0.1, WARMDOWN=0.5, FINAL_LR=0.05)
    optimizers = train.build_optimizers(model, p)
    group = optimizers[0].param_groups[0]
    rates = []
    for fraction in (0.0, 0.05, 0.1, 0.4, 0.75, 1.0):
        train.schedule(optimizers, p, step=5, fraction=fraction)
        rates.append(group["lr"] / group["peak_lr"])
    assert rates == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.5 + 0.5 * 0.05, 0.05])


def test_batches_are_the_same_for_a_seed_and_take_every_window_once() -> None:
    tokens = np.arange(10_000, dtype=np.uint16)
    one, other = (train.batches(tokens, 4, 100, seed, "cpu") for seed in (1, 2))
    again = train.batches(tokens, 4, 100, 1, "cpu")
    starts = []
    for _ in range(24):
        x, y = next(one)
        assert torch.equal(x, next(again)[0])
        assert torch.equal(y, x + 1)
        starts += x[:, 0].tolist()
    assert len(set(starts)) == 96
    assert not torch.equal(next(one)[0], next(other)[0])


def test_training_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    p = tiny(WINDOW=32)
    model = train.GPT(p, 16, 32, torch.float32)
    tokens = np.resize(np.arange(16, dtype=np.uint16), 20_000)
    optimizers = train.build_optimizers(model, p)

    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    source = train.batches(tokens, 8, 32, 1, "cpu")
    losses = [float(train.train_step(forward, optimizers, source, passes=2)) for _ in range(30)]
    assert losses[0] == pytest.approx(np.log(16), abs=0.1)
    assert losses[-1] < 0.5 * losses[0]


def score(artifact: Path, data: Path, out: Path) -> dict[str, Any]:
    words = ["--artifact", artifact, "--data", data, "--out", out]
    assert language_model.main([str(word) for word in words]) == 0
    answer: dict[str, Any] = json.loads(out.read_text())
    return answer


@pytest.mark.slow
def test_by_hand_it_prepares_trains_exports_and_says_how_to_score(hostile: Path) -> None:
    arena = make_arena(hostile, OPTIONS)
    environ = {**os.environ, "RALPH_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "workspace/train.py"]
    done = subprocess.run(command, cwd=hostile, env=environ, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    summary = done.stdout.split("---\n")[1]
    assert "score it with: " in summary
    run = hostile / "state" / "by-hand"
    config, report = (json.loads((run / f"{name}.json").read_text()) for name in ("config", "report"))
    progress = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    assert config["WIDTH"] == train.CPU_WIDTH
    assert config["parameters"] > 1000
    assert report["peak_bytes"] > 1 << 20
    assert report["steps"] == progress[-1]["step"] > 1
    assert progress[-1]["seconds"] <= 1.5 + 1.0
    (data,) = (hostile / "state" / "data").glob("files-*/data-32x4.json")
    answer = score(run / "model.pt2", data, hostile / "score.json")
    assert answer["ok"] is True, answer
    assert 1.0 < answer["score"] < 8.0
    assert arena.is_dir()


@pytest.mark.parametrize("constants", ["CPU", "CUDA"])
def test_under_a_gun_it_exports_what_the_scorer_reads(
    hostile: Path, monkeypatch: pytest.MonkeyPatch, constants: str
) -> None:
    """The same in this process, over a socket, with a budget for a few steps; small, also what a GPU trains."""
    monkeypatch.setattr(prepare, "HERE", make_arena(hostile, OPTIONS))
    data = prepare.prepared("cpu", {"RALPH_DATA_DIR": str(hostile / "data")})
    facts = json.loads(data.read_text())
    public = {key: value for key, value in facts.items() if key not in {"train", "val", "audit", "token_bytes"}}
    (hostile / "public.json").write_text(json.dumps(public))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environ = {
        "RALPH_RUN_DIR": str(hostile / "run"),
        "RALPH_DEVICE": "cpu",
        "RALPH_SEED": "5",
        "RALPH_BUDGET_S": "1",
        "RALPH_EXPORT_S": "60",
        "RALPH_ARTIFACT": str(hostile / "run" / "artifact.pt2"),
        "RALPH_DATA": str(hostile / "public.json"),
        "RALPH_GUN_FD": str(theirs.detach()),
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    tiny_cuda = {**vars(train.profile("cuda:0")), "DEPTH": 3, "WINDOW": 32, "NEAREST": 8, "BATCH": 4, "DEVICE_BATCH": 2}
    for name, size in {**(tiny_cuda if constants == "CUDA" else {}), **TINY, "LOG_EVERY": 5}.items():
        monkeypatch.setattr(train, f"CPU_{name}", size)
    supervisor = Supervisor(ours, data.parent / facts["train"]["path"], budget_s=1.0)
    supervisor.start()
    try:
        train.main()
    finally:
        gc.enable()  # a run turns it off for its short life
        gc.unfreeze()
    supervisor.join(20)
    ours.close()
    assert [next(iter(packet)) for packet in supervisor.heard] == ["device", "ready", "stopped"]
    assert supervisor.heard[-1]["stopped"]["steps"] > 1
    assert supervisor.heard[-1]["stopped"]["train_s"] < 1.5
    answer = score(hostile / "run" / "artifact.pt2", data, hostile / "score.json")
    assert answer["ok"] is True, answer
    assert not (hostile / "run" / "score.json").exists()
