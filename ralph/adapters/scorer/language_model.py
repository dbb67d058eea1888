"""The sealed scorer of language models: bits per byte of held-out text, from an exported graph.

    python language_model.py --artifact model.pt2 --data data.json --device cpu --out score.json --seed 1

One self-contained file: it needs torch and numpy, and is run from a copy out of the agent's reach. The artifact is what
`torch.export.save` writes: a graph that maps (score_batch, sequence_len) int64 tokens to (…, vocab_size) logits.

Text is scored in windows of `sequence_len`. The stream of validation tokens is cut into windows one after another; the
target of each position is the token that follows, across the window's end too. The last window is padded and its
padding not counted. Targets that stand for no bytes (document separators) count in neither sum, as in the ancestor.
score = -sum(log2 p(target)) / sum(raw bytes of target); log-softmax is ours, in float32, summed in float64.

What is covered, and how:
- No code of the agent runs. The archive is never given to torch.export.load, which unpickles constants and evaluates
  symbolic expressions (torch 2.13: pt2_archive/_package.py, serde/serialize.py). We read the zip ourselves: JSON and raw
  tensor bytes, nothing pickled, and interpret the graph's nodes one by one.
- Only operators of the aten and prims namespaces, without those that read files or memory that nobody wrote.
- No memory between calls: every call starts from the same weights and the same random state.
- Causality, on the very windows that were scored: each is run again with all tokens after a random cut replaced by
  another window's, in the company of other windows, and what it had been scored up to the cut must come out the same.
  Each row of a batch has its own cut, and the company is drawn anew for each slot, so looking at other rows shows too.

What is not:
- A graph that looks ahead at a share p of the positions only, one position far, escapes with probability (1-p)**windows.
  It gains p times a token's loss; every run draws other cuts.
- A difference below TOLERANCE_NATS per token passes. It is worth less than 0.0001 bits per byte.
- With a single batch of validation text there is no other company to compare with.
- Weights that remember the validation text: it is public text, and a run has the disk of its machine. The sandbox of
  the run, not the scorer, keeps prepared data away from it.
"""

import argparse
import json
import math
import os
import re
import sys
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
SCHEMA_MAJOR = 8  # of torch's export format: torch 2.6 to 2.13
MEMBER = re.compile(
    r"data/weights/(weight_\d+|\w+_weights_config\.json)|data/constants/(tensor_\d+|\w+_constants_config\.json)"
    r"|models/\w+\.json|data/sample_inputs/\w+\.pt|archive_format|archive_version|byteorder|version|\.\w+(/\w+)?|extra/.*"
)
OPERATOR = re.compile(r"torch\.ops\.(aten|prims)\.([A-Za-z_]\w*)\.(\w+)")
# Operators that read what the graph was not given: files, or memory as its last owner left it.
FORBIDDEN = re.compile(r"from_file|_?(new_)?empty\w*|resize\w*|_resize\w*|set_\w*|set|record_stream|_print")
SKIPPED = frozenset({"_assert_tensor_metadata"})  # says on which device a tensor was at export
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16,
    7: torch.float32, 8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
STRIDED = 7

Graph = Mapping[str, Any]
Values = dict[str, Any]
Model = Callable[[torch.Tensor], torch.Tensor]


class Refused(Exception):  # noqa: N818 - a finding about the artifact, not an error of ours
    """The artifact gets no score: `verdict` is crash or invalid, `kind` says which sort."""

    def __init__(self, verdict: str, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.kind = kind


def refuse(kind: str, reason: str) -> NoReturn:
    """The artifact breaks a rule."""
    raise Refused("invalid", kind, reason)


def broken(kind: str, reason: str) -> NoReturn:
    """The artifact does not work."""
    raise Refused("crash", kind, reason)


# ---- the archive: bytes and JSON, nothing that executes ----


def read_archive(path: Path, device: torch.device) -> "Program":
    """Read an artifact without running anything of it."""
    if not path.is_file():
        broken(
            "no_artifact", f"the run left no artifact at {path.name}; export the trained model before export_s is over"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            program = json.loads(archive.read(members["models/model.json"]))
            tensors = {
                **_tensors(archive, members, "weights", "model_weights_config.json", device),
                **_tensors(archive, members, "constants", "model_constants_config.json", device),
            }
            return _program(program, tensors, device)
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        OSError,
        RuntimeError,
    ) as error:
        broken("bad_artifact", f"{path.name} is not a readable torch.export archive: {type(error).__name__}: {error}")


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Members by their path below the archive's one top folder."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.partition("/")[2]
        if not MEMBER.fullmatch(name) or name in members:
            refuse(
                "forbidden", f"the archive holds {info.filename!r}, which an exported graph of plain tensors does not"
            )
        if info.compress_type != zipfile.ZIP_STORED:
            refuse("forbidden", f"the archive holds {info.filename!r} compressed; torch.export.save does not compress")
        members[name] = info
    return members


def _tensors(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], folder: str, config: str, device: torch.device
) -> dict[str, torch.Tensor]:
    """The tensors that a payload configuration lists, by name; tied ones share memory as they did."""
    storages: dict[tuple[str, int], torch.Tensor] = {}
    tensors = {}
    for name, entry in json.loads(archive.read(members[f"data/{folder}/{config}"]))["config"].items():
        if entry["use_pickle"]:
            refuse("forbidden", f"{name} is stored as a pickle; export plain tensors, no subclasses or objects")
        meta, key = entry["tensor_meta"], (entry["path_name"], entry["tensor_meta"]["dtype"])
        if key not in storages:
            raw = bytearray(archive.read(members[f"data/{folder}/{entry['path_name']}"]))
            dtype = DTYPES[meta["dtype"]]
            flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.zeros(0, dtype=dtype)
            storages[key] = flat.to(device)
        sizes, strides = (_plain_ints(meta[field]) for field in ("sizes", "strides"))
        if math.prod(sizes) == 0:
            tensors[name] = torch.zeros(sizes, dtype=DTYPES[meta["dtype"]], device=device)
        else:  # as_strided refuses what lies outside of the storage
            tensors[name] = storages[key].as_strided(sizes, strides, meta["storage_offset"]["as_int"])
    return tensors


def _plain_ints(sizes: Sequence[Mapping[str, Any]]) -> list[int]:
    if any(set(size) != {"as_int"} for size in sizes):
        refuse("shape", "the graph has symbolic shapes; export with the static shape (score_batch, sequence_len)")
    return [int(size["as_int"]) for size in sizes]


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
        """(score_batch, sequence_len) int64 -> logits, whatever shape they have."""
        torch.manual_seed(0)
        values: Values = {name: tensor.clone() if self.writes else tensor for name, tensor in self.state.items()}
        values[self.tokens] = tokens.clone()
        _run(self.graph, values, self.device)
        result = values[self.logits]
        if not isinstance(result, torch.Tensor):
            broken("shape", f"the graph returns a {type(result).__name__}, not one tensor of logits")
        return result


def _program(program: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: torch.device) -> Program:
    major = program["schema_version"]["major"]
    if major != SCHEMA_MAJOR:
        broken("bad_artifact", f"the export format is {major}.x and this scorer reads {SCHEMA_MAJOR}.x")
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    writes = _check_graph(graph)
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
                refuse(
                    "forbidden",
                    f"the graph takes a {kind}; only parameters, buffers, constants and the tokens are known",
                )
    outputs = [
        spec["user_output"]["arg"]["as_tensor"]["name"] for spec in signature["output_specs"] if "user_output" in spec
    ]
    if len(inputs) != 1 or len(outputs) != 1 or len(signature["output_specs"]) != 1:
        refuse("signature", f"the graph must map tokens to logits and change nothing: {json.dumps(signature)[-300:]}")
    return Program(graph=graph, state=state, tokens=inputs[0], logits=outputs[0], writes=writes, device=device)


def _check_graph(graph: Graph) -> bool:
    """Refuse all but known operators, in subgraphs too; True if some operator writes in place."""
    writes = False
    for node in graph["nodes"]:
        if node["target"] in WRAPPERS:
            inner = [item["arg"]["as_graph"]["graph"] for item in node["inputs"] if "as_graph" in item["arg"]]
            writes = any([_check_graph(item) for item in inner]) or writes
            continue
        writes = operator(node["target"])._schema.is_mutable or writes
    return writes


def operator(target: str) -> Any:
    """The operator that a node names. Refuses what is not one of torch's own."""
    found = OPERATOR.fullmatch(target)
    if not found:
        refuse("forbidden", f"the graph uses {target}; only torch.ops.aten and torch.ops.prims are run")
    namespace, name, overload = found.groups()
    if FORBIDDEN.fullmatch(name):
        refuse(
            "forbidden",
            f"the graph uses {target}, which reads what it was not given; use zeros or full instead of empty",
        )
    packet = getattr(getattr(torch.ops, namespace), name)
    found_operator = getattr(packet, overload)
    if not isinstance(found_operator, torch._ops.OpOverload):
        refuse("forbidden", f"{target} is not an operator")
    return found_operator


def _autocast(arguments: Sequence[Any]) -> AbstractContextManager[object]:
    device_type, dtype, enabled, cache = arguments
    return torch.autocast(device_type, dtype=dtype, enabled=enabled, cache_enabled=bool(cache))


# How `with torch.autocast(…)` and `with torch.no_grad()` inside forward() look in a graph: settings, subgraph, operands.
WRAPPERS: dict[str, Callable[[Sequence[Any]], AbstractContextManager[object]]] = {
    "torch.ops.higher_order.wrap_with_autocast": _autocast,
    "torch.ops.higher_order.wrap_with_set_grad_enabled": lambda _arguments: nullcontext(),
}


def _run(graph: Graph, values: Values, device: torch.device) -> None:
    """Run the nodes in order; `values` holds the inputs and receives the outputs. Values are dropped after their last use."""
    last = {name: index for index, node in enumerate(graph["nodes"]) for name in _names(node["inputs"])}
    for item in graph["outputs"]:
        last.update(dict.fromkeys(_names(item), len(graph["nodes"])))
    for index, node in enumerate(graph["nodes"]):
        result = _call(node, values, device)
        results = list(result) if isinstance(result, (list, tuple)) else [result]
        names = [name for output in node["outputs"] for name in _names(output)]
        values.update(zip(names, results, strict=False))
        for name in {*names, *_names(node["inputs"])}:
            if last.get(name, -1) <= index:
                values.pop(name, None)


def _call(node: Mapping[str, Any], values: Values, device: torch.device) -> Any:
    inputs = node["inputs"]
    if node["target"] in WRAPPERS:
        at = next(index for index, item in enumerate(inputs) if "as_graph" in item["arg"])
        settings = [_argument(item["arg"], values, device) for item in inputs[:at]]
        operands = [_argument(item["arg"], values, device) for item in inputs[at + 1 :]]
        inner = inputs[at]["arg"]["as_graph"]["graph"]
        local: Values = dict(zip((_names(item)[0] for item in inner["inputs"]), operands, strict=True))
        with WRAPPERS[node["target"]](settings):
            _run(inner, local, device)
        return [local[name] for item in inner["outputs"] for name in _names(item)]
    called = operator(node["target"])
    if called._schema.name.partition("::")[2] in SKIPPED:
        return None
    positional = [_argument(item["arg"], values, device) for item in inputs if item.get("kind", 1) == 1]
    named = {item["name"]: _argument(item["arg"], values, device) for item in inputs if item.get("kind", 1) != 1}
    return called(*positional, **named)


def _names(value: Any) -> list[str]:
    """The values that an argument, or a list of them, refers to."""
    if isinstance(value, list):
        return [name for item in value for name in _names(item)]
    if not isinstance(value, Mapping):
        return []
    if "arg" in value:
        return _names(value["arg"])
    for kind in ("as_tensor", "as_tensors", "as_optional_tensors", "as_optional_tensor"):
        if kind in value:
            return [item["name"] for item in _flat(value[kind]) if "name" in item]
    return []


def _flat(value: Any) -> list[Mapping[str, Any]]:
    """Tensor references, bare or inside of optional ones."""
    items = value if isinstance(value, list) else [value]
    return [item.get("as_tensor", item) for item in items]


def _argument(argument: Mapping[str, Any], values: Values, device: torch.device) -> Any:
    ((kind, value),) = argument.items()
    match kind:
        case "as_tensor":
            return values[value["name"]]
        case "as_tensors" | "as_optional_tensors":
            return [values[item["name"]] if "name" in item else None for item in _flat(value)]
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
            return MEMORY_FORMATS[value]
        case "as_layout" if value == STRIDED:
            return torch.strided
        case "as_device":
            return device  # that of the scorer, wherever the graph was exported
    refuse("forbidden", f"the graph has an argument of kind {kind}; export with static shapes and plain tensors")


# ---- the score ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Validation text in batches. inputs, targets: (batches, score_batch, sequence_len) int64; weight: 1 where it counts."""

    inputs: torch.Tensor
    targets: torch.Tensor
    weight: torch.Tensor
    count: int  # of windows that are not padding
    tokens: int
    bytes: int


def read_windows(data: Path) -> tuple[Windows, int]:
    """The windows that data.json describes, and the size of the vocabulary."""
    facts = json.loads(data.read_text())
    lengths = torch.from_numpy(np.load(data.parent / facts["token_bytes"], allow_pickle=False).astype(np.int64))
    stream = np.fromfile(data.parent / facts["val"]["path"], dtype=np.dtype(facts["dtype"])).astype(np.int64)
    batch, length, predicted = facts["score_batch"], facts["sequence_len"], len(stream) - 1
    windows = -(-predicted // length)
    padded = -(-windows // batch) * batch * length
    inputs, targets, weight = (torch.zeros(padded, dtype=torch.int64) for _ in range(3))
    inputs[:predicted], targets[:predicted] = torch.from_numpy(stream[:-1]), torch.from_numpy(stream[1:])
    counted = lengths[targets[:predicted]]
    weight[:predicted] = (counted > 0).long()
    shape = (-1, batch, length)
    return Windows(
        inputs=inputs.view(shape),
        targets=targets.view(shape),
        weight=weight.view(shape),
        count=windows,
        tokens=int(weight.sum()),
        bytes=int(counted.sum()),
    ), facts["vocab_size"]


def losses(model: Model, inputs: torch.Tensor, targets: torch.Tensor, vocab: int) -> torch.Tensor:
    """-log p(target) in nats, (score_batch, sequence_len) float32 on the CPU."""
    try:
        logits = model(inputs)
    except torch.OutOfMemoryError as error:
        broken("out_of_memory", f"the graph does not fit on the device: {error}")
    except (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError, KeyError) as error:
        broken("graph_failed", f"the graph fails on validation tokens: {type(error).__name__}: {error}")
    wanted = (*inputs.shape, vocab)
    if tuple(logits.shape) != wanted or not logits.is_floating_point():
        broken(
            "shape",
            f"the graph returns {tuple(logits.shape)} {logits.dtype}; wanted are float logits of shape {wanted}",
        )
    logits = logits.float()
    at_target = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return (logits.logsumexp(-1) - at_target).cpu()


@torch.no_grad()
def score(model: Model, windows: Windows, vocab: int, device: torch.device, seed: int) -> dict[str, Any]:
    """Score and prove. Raises Refused when there is no score to give."""
    started = time.monotonic()
    batches = len(windows.inputs)

    def evaluate(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return losses(model, inputs.to(device), targets.to(device), vocab)

    scored = torch.stack([evaluate(windows.inputs[index], windows.targets[index]) for index in range(batches)])
    counted = windows.weight.bool()
    if not bool(scored[counted].isfinite().all()):
        bad = int((~scored[counted].isfinite()).sum())
        broken(
            "nan", f"the loss of {bad} of {windows.tokens} tokens is not finite: the graph gives NaN or infinite logits"
        )
    again = evaluate(windows.inputs[0], windows.targets[0])
    drift = float((again - scored[0])[counted[0]].abs().max())
    if not drift <= TOLERANCE_NATS:
        refuse(
            "nondeterministic", f"the same tokens gave losses that differ by {drift:.2g} nats; export with model.eval()"
        )
    worst = _prove_causality(evaluate, windows, scored, seed)
    nats = float(scored[counted].double().sum())
    metrics = {
        "tokens": windows.tokens,
        "bytes": windows.bytes,
        "nats_per_token": nats / windows.tokens,
        "causality_windows": windows.count,
        "causality_difference": worst,
        "seconds": round(time.monotonic() - started, 3),
    }
    return {"ok": True, "score": nats / math.log(2) / windows.bytes, "se": None, "metrics": metrics}


def _prove_causality(
    evaluate: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], windows: Windows, scored: torch.Tensor, seed: int
) -> float:
    """Run every window again with another future and other company; the largest difference up to the cuts, in nats."""
    draw = torch.Generator().manual_seed(seed)
    batches, rows, length = windows.inputs.shape
    company = torch.stack([torch.randperm(batches, generator=draw) for _ in range(rows)], dim=1)
    slots = torch.arange(rows).expand(batches, rows)
    inputs, targets, before = (part[company, slots] for part in (windows.inputs, windows.targets, scored))
    real = windows.weight[company, slots].bool()
    cuts = torch.randint(0, max(length - 1, 1), (batches, rows, 1), generator=draw)
    position = torch.arange(length).expand_as(inputs)
    futures = torch.where(position > cuts, _other_future(inputs, cuts, windows, draw), inputs)
    worst, failed = 0.0, 0
    for index in range(batches):
        after = evaluate(futures[index], targets[index])
        tested = (position[index] <= cuts[index]) & real[index]
        difference = torch.where(tested, (after - before[index]).abs(), 0.0)
        difference = torch.nan_to_num(difference, nan=math.inf)
        worst = max(worst, float(difference.max()))
        failed += int((difference > TOLERANCE_NATS).any(-1).sum())
    if failed:
        refuse(
            "not_causal",
            f"replacing the tokens after a position changed the losses before it, by up to {worst:.2g} nats, in {failed} of "
            f"{windows.count} windows: the graph looks ahead, or at other rows of the batch",
        )
    return worst


def _other_future(inputs: torch.Tensor, cuts: torch.Tensor, windows: Windows, draw: torch.Generator) -> torch.Tensor:
    """For each window the tokens of another; drawn again, a few times, where the token behind the cut is the same."""
    flat, length = windows.inputs.view(-1, inputs.shape[-1])[: windows.count], inputs.shape[-1]
    behind = (cuts + 1).clamp(max=length - 1)
    chosen = flat[torch.randint(len(flat), inputs.shape[:2], generator=draw)]
    for _ in range(8):
        same = chosen.gather(-1, behind) == inputs.gather(-1, behind)
        fresh = flat[torch.randint(len(flat), inputs.shape[:2], generator=draw)]
        chosen = torch.where(same, fresh, chosen)
    return chosen


# ---- the program ----


def answer(artifact: Path, data: Path, device_name: str, seed: int) -> dict[str, Any]:
    """What goes into score.json."""
    device = torch.device(device_name)
    windows, vocab = read_windows(data)
    try:
        return score(read_archive(artifact, device), windows, vocab, device, seed)
    except Refused as finding:
        return {"ok": False, "verdict": finding.verdict, "kind": finding.kind, "reason": str(finding)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Score one artifact. 0: the answer is written, whatever it is; anything else is our own failure."""
    parser = argparse.ArgumentParser(description="Score an exported language model in bits per byte.")
    parser.add_argument("--artifact", type=Path, required=True, help="what torch.export.save wrote")
    parser.add_argument("--data", type=Path, required=True, help="data.json of the prepared data")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--out", type=Path, required=True, help="where the answer goes, as JSON")
    parser.add_argument("--seed", type=int, default=0, help="draws the cuts of the causality proof")
    chosen = parser.parse_args(arguments)
    text = json.dumps(answer(chosen.artifact, chosen.data, chosen.device, chosen.seed), indent=1)
    temporary = chosen.out.with_name(f".{chosen.out.name}.partial")
    with temporary.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(chosen.out)
    print(text)  # noqa: T201 - the answer, for a human who scores by hand
    return 0


if __name__ == "__main__":
    sys.exit(main())
