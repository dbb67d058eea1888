"""Views for people at a terminal: `status`, `log` and `show`, as tables in colour, or as plain text.

Plain text wherever the output is no terminal or NO_COLOR is set. Everything is made from the views alone; words of
agents and programs lose their control characters on the way, so that they cannot move the cursor or change a colour.
"""

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ralph.core.figures import Estimate, Figures, figures
from ralph.core.wording import TERMINAL_CODE, clock, counted, dollars, plain, span

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

View = Mapping[str, Any]
Pairs = list[tuple[str, str]]

VERDICTS = {"keep": "bold green", "discard": "dim", "crash": "red", "invalid": "yellow", "void": "magenta"}
PHASES = {"running": "bold green", "paused": "bold yellow", "parked": "bold red", "stopped": "bold"}
STYLES = {"verdict": VERDICTS, "phase": PHASES}
RIGHT = frozenset({"#", "run", "seed", "score", "delta", "seconds", "GiB"})
SPARED = frozenset({"agent", "why the verdict"})
NARROW = 90  # columns
LOG_HEAD = ("#", "verdict", "score", "delta", "agent", "what", "why the verdict")


def print_status(view: View) -> None:
    """Print `ralph status`."""
    _print_pairs(status_pairs(view), title="")


def print_log(rows: Sequence[View]) -> None:
    """Print `ralph log`."""
    if not rows:
        print_lines(["no experiments yet: `ralph loop` begins with the baseline"])
        return
    _print_table(LOG_HEAD, log_cells(rows))


def print_show(view: View) -> None:
    """Print `ralph show`; `folder`, `diff` and `logs` are shown where the view has them."""
    _print_pairs(show_pairs(view), title=f"experiment {view['id']}")
    if view["runs"]:
        _print_table(
            ("run", "seed", "for", "score", "seconds", "GiB", "device", "how it ended"), run_cells(view["runs"])
        )
    if diff := view.get("diff"):
        _print_diff(lines_of(diff))
    for name, log in (view.get("logs") or {}).items():
        if log.strip():
            print_lines(["", f"── {plain(name, 60)}: the end of its log", *lines_of(log)])


def live_line(status: View, now: datetime) -> str:
    """What is going on in one line of plain text, from `ralph status`; `now` carries the zone of the clock in it."""
    doing = [_flying(each) for each in status["in_flight"]] or ["between two experiments"]
    if status["phase"] != "running":
        doing = [f"{status['phase']}: {plain(status['reason'], 120)}".rstrip(": ")]
    incumbent, verdicts = status["incumbent"], status["verdicts"]
    parts = [f"{now:%H:%M:%S}", *doing]
    if incumbent["score"] is not None:
        digits = _digits_of(status)
        parts.append(f"incumbent {digits.score(incumbent['score'])} (#{incumbent['id']})")
    done = sum(verdicts.values())
    if done:
        parts.append(f"{counted(done, 'experiment')}, {verdicts['keep']} kept")
    return " · ".join(parts)


def _flying(each: View) -> str:
    who = f" ({plain(each['agent'], 30)})" if each["agent"] else ""
    name = f"#{each['id']}" if each["id"] else "baseline"
    return f"{name} {each['phase']} {clock(each['seconds'])}{who}"


def status_pairs(view: View) -> Pairs:
    """What `ralph status` says, as names and values."""
    phase = f"{view['phase']}{': ' if view['reason'] else ''}{plain(view['reason'], 300)}"
    if view["campaign"] is None:
        return [("phase", phase), ("campaign", "none yet: `ralph loop` begins one")]
    arena, verdicts = view["arena"], view["verdicts"]
    better = "lower is better" if arena["direction"] == "min" else "higher is better"
    kinds = ("keep", "kept"), ("discard", "discarded"), ("crash", "crashed"), ("invalid", "invalid"), ("void", "void")
    flying = ", ".join(_flying(each) for each in view["in_flight"])
    if flying and view["phase"] in ("stopped", "parked"):
        flying = ", ".join(f"#{each['id']} {each['phase']}" for each in view["in_flight"])
        flying = f"{flying}: goes on with `ralph loop`"
    return [
        ("phase", phase),
        ("campaign", f"{plain(view['campaign'])} · {plain(arena['name'])} · {plain(arena['metric'])}, {better}"),
        ("device", plain(arena["device"])),
        *_standing(view),
        ("experiments", f"{view['experiments']:,}: " + ", ".join(f"{verdicts[key]:,} {word}" for key, word in kinds)),
        ("in flight", flying or "nothing"),
        *([("waiting", f"for {plain(view['lane_waits'], 240)}")] if view["lane_waits"] else []),
        *([("disturbed", f"{counted(view['disturbed_runs'], 'run')}, repeated")] if view["disturbed_runs"] else []),
        ("time", " · ".join(f"{name} {span(seconds)}" for name, seconds in view["time_s"].items())),
        ("cost", _cost(view)),
        *(("waiting", f"{plain(who, 40)} until {_hour(each['until'])}: {plain(each['reason'], 200)}")
          for who, each in view["waiting"].items()),
    ]  # fmt: skip


def _cost(view: View) -> str:
    """Dollars and tokens, for each keep, and by agent where there are several."""
    usd, keeps = view["cost"]["usd"], view["verdicts"]["keep"]
    parts = [dollars(usd), f"{view['cost']['tokens']:,} tokens"]
    if usd and keeps:
        parts.append(f"{dollars(usd / keeps)} per keep")
    if len(paid := {name: each for name, each in view["spent"].items() if each["tokens"]}) > 1:
        parts.append(", ".join(f"{plain(name, 40)} {dollars(each['usd'])}" for name, each in paid.items()))
    return " · ".join(parts)


def _hour(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone():%H:%M}"


def _standing(view: View) -> Iterator[tuple[str, str]]:
    baseline, incumbent, sigma = view["baseline"], view["incumbent"], view["noise"]["sigma"]
    digits = _digits_of(view)
    first, best = _estimate(baseline, sigma), _estimate(incumbent, sigma)
    yield "baseline", f"{digits.show(first)} ({counted(first.runs, 'run')})" if first else "not measured yet"
    if first and best and incumbent["id"]:
        of = f"#{incumbent['id']}, {counted(best.runs, 'run')}, {incumbent['commit'][:7]}"
        yield "incumbent", f"{digits.show(best)} ({of})"
        se = None if first.se is None or best.se is None else math.hypot(first.se, best.se)
        share = f" ({abs(best.mean / first.mean - 1):.2%})" if first.mean else ""
        yield "gain", f"{digits.delta(best.mean - first.mean)} {digits.error(se)}{share}"
    noise = "unknown: nothing was run twice" if sigma is None else f"sigma {digits.small(sigma)}"
    yield "noise", noise + (f" from {counted(view['noise']['runs'], 'repeat')}" if sigma is not None else "")


def _estimate(side: View, sigma: float | None) -> Estimate | None:
    if side["score"] is None:
        return None
    se = None if sigma is None else sigma / math.sqrt(side["runs"])
    return Estimate(mean=side["score"], se=se, runs=side["runs"])


def _digits_of(status: View) -> Figures:
    return figures(status["baseline"]["score"], status["noise"]["sigma"])


def log_cells(rows: Sequence[View]) -> list[list[str]]:
    """The log as cells below LOG_HEAD; digits follow the noise that the rows' own repeats show."""
    digits = _digits_of_rows(rows)
    return [
        [
            str(row["id"]),
            row["verdict"] or "in flight",
            _mean_cell(row["scores"], digits),
            digits.delta(row["delta"]),
            plain(row["agent"] or "–", 20),
            plain(row["hypothesis"] or "–", 160),
            plain(row["reason"], 160),
        ]
        for row in rows
    ]


def _mean_cell(scores: Sequence[float], digits: Figures) -> str:
    if not scores:
        return "–"
    repeats = f" ({len(scores)})" if len(scores) > 1 else ""
    return f"{digits.score(sum(scores) / len(scores))}{repeats}"


def _digits_of_rows(rows: Sequence[View]) -> Figures:
    groups = [row["scores"] for row in rows if row["scores"]]
    squares = sum((x - sum(g) / len(g)) ** 2 for g in groups for x in g)
    dof = sum(len(g) - 1 for g in groups)
    return figures(groups[0][0] if groups else None, math.sqrt(squares / dof) if dof else None)


def show_pairs(view: View) -> Pairs:
    """What `ralph show` says above its tables, as names and values; empty ones are left out."""
    digits = _digits_of_rows([view])
    against = f" against #{view['against']}" if view["against"] is not None else ""
    delta = "" if view["delta"] is None else f"{digits.delta(view['delta'])} {digits.error(view['delta_se'])}{against}"
    crash = f" ({view['crash']})" if view["crash"] else ""
    cost = f", ${view['usd']:,.2f}, {view['tokens']:,} tokens" if view["tokens"] else ""
    agent = f"{plain(view['agent'], 40)}, {span(view['agent_s'])}{cost}" if view["agent"] else ""
    constants = ", ".join(f"{plain(k)} = {plain(str(v), 60)}" for k, v in view["constants"].items())
    pairs = [
        ("verdict", f"{view['verdict'] or 'in flight: ' + view['phase']}{crash}"),
        ("", "the incumbent" if view["incumbent"] else ""),
        ("reason", plain(view["reason"])),
        ("hypothesis", plain(view["hypothesis"])),
        ("expected", plain(view["expected"])),
        ("score", _mean_cell(view["scores"], digits) if view["scores"] else ""),
        ("delta", delta),
        ("agent", agent),
        ("why it", plain(view["why"])),
        ("lines", f"{view['lines_delta']:+d}" if view["lines_delta"] else ""),
        ("constants", constants),
        *[("refused", plain(reason)) for reason in view["refusals"]],
        *[("learnt", _learnt(each)) for each in view["learnings"]],
        *[("supersedes", _superseded(each)) for each in view["superseded"]],
        ("replicates", f"#{view['replicates']}" if view["replicates"] is not None else ""),
        ("base", view["base"]),
        ("commit", view["commit"] or ""),
        ("ref", view["ref"] or ""),
        ("started", view["started"]),
        ("ended", view["ended"] or ""),
        ("folder", plain(view.get("folder", ""))),
    ]
    return [(name, value) for name, value in pairs if value]


def _learnt(each: View) -> str:
    evidence = ", ".join(f"#{n}" for n in each["evidence"])
    return plain(each["text"]) + (f" ({evidence})" if evidence else "")


def _superseded(each: View) -> str:
    because = f": {each['because']}" if each["because"] else ""
    return _learnt({"text": each["learning"] + because, "evidence": each["evidence"]})


def run_cells(runs: Sequence[View]) -> list[list[str]]:
    """The runs of one experiment as cells."""
    digits = _digits_of_rows([{"scores": [run["score"] for run in runs if run["score"] is not None]}])
    return [
        [
            str(run["run"]),
            str(run["seed"]),
            f"#{run['for_id']}",
            digits.score(run["score"]),
            f"{run['seconds']:.1f}",
            f"{run['peak_bytes'] / 2**30:.1f}" if run["peak_bytes"] else "–",
            plain(device_cell(run.get("device") or {}), 120),
            plain(f"{run['crash'] or run['outcome'] or 'running'} {run['reason']}", 160),
        ]
        for run in runs
    ]


def device_cell(seen: View) -> str:
    """What was seen of the device of one run, in a few words.

    >>> device_cell({"others_share": 0.031, "temperature_c": 71.0, "throttled_share": 0.5, "throttled": "heat"})
    'others 3% · 71 °C · slowed 50% (heat)'
    >>> device_cell({})
    '–'
    """
    share, degrees, slowed = (seen.get(name) for name in ("others_share", "temperature_c", "throttled_share"))
    why = f" ({seen['throttled']})" if seen.get("throttled") else ""
    parts = [
        f"others {share:.0%}" if share is not None else "",
        f"{degrees:.0f} °C" if degrees is not None else "",
        f"slowed {slowed:.0%}{why}" if slowed else "",
        f"not watched: {seen['unwatched']}" if seen.get("unwatched") else "",
    ]
    return " · ".join(filter(None, parts)) or "–"


def lines_of(text: str) -> list[str]:
    """The lines of a longer text, each without control characters; indentation stays."""
    shown = []
    for line in TERMINAL_CODE.sub("", text).expandtabs(4).splitlines():
        body = line.lstrip(" ")
        kept = "".join(c for c in body if c.isprintable())
        shown.append(" " * (len(line) - len(body)) + kept)
    return shown


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of text: columns aligned, nothing cut.

    >>> aligned(("#", "what"), [["1", "a"], ["10", "b"]])
    [' #  what', ' 1  a', '10  b']
    """
    cells = [list(head), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return ["  ".join(_aligned(*cell) for cell in zip(row, widths, head, strict=True)).rstrip() for row in cells]


def _aligned(cell: str, width: int, name: str) -> str:
    return cell.rjust(width) if name in RIGHT else cell.ljust(width)


def print_lines(lines: Sequence[str]) -> None:
    """Write lines of plain text; a character the stream cannot encode becomes a question mark."""
    stream = sys.stdout
    encoding = stream.encoding or "utf-8"
    text = "".join(f"{line}\n" for line in lines)
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


def colourful() -> bool:
    """Whether the output is a terminal that wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _print_pairs(pairs: Pairs, title: str) -> None:
    if not colourful():
        width = max(len(name) for name, _ in pairs)
        print_lines([*([title] if title else []), *(f"{name.ljust(width)}  {value}" for name, value in pairs)])
        return
    _console().print(pairs_grid(pairs, title))


def pairs_grid(pairs: Pairs, title: str) -> "RenderableType":
    """Names and values for a colour terminal."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.title = Text(title, style="bold") if title else None
    grid.title_justify = "left"
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        word = value.partition(":")[0].partition(" ")[0]
        grid.add_row(Text(name), Text(value, style=STYLES.get(name, {}).get(word, "")))
    return grid


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if colourful():
        console = _console()
        if console.width < NARROW:
            head, rows = _narrowed(head, rows)
        console.print(table(head, rows))
    else:
        print_lines(aligned(head, rows))


def _narrowed(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Without the columns that a narrow terminal would squeeze to letters below each other; `ralph show` has them."""
    kept = [at for at, name in enumerate(head) if name not in SPARED]
    return [head[at] for at in kept], [[row[at] for at in kept] for row in rows]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> "RenderableType":
    """Cells for a colour terminal; long ones wrap."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for name in head:
        short = name in RIGHT or name == "verdict"
        drawn.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=short, overflow="fold")
    for row in rows:
        style = VERDICTS.get(row[1], "")
        cells = (Text(c, style=style if name == "verdict" else "") for c, name in zip(row, head, strict=True))
        drawn.add_row(*cells, style="dim" if style == "dim" else None)
    return drawn


def _print_diff(lines: Sequence[str]) -> None:
    if not colourful():
        print_lines(["", *lines])
        return
    from rich.syntax import Syntax

    _console().print(Syntax("\n".join(lines), "diff", background_color="default", word_wrap=True))
