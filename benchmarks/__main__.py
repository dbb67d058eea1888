"""Run every benchmark that this machine can: `python -m benchmarks`, or `python -m benchmarks NAME …`.

default_arena needs two quiet cores for half an hour, night and scale take ten minutes and more, and cuda_check and
train_cuda need a CUDA device; these run only when they are named. In the end the README's table is made anew from all
results.
"""

import subprocess
import sys

EVERYWHERE = ("keep_rule", "mix", "tuner", "duplicates", "overhead", "duty", "lanes", "prune")
BY_NAME = ("default_arena", "night", "scale", "cuda_check", "train_cuda")


def main(names: list[str]) -> int:
    """Run them one after another; the status of the first that fails."""
    unknown = [name for name in names if name not in (*EVERYWHERE, *BY_NAME)]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join((*EVERYWHERE, *BY_NAME))}", file=sys.stderr)
        return 2
    for name in (*(names or EVERYWHERE), "table"):
        print(f"\n== {name}", flush=True)
        status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
