"""What kind of crash a run died of, read from how its process ended and from the end of its log.

The log is the run's own word and decides nothing but this label and the sentence that goes with it.
"""

import re

from ralph.model import CrashKind

TAIL_LINES = 40
TAIL_CHARS = 4_000
XFSZ = 25  # the signal for a file that grew beyond its limit

_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|OutOfMemoryError|\bMemoryError\b|Cannot allocate memory|DefaultCPUAllocator: can't allocate"
    r"|CUBLAS_STATUS_ALLOC_FAILED|std::bad_alloc"
)
_NAN = re.compile(
    r"\b(loss|grad\w*|score|logits?)\b[^\n]{0,40}\b(nan|inf|not finite|non-finite)\b|FloatingPointError", re.I
)
_TOO_LARGE = re.compile(r"\[Errno 27\] File too large")
_ERROR_LINE = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning|Failure)\b.*")


def tail(text: str) -> str:
    """The end of a log that goes into the record and the next brief."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")[-TAIL_LINES:]
    return "\n".join(lines)[-TAIL_CHARS:]


def last_error(text: str) -> str:
    r"""The last line that looks like an exception's, else the last line that says anything.

    >>> last_error("Traceback …\n  File x\nValueError: no such width\n")
    'ValueError: no such width'
    >>> last_error("step 1\nstep 2\n")
    'step 2'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    return (errors or lines or [""])[-1][:300]


def classify(*, status: int | None, signal: int | None, log: str) -> tuple[CrashKind, str]:
    """Kind and reason of a run that ended by itself with a status other than 0, or by a signal not of ours."""
    if signal is None and status is not None and 128 < status <= 128 + 64:
        signal = status - 128  # how shells and bubblewrap pass a signal on
    if _OUT_OF_MEMORY.search(log):
        return CrashKind.OUT_OF_MEMORY, f"out of memory: {last_error(log)}"
    if _NAN.search(log[-TAIL_CHARS:]):
        return CrashKind.NAN, f"not a number: {last_error(log)}"
    if signal == XFSZ or _TOO_LARGE.search(log[-TAIL_CHARS:]):
        return CrashKind.DISK_LIMIT, f"a file larger than limits.disk_gb allows: {last_error(log)}"
    if signal == 9:
        return CrashKind.OUT_OF_MEMORY, "killed by the kernel (signal 9), most likely for want of memory"
    if signal is not None:
        return CrashKind.KILLED, f"ended by signal {signal}: {last_error(log)}"
    return CrashKind.EXCEPTION, f"exit status {status}: {last_error(log)}"
