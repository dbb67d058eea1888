"""The sealed scorer of language models: bits per byte of held-out text, from an exported graph.

    python language_model.py --artifact model.pt2 --data data.json --split val --device cpu --out score.json --seed 1

One self-contained file (torch, numpy), run from a copy out of the agent's reach. The artifact is what torch.export.save
writes: a graph that maps (score_batch, sequence_len) int64 tokens to (score_batch, sequence_len, vocab_size) logits.

The stream of validation tokens is cut into windows one after another; the target of each position is the next token,
across the window's end too. Padding of the last batch does not count, nor do targets that stand for no bytes (document
separators). score = -sum(log2 p(target)) / sum(raw bytes of target); log-softmax is ours, float32, summed in float64.

What is covered, and how:
- No code of the agent runs. torch.export.load would unpickle and evaluate what the archive says (torch 2.13,
  pt2_archive/_package.py: weights_only=False; serde/serialize.py: sympify), so it is not used: we read JSON and raw
  tensor bytes from the zip, nothing pickled, and interpret the graph's nodes one by one.
- Only operators of aten and prims, without those that read files, or memory as its last owner left it.
- No memory between calls: every call starts from the same weights and the same random state.
- Causality, on the windows that were scored: each is run again with all tokens after a random cut replaced by another
  window's, among other windows; its losses up to the cut must come out the same. Rows have their own cuts and each slot
  of the batch its own order of windows, so looking at other rows shows too.

What is not:
- A graph that looks one token ahead at a share p of the positions escapes with probability (1-p)**windows. It gains
  p times the loss of a token, and every run draws other cuts.
- A difference below TOLERANCE_NATS per token, worth less than 0.0002 bits per byte.
- Other rows of the batch, if the validation text is a single batch. Weights that remember the validation text.
"""

import argparse
import json
import math
import os
import re
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

# A position's loss may differ by this much between two runs of the same prefix. Honest graphs differ by nothing: same
# shapes, same slot of the batch, and what a causal mask hides is multiplied by an exact zero.
TOLERANCE_NATS = 1e-4
SCHEMA_MAJOR = 8  # of torch's export format, torch 2.9 to 2.13
MEMBER = re.compile(
    r"data/(weights/weight|constants/tensor)_\d+|data/(weights|constants)/model_(weights|constants)_config\.json"
    r"|models/model\.json|data/sample_inputs/model\.pt|archive_format|archive_version|byteorder|version|\.\w+(/\w+)?"
)
OPERATOR = re.compile(r"torch\.ops\.(aten|prims)\.([A-Za-z_]\w*)\.(\w+)")
FORBIDDEN = re.compile(r"from_file|_?(new_)?empty\w*|_?resize\w*|set_?|record_stream|_print|_cudnn_init_dropout_state")
BROKEN_RULES = frozenset({"forbidden", "signature", "nondeterministic", "not_causal"})  # the other kinds are crashes
SKIPPED = "aten::_assert_tensor_metadata"  # says on which device a tensor was at export
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16,
    7: torch.float32, 8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format}

Graph = Mapping[str, Any]
Values = dict[str, Any]
Model = Callable[[torch.Tensor], torch.Tensor]


class Refused(Exception):  # noqa: N818 - a finding about the artifact, not an error of ours
    """The artifact gets no score; `kind` says which sort of reason."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def refuse(kind: str, reason: str) -> NoReturn:
    """End the scoring of this artifact."""
    raise Refused(kind, reason)


# ---- the archive: bytes and JSON, nothing that executes ----


def read_archive(path: Path, device: torch.device) -> "Program":
    """Read an artifact without running anything of it."""
    if not path.is_file():
        refuse("no_artifact", f"the run left no {path.name}; export the trained model before export_s is over")
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            program = json.loads(archive.read(members["models/model.json"]))
            tensors = _tensors(archive, members, "weights", device) | _tensors(archive, members, "constants", device)
            return _program(program, tensors, device)
    except (zipfile.BadZipFile, LookupError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        refuse("bad_artifact", f"{path.name} is no readable torch.export archive: {type(error).__name__}: {error}")


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Members by their path below the archive's one top folder."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.partition("/")[2]
        if not MEMBER.fullmatch(name) or name in members or info.compress_type != zipfile.ZIP_STORED:
            refuse("forbidden", f"the archive holds {info.filename!r}, which torch.export.save does not write")
        members[name] = info
    return members


def _tensors(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], folder: str, device: torch.device
) -> dict[str, torch.Tensor]:
    """The tensors of one folder by name; those that shared memory do so again."""
    storages: dict[tuple[str, int], torch.Tensor] = {}
    tensors = {}
    config = json.loads(archive.read(members[f"data/{folder}/model_{folder}_config.json"]))["config"]
    for name, entry in config.items():
        if entry["use_pickle"]:
            refuse("forbidden", f"{name} is stored as a pickle; export plain tensors, no subclasses or objects")
        meta, key = entry["tensor_meta"], (entry["path_name"], entry["tensor_meta"]["dtype"])
        dtype = DTYPES[meta["dtype"]]
        if key not in storages:
            raw = bytearray(archive.read(members[f"data/{folder}/{entry['path_name']}"]))
            storages[key] = (torch.frombuffer(raw, dtype=dtype) if raw else torch.zeros(0, dtype=dtype)).to(device)
        if any("as_int" not in size for size in (*meta["sizes"], *meta["strides"], meta["storage_offset"])):
            refuse("shape", "the graph has symbolic shapes; export with the static shape (score_batch, sequence_len)")
        sizes, strides = ([size["as_int"] for size in meta[field]] for field in ("sizes", "strides"))
        # as_strided refuses what lies outside of the storage
        tensors[name] = storages[key].as_strided(sizes, strides, meta["storage_offset"]["as_int"])
    return tensors


# ---- the graph: an interpreter for known operators ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A checked graph and its tensors. Calling it is a pure function of the tokens."""

    graph: Graph
    state: Mapping[str, torch.Tensor]
    tokens: str  # name of the one input
    logits: str  # name of the one output
    writes: bool  # some operator writes in place: each call then works on copies
    device: torch.device

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """(score_batch, sequence_len) int64 -> logits, of a shape yet to be checked."""
        torch.manual_seed(0)
        values: Values = {name: tensor.clone() if self.writes else tensor for name, tensor in self.state.items()}
        values[self.tokens] = tokens.clone()
        _run(self.graph, values, self.device)
        return torch.as_tensor(values[self.logits])


def _program(program: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: torch.device) -> Program:
    if (major := program["schema_version"]["major"]) != SCHEMA_MAJOR:
        refuse("bad_artifact", f"the export format is {major}.x and this scorer reads {SCHEMA_MAJOR}.x")
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    writes = _check(graph)
    state: dict[str, torch.Tensor] = {}
    inputs = []
    for spec in signature["input_specs"]:
        ((kind, body),) = spec.items()
        match kind:
            case "parameter" | "buffer" | "tensor_constant":
                state[body["arg"]["name"]] = tensors[body[f"{kind}_name"]]
            case "user_input":
                inputs.append(body["arg"]["as_tensor"]["name"])
            case _:
                refuse("forbidden", f"the graph takes a {kind}; known are tensors that were saved with it, and tokens")
    outputs = [_names(spec["user_output"]) if "user_output" in spec else [] for spec in signature["output_specs"]]
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0]) != 1:
        refuse("signature", "the graph must take tokens and return logits, nothing more; it may not update its buffers")
    names = {"tokens": inputs[0], "logits": outputs[0][0]}
    return Program(graph=graph, state=state, writes=writes, device=device, **names)


def _check(graph: Graph) -> bool:
    """Refuse all but known operators, in subgraphs too; True if some operator writes in place."""
    writes = False
    for node in graph["nodes"]:
        if node["target"] not in WRAPPERS:
            writes |= operator(node["target"])._schema.is_mutable
        for item in node["inputs"]:
            if "as_graph" in item["arg"]:
                writes |= _check(item["arg"]["as_graph"]["graph"])
    return writes


def operator(target: str) -> Any:
    """The operator that a node names. Refuses what is not one of torch's own, and what reads what it was not given."""
    if not (found := OPERATOR.fullmatch(target)):
        refuse("forbidden", f"the graph uses {target}; only operators of torch.ops.aten and torch.ops.prims are run")
    namespace, name, overload = found.groups()
    if FORBIDDEN.fullmatch(name):
        refuse("forbidden", f"the graph uses {target}, which reads what it was not given; instead of empty use zeros")
    resolved = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    if not isinstance(resolved, torch._ops.OpOverload):
        refuse("forbidden", f"{target} is not an operator")
    return resolved


# How `with torch.autocast(…)` and `with torch.no_grad()` look in a graph: settings, a subgraph, its operands.
WRAPPERS: dict[str, Callable[[Sequence[Any]], AbstractContextManager[object]]] = {
    "torch.ops.higher_order.wrap_with_autocast": lambda s: torch.autocast(s[0], dtype=s[1], enabled=s[2]),
    "torch.ops.higher_order.wrap_with_set_grad_enabled": lambda _: nullcontext(),
}


def _run(graph: Graph, values: Values, device: torch.device) -> None:
    """Run the nodes in order. `values` holds inputs, receives outputs, and loses what is not used any more."""
    last = {name: index for index, node in enumerate(graph["nodes"]) for name in _names(node["inputs"])}
    last |= dict.fromkeys(_names(graph["outputs"]), len(graph["nodes"]))
    for index, node in enumerate(graph["nodes"]):
        result = _call(node, values, device)
        names = _names(node["outputs"])
        values.update(zip(names, result if isinstance(result, (list, tuple)) else [result], strict=False))
        for name in (*names, *_names(node["inputs"])):
            if last.get(name, -1) <= index:
                values.pop(name, None)


def _call(node: Mapping[str, Any], values: Values, device: torch.device) -> Any:
    inputs = node["inputs"]
    if node["target"] in WRAPPERS:
        (at,) = (index for index, item in enumerate(inputs) if "as_graph" in item["arg"])
        inner = inputs[at]["arg"]["as_graph"]["graph"]
        given = [_value(item["arg"], values, device) for item in (*inputs[:at], *inputs[at + 1 :])]
        local: Values = dict(zip(_names(inner["inputs"]), given[at:], strict=True))
        with WRAPPERS[node["target"]](given[:at]):
            _run(inner, local, device)
        return [local[name] for name in _names(inner["outputs"])]
    if (called := operator(node["target"]))._schema.name == SKIPPED:
        return None
    positional = [_value(item["arg"], values, device) for item in inputs if item.get("kind", 1) == 1]
    named = {item["name"]: _value(item["arg"], values, device) for item in inputs if item.get("kind", 1) != 1}
    return called(*positional, **named)


def _names(item: Any) -> list[str]:
    """The values that an argument, a named argument, or a list of them refers to."""
    if isinstance(item, list):
        return [name for part in item for name in _names(part)]
    if "name" in item and "arg" not in item:
        return [item["name"]]
    keys = ("arg", "as_tensor", "as_tensors", "as_optional_tensor", "as_optional_tensors")
    return [name for key in keys if key in item for name in _names(item[key])]


def _value(argument: Mapping[str, Any], values: Values, device: torch.device) -> Any:
    ((kind, value),) = argument.items()
    match kind:
        case "as_tensor":
            return values[value["name"]]
        case "as_tensors":
            return [values[item["name"]] for item in value]
        case "as_optional_tensors":
            return [_value(item, values, device) for item in value]
        case "as_none":
            return None
        case "as_int" | "as_bool" | "as_string" | "as_ints" | "as_bools" | "as_strings" | "as_int_lists":
            return value
        case "as_float":
            return float(value)  # the format spells the infinities as strings
        case "as_floats":
            return [float(item) for item in value]
        case "as_scalar_type":
            return DTYPES[value]
        case "as_memory_format":
            return FORMATS[value]
        case "as_layout" if value == 7:  # the only one of dense tensors
            return torch.strided
        case "as_device":
            return device  # that of the scorer, wherever the graph was exported
    refuse("forbidden", f"the graph has an argument of kind {kind}; export with static shapes and plain tensors")


# ---- the score ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Validation text; tensors are (batches, score_batch, sequence_len) int64, raw_bytes those of the targets."""

    inputs: torch.Tensor
    targets: torch.Tensor
    raw_bytes: torch.Tensor
    windows: int  # without padding
    vocab: int


def read_windows(data: Path, split: str = "val") -> Windows:
    """The windows of one held-out split that data.json describes."""
    facts = json.loads(data.read_text())
    lengths = torch.from_numpy(np.load(data.parent / facts["token_bytes"], allow_pickle=False).astype(np.int64))
    stream = np.fromfile(data.parent / facts[split]["path"], dtype=facts["dtype"]).astype(np.int64)
    batch, length, predicted = facts["score_batch"], facts["sequence_len"], len(stream) - 1
    windows = -(-predicted // length)
    inputs, targets, raw_bytes = torch.zeros(3, -(-windows // batch) * batch * length, dtype=torch.int64)
    inputs[:predicted], targets[:predicted] = torch.from_numpy(stream[:-1]), torch.from_numpy(stream[1:])
    raw_bytes[:predicted] = lengths[targets[:predicted]]
    return Windows(
        inputs=inputs.view(-1, batch, length),
        targets=targets.view(-1, batch, length),
        raw_bytes=raw_bytes.view(-1, batch, length),
        windows=windows,
        vocab=facts["vocab_size"],
    )


def losses(model: Model, inputs: torch.Tensor, targets: torch.Tensor, vocab: int) -> torch.Tensor:
    """-log p(target) in nats, (score_batch, sequence_len) float32 on the CPU."""
    try:
        logits = model(inputs)
    except torch.OutOfMemoryError as error:
        refuse("out_of_memory", f"the graph does not fit on the device: {error}")
    except (RuntimeError, LookupError, TypeError, ValueError) as error:
        refuse("graph_failed", f"the graph fails on validation tokens: {type(error).__name__}: {error}")
    wanted = (*inputs.shape, vocab)
    if tuple(logits.shape) != wanted or not logits.is_floating_point():
        refuse("shape", f"the graph returns {logits.dtype} of shape {tuple(logits.shape)}; wanted: float, {wanted}")
    logits = logits.float()
    return (logits.logsumexp(-1) - logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)).cpu()


@torch.no_grad()
def score(model: Model, text: Windows, device: torch.device, seed: int) -> dict[str, Any]:
    """Score and prove. Raises Refused when there is no score to give."""
    started = time.monotonic()

    def evaluate(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return losses(model, inputs.to(device), targets.to(device), text.vocab)

    scored = torch.stack([evaluate(*batch) for batch in zip(text.inputs, text.targets, strict=True)])
    counted, raw_bytes = text.raw_bytes > 0, int(text.raw_bytes.sum())
    tokens, bad = int(counted.sum()), int((~scored[counted].isfinite()).sum())
    if bad:
        refuse("nan", f"the losses of {bad} of {tokens} tokens are not finite: NaN or infinite logits")
    drift = float((evaluate(text.inputs[0], text.targets[0]) - scored[0])[counted[0]].abs().max())
    if not drift <= TOLERANCE_NATS:
        refuse("nondeterministic", f"the same tokens gave losses {drift:.2g} nats apart; export with model.eval()")
    difference = _prove_causality(evaluate, text, scored, seed)
    nats, took_s = float(scored[counted].double().sum()), round(time.monotonic() - started, 3)
    metrics: dict[str, float] = {"tokens": tokens, "bytes": raw_bytes, "nats_per_token": nats / tokens}
    metrics |= {"causality_windows": text.windows, "causality_difference": difference, "seconds": took_s}
    return {"ok": True, "score": nats / math.log(2) / raw_bytes, "se": None, "metrics": metrics}


def _prove_causality(
    evaluate: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], text: Windows, scored: torch.Tensor, seed: int
) -> float:
    """Run every window again with another future and other company; the largest difference up to the cuts, in nats."""
    draw = torch.Generator().manual_seed(seed)
    batches, rows, length = text.inputs.shape
    company = torch.stack([torch.randperm(batches, generator=draw) for _ in range(rows)], dim=1)
    slots, position = torch.arange(rows).expand(batches, rows), torch.arange(length)
    inputs, targets, before, real = (t[company, slots] for t in (text.inputs, text.targets, scored, text.raw_bytes > 0))
    cuts = torch.randint(length, (batches, rows, 1), generator=draw)
    # one row in eight is kept whole: its last position could only learn its target from the company
    cuts[torch.rand(cuts.shape, generator=draw) < 1 / 8] = length - 1
    donors = text.inputs.view(-1, length)[torch.randint(text.windows, (batches, rows), generator=draw)]
    # the token behind the cut is another one even where the donor has the same, or that window would test nothing
    donors = torch.where((position == cuts + 1) & (donors == inputs), (donors + 1) % text.vocab, donors)
    futures = torch.where(position > cuts, donors, inputs)
    differences = torch.stack([evaluate(*batch) for batch in zip(futures, targets, strict=True)]).sub(before).abs()
    differences = differences.nan_to_num(nan=math.inf).where((position <= cuts) & real, 0.0)
    worst = float(differences.max())
    if failed := int((differences > TOLERANCE_NATS).any(-1).sum()):
        what = f"changed the losses up to it by up to {worst:.2g} nats in {failed} of {text.windows} windows"
        refuse("not_causal", f"other tokens after a position {what}: the graph looks ahead, or at other rows")
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    """Score one artifact. 0: the answer is written, whatever it is; anything else is our own failure."""
    parser = argparse.ArgumentParser(description="Score an exported language model in bits per byte.")
    parser.add_argument("--artifact", type=Path, required=True, help="what torch.export.save wrote")
    parser.add_argument("--data", type=Path, required=True, help="data.json of the prepared data")
    parser.add_argument("--split", choices=("val", "audit"), default="val", help="the held-out text to score on")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu or cuda:N")
    parser.add_argument("--out", type=Path, required=True, help="where the answer goes, as JSON")
    parser.add_argument("--seed", type=int, default=0, help="draws the cuts of the causality proof")
    chosen = parser.parse_args(arguments)
    text = read_windows(chosen.data, chosen.split)
    try:
        answer = score(read_archive(chosen.artifact, chosen.device), text, chosen.device, chosen.seed)
    except Refused as finding:
        verdict = "invalid" if finding.kind in BROKEN_RULES else "crash"
        answer = {"ok": False, "verdict": verdict, "kind": finding.kind, "reason": str(finding)}
    temporary = chosen.out.with_name(f".{chosen.out.name}.partial")
    with temporary.open("w") as file:
        print(json.dumps(answer, indent=1), file=file, flush=True)
        os.fsync(file.fileno())
    temporary.replace(chosen.out)
    print(json.dumps(answer))  # noqa: T201 - for a human who scores by hand
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
