"""The scorer as a process: a sealed score and its audit are two orders on one artifact, each in its own kill domain."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ralph.adapters.data import PreparedData
from ralph.adapters.domains import Domains
from ralph.adapters.run_at_work import OUT
from ralph.adapters.runner import ARTIFACT
from ralph.adapters.sandbox import SandboxLevel
from ralph.adapters.scoring import ArenaScorer
from ralph.adapters.seal import Seal
from ralph.config import parse
from ralph.events import Scored
from ralph.front.campaign import scorer_source
from ralph.layout import Layout
from ralph.model import Outcome
from ralph.ports import ScoreOrder
from tests.adapters.scorer.graphs import answer, make_bench, save_honest

Left = Callable[[], list[int]]
SEALED = {"score": {"mode": "sealed"}, "data": {"command": "python prepare.py"}}


def finish(scorer: ArenaScorer, order: ScoreOrder, within_s: float = 100.0) -> Scored:
    job, deadline = scorer.start(order), time.monotonic() + within_s
    while (said := job.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return said


@pytest.mark.slow
def test_a_sealed_audit_scores_the_other_split_in_a_domain_of_its_own(hostile: Path, marked: Left) -> None:
    data = hostile / "data"
    data.mkdir()
    bench = make_bench(data)
    save_honest(bench)
    layout = Layout(root=hostile, arena=hostile)
    out = layout.run(3, 1) / OUT
    out.mkdir(parents=True)
    bench.artifact.rename(out / ARTIFACT)
    seal = Seal(layout.sealed("0" * 64))
    seal.make({"language_model.py": scorer_source()})
    prepared = PreparedData(name="toy", sha256="", descriptor=bench.data, audit=True)
    domains = Domains(SandboxLevel.NONE, visible=(), hidden=())
    scorer = ArenaScorer(layout=layout, config=parse(SEALED), device="cpu", data=prepared, seal=seal, domains=domains)
    order = ScoreOrder(id=3, run=1, seed=7, commit="c3")
    scored, audited = finish(scorer, order), finish(scorer, replace(order, audit=1))
    assert scored.outcome is audited.outcome is Outcome.OK, (scored, audited)
    (out / ARTIFACT).rename(bench.artifact)
    assert scored.score == pytest.approx(answer(bench)["score"], rel=1e-6)
    tokens, fewer = (str(said.metrics["tokens"]) for said in (scored, audited))
    assert int(fewer) < int(tokens), "the audit split of this bench is half as long"
    assert scorer.remains(order) == scored
    assert scorer.remains(replace(order, audit=1)) == audited
    assert scorer.remains(replace(order, audit=2)) is None, "another attempt is another process"
    assert marked() == []
