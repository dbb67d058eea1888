"""The rehearsal of a standby: nothing is left to do for the first call that could be done before it."""

import subprocess
import sys

from tests.adapters.agents.llm.desk import EDITS, LOOK, SUBMITS
from tests.adapters.agents.llm.test_program import Open
from tests.provider import Api, Reply

PROGRAM = """
import os, subprocess, sys
from ralph.adapters.agents.llm import __main__ as model
from ralph.adapters.agents.standby import prepare

order = dict(os.environ)
os.environ.clear()
prepare(order["RALPH_AGENT_KIND"], order["RALPH_API"])
before = set(sys.modules)


def heed(event, details):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork") or (event == "open" and "cacert" in str(details[0])):
        print("late:", event, details)


sys.addaudithook(heed)
os.environ.update(order)
status = model.main(since_start_s=0.0)
print("late:", *sorted(set(sys.modules) - before))
sys.exit(status)
"""


def test_the_work_imports_starts_and_loads_nothing_that_the_rehearsal_did_not(api: Api, opened: Open) -> None:
    office, provider = opened(api, [Reply(text="First I look.", tools=(LOOK,)), EDITS, SUBMITS])
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        cwd=office.folder, env=office.environment(), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "late:\n"
    assert len(provider.requests) == 3


def test_a_rehearsal_that_an_sdk_does_not_understand_is_left_out() -> None:
    program = """
from ralph.adapters.agents.llm import rehearsal
from ralph.adapters.agents.standby import prepare

rehearsal.ANSWERS.clear()
prepare("openai", "chat")
try:
    rehearsal.rehearse("openai", "chat")
except KeyError:
    print("ready all the same")
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.returncode, done.stdout) == (0, "ready all the same\n"), done.stderr
