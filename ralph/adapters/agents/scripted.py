"""The scripted agent: replays steps from a file, misbehaviours included. It drives tests and demonstrations.

`python -m ralph.adapters.agents.scripted SCRIPT`, under the contract of docs/agents.md. SCRIPT is a file of JSON lines;
blank lines and lines that begin with `#` are skipped. Experiment N replays step N (the first line is step 1), so a
repeated iteration replays the same step. A first line `{"after": "cycle"}` starts over behind the end;
`{"after": "last"}`, the default, repeats the last step; `{"after": "fail"}` ends with status 4. A line may also be a
list of steps, one per attempt: attempt K takes the K-th, the last one serves all later attempts.

Keys of a step, carried out in this order; an unknown key is an error with status 2:

    ignore_term     true: the TERM and INT signals do nothing
    daemons         [{"seconds": s, "ignore_term": true}]: processes that fork twice into a session of their own
                    and live for s seconds, whatever becomes of this program
    output          {"bytes": n, "to": "stdout" | "stderr"}: so much noise
    replace         [{"file": f, "old": text, "new": text}]: the only occurrence of old; none or several is status 3
    constants       {"train.py:NAME": value}: the text of these constants
    write           {"file": text}; folders are made; absolute names and `..` are allowed, since an agent may try them
    delete          ["file or folder"]
    links           {"file": "target"}: symbolic links
    proposal        {"hypothesis": …}: any JSON, right or wrong; without the key a plain one is written
    proposal_text   raw text in its place, malformed as one likes
    proposal_none   true: no proposal
    commit          "message": git add and commit of everything, against the rules
    sleep_s         seconds, after all of the above; before the end
    crash           true: die of an uncaught exception
    signal          number: die of this signal
    exit            status to end with

In `write`, `replace.new` and `proposal` the text `{id}` becomes the experiment's number and `{attempt}` the attempt's.
An edit that is impossible (no such file, no permission) is status 3.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from ralph.adapters.agents.contract import ContractError, Facts, read_facts, write_proposal
from ralph.adapters.agents.script import Daemon, Output, Step, read_script
from ralph.core.constants import replace_constants
from ralph.model import Proposal

_STATUS_SCRIPT = 2
_STATUS_EDIT = 3
_STATUS_NO_STEP = 4
_NOISE = ("x" * 127 + "\n") * 512


def perform(step: Step, facts: Facts, proposal: Path) -> int:
    """Carry a step out in the working directory; the exit status.

    Raises:
        ContractError: when an edit does not fit the files.
    """
    if step.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    for daemon in step.daemons:
        _spawn(daemon)
    if step.output:
        _flood(step.output)
    _edit(step, facts)
    _propose(step, facts, proposal)
    if step.commit:
        _commit(step.commit)
    if step.sleep_s:
        time.sleep(step.sleep_s)
    if step.crash:
        raise RuntimeError("the script says: crash")
    if step.signal:
        if step.signal not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(step.signal, signal.SIG_DFL)
        os.kill(os.getpid(), step.signal)
    return step.exit


def main(arguments: list[str]) -> int:
    """Replay one step. Status 2: the script is wrong; 3: an edit is impossible; 4: behind the end; else the step's."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m ralph.adapters.agents.scripted SCRIPT\n")
        return _STATUS_SCRIPT
    try:
        script = read_script(Path(arguments[0]))
        facts = read_facts(Path(os.environ.get("RALPH_FACTS", "")))
    except ContractError as error:
        sys.stderr.write(f"scripted: {error}\n")
        return _STATUS_SCRIPT
    step = script.step(facts.id, facts.attempt)
    if step is None:
        sys.stderr.write(f"scripted: {arguments[0]} has {len(script.steps)} steps, none for experiment {facts.id}\n")
        return _STATUS_NO_STEP
    try:
        return perform(step, facts, Path(os.environ.get("RALPH_PROPOSAL", ".ralph/proposal.json")))
    except (ContractError, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"scripted: {error}\n")
        return _STATUS_EDIT


def _edit(step: Step, facts: Facts) -> None:
    for change in step.replace:
        text = _read(change.file)
        if text.count(change.old) != 1:
            raise ContractError(f"{change.file} has {text.count(change.old)} times {change.old!r}, not once")
        Path(change.file).write_bytes(text.replace(change.old, _filled(change.new, facts)).encode())
    for key, value in step.constants.items():
        file, _, name = key.rpartition(":")
        try:
            Path(file).write_bytes(replace_constants(_read(file), {name: value}).encode())
        except (SyntaxError, KeyError, ValueError) as error:
            raise ContractError(f"{key}: {error}") from None
    for name, text in step.write.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(_filled(text, facts).encode())
    for name in step.delete:
        shutil.rmtree(name) if Path(name).is_dir() and not Path(name).is_symlink() else Path(name).unlink()
    for name, target in step.links.items():
        Path(name).unlink(missing_ok=True)
        Path(name).symlink_to(target)


def _read(name: str) -> str:
    try:
        return Path(name).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"cannot edit {name}: {error}") from None


def _filled(text: str, facts: Facts) -> str:
    return text.replace("{id}", str(facts.id)).replace("{attempt}", str(facts.attempt))


def _propose(step: Step, facts: Facts, path: Path) -> None:
    if step.proposal_none:
        return
    if step.proposal_text is None and step.proposal is None:
        words = f"step {facts.id} of the script because it says so, expect what it brings"
        write_proposal(path, Proposal(hypothesis=words))
        return
    text = step.proposal_text
    if text is None:
        text = _filled(json.dumps(step.proposal, ensure_ascii=False), facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def _commit(message: str) -> None:
    identity = ("-c", "user.name=scripted", "-c", "user.email=scripted@localhost")
    for command in (["add", "-A"], ["commit", "-q", "--allow-empty", "-m", message]):
        subprocess.run(["git", *identity, *command], check=True, stdin=subprocess.DEVNULL)


def _flood(output: Output) -> None:
    stream = sys.stdout if output.to == "stdout" else sys.stderr
    left = output.bytes
    while left > 0:
        stream.write(_NOISE[:left])
        left -= len(_NOISE)
    stream.flush()


def _spawn(daemon: Daemon) -> None:
    """A grandchild in its own session, whose parent has ended: init, or the nearest subreaper, has it now."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    if daemon.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    time.sleep(daemon.seconds)
    os._exit(0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
