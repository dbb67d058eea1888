"""Draws the picture of a campaign: `python -m ralph.adapters.plot DATA.json OUT.png`.

A program of its own, because matplotlib is large and slow to import; the supervisor starts it and goes on. It writes
beside OUT.png and renames, so that a reader never sees half a picture. DATA.json is what `ralph.core.picture` makes.
The picture takes the time of its data, by which it is known what it shows.
"""

import json
import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

from ralph.adapters.plot_labels import place_labels

SIZE_INCHES = (12.0, 6.0)
DPI = 150
LEFT = 0.085
STRIP = 0.06  # of the height, at the bad end: what has no score
WORDS = 0.22  # of the height, at the good end, where no point lies: the labels
INK, FAINT, GRID, STRIP_COLOR = "#24292f", "#8c959f", "#eaeef2", "#f6f8fa"
KEPT, STAIRS, BASELINE = "#1a7f37", "#2da44e", "#6e7781"
FAILED = {"crash": ("#cf222e", "x"), "invalid": ("#bc4c00", "D"), "void": ("#8250df", "o")}
BEYOND, UP, DOWN = "off the scale", "^", "v"
CROWD = 250  # discarded points above which each is small


def draw(data: Mapping[str, Any], out: Path) -> None:
    """Draw `data` to `out`, a PNG; replaced in one step."""
    _private_cache()
    import matplotlib as mpl

    mpl.use("Agg")
    # words of agents are words: no mathematics in dollar signs, and a missing glyph is a box, not an error
    with mpl.rc_context({"text.parse_math": False, "font.size": 11, "axes.unicode_minus": True}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout=None)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            _compose(figure, data)
            _save(figure, out)


def _private_cache() -> None:
    """Give matplotlib a writable cache under TMPDIR; the next picture finds its fonts there."""
    if "MPLCONFIGDIR" in os.environ:
        return
    folder = Path(tempfile.gettempdir()) / f"ralph-matplotlib-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    os.environ["MPLCONFIGDIR"] = str(folder) if mine else tempfile.mkdtemp(prefix="ralph-matplotlib-")


def _save(figure: "Figure", out: Path) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            figure.savefig(file, format="png", metadata={"Software": "ralph"})
        Path(name).chmod(0o644)
        Path(name).replace(out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _compose(figure: "Figure", data: Mapping[str, Any]) -> None:
    axes = figure.add_axes((LEFT, 0.095, 0.985 - LEFT, 0.745))
    figure.text(LEFT, 0.945, data["title"], fontsize=14, fontweight="bold", color=INK)
    figure.text(LEFT, 0.9, data["subtitle"], fontsize=11, color=BASELINE)
    _frame(axes, data)
    if not data["kept"]["id"]:
        axes.text(0.5, 0.5, "no score yet", transform=axes.transAxes, ha="center", color=FAINT, fontsize=14)
        return
    _baseline(axes, data)
    _discarded(axes, data)
    _failed(axes, data)
    _staircase(axes, data)
    _legend(figure, axes)
    place_labels(figure, axes, data, color=KEPT)


def _frame(axes: "Axes", data: Mapping[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    last = max(1, data["last"])
    axes.set_xlim(-0.015 * last - 0.4, last * 1.015 + 0.6)
    if data["ylim"]:
        _limit(axes, data)
    axes.set_xlabel("experiment", color=INK)
    axes.set_ylabel(data["metric"], color=INK)
    axes.yaxis.set_label_coords(0.02, 0.47, transform=axes.figure.transFigure)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.tick_params(colors=BASELINE, length=0)
    axes.grid(visible=True, color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom")
    axes.spines["bottom"].set_color("#d0d7de")


def _limit(axes: "Axes", data: Mapping[str, Any]) -> None:
    low, high = data["ylim"]
    height = high - low
    strip = STRIP * height if any(data["failed"].values()) else 0.0
    words = WORDS * height if data["labels"] else 0.0
    if data["direction"] == "min":
        axes.set_ylim(low - words, high + strip)
        axes.axhspan(high, high + strip, color=STRIP_COLOR, linewidth=0, zorder=1)
    else:
        axes.set_ylim(low - strip, high + words)
        axes.axhspan(low - strip, low, color=STRIP_COLOR, linewidth=0, zorder=1)


def _baseline(axes: "Axes", data: Mapping[str, Any]) -> None:
    score, se = data["kept"]["score"][0], data["kept"]["se"][0]
    if se:
        axes.axhspan(score - se, score + se, color=BASELINE, alpha=0.12, lw=0)
    axes.axhline(score, color=BASELINE, linewidth=1, linestyle=(0, (5, 4)), label="baseline ± s.e.")


def _discarded(axes: "Axes", data: Mapping[str, Any]) -> None:
    low, high = data["ylim"]
    points = _points(data["discarded"])
    inside = [p for p in points if low <= p.score <= high]
    size, alpha = (26, 0.75) if len(points) <= CROWD else (14, 0.45)
    _bars(axes, inside, "#afb8c1", zorder=2)
    if inside:
        x, y = [p.id for p in inside], [p.score for p in inside]
        axes.scatter(x, y, s=size, color="#8c959f", alpha=alpha, linewidths=0, zorder=3, label="discarded")
    for marker, edge, beyond in (
        (DOWN, low, [p.id for p in points if p.score < low]),
        (UP, high, [p.id for p in points if p.score > high]),
    ):
        if beyond:
            y = [edge] * len(beyond)
            axes.scatter(beyond, y, s=size, marker=marker, color=FAINT, alpha=alpha, zorder=5, lw=0, label=BEYOND)


class _Point(NamedTuple):
    id: float
    score: float
    se: float | None


def _points(columns: Mapping[str, Sequence[Any]]) -> list[_Point]:
    return [_Point(*each) for each in zip(columns["id"], columns["score"], columns["se"], strict=True)]


def _bars(axes: "Axes", points: Sequence[_Point], color: str, zorder: int) -> None:
    known = [p for p in points if p.se]
    if known:
        x, y, se = zip(*known, strict=True)
        axes.errorbar(x, y, yerr=se, fmt="none", ecolor=color, elinewidth=1.1, capsize=0, zorder=zorder)


def _failed(axes: "Axes", data: Mapping[str, Any]) -> None:
    """In the strip at the bad end: they have no score."""
    low, high = axes.get_ylim()
    edge = (high + data["ylim"][1]) / 2 if data["direction"] == "min" else (low + data["ylim"][0]) / 2
    size = 26 if sum(map(len, data["failed"].values())) <= CROWD // 4 else 13
    for verdict, (color, marker) in FAILED.items():
        x = data["failed"][verdict]
        y = [edge] * len(x)
        if x and marker == "x":
            axes.scatter(x, y, s=size, marker=marker, linewidths=1.3, zorder=4, label=verdict, color=color)
        elif x:
            face, width = ("none", 1.3) if size > 20 else (color, 0.0)
            axes.scatter(
                x,
                y,
                s=size,
                marker=marker,
                linewidths=width,
                zorder=4,
                label=verdict,
                facecolors=face,
                edgecolors=color,
            )


def _staircase(axes: "Axes", data: Mapping[str, Any]) -> None:
    kept = _points(data["kept"])
    stairs = [*kept, kept[-1]._replace(id=data["last"] + 0.4)]
    x, y = [p.id for p in stairs], [p.score for p in stairs]
    if all(p.se for p in stairs):
        low, high = [p.score - (p.se or 0.0) for p in stairs], [p.score + (p.se or 0.0) for p in stairs]
        axes.fill_between(x, low, high, step="post", color=STAIRS, alpha=0.18, linewidth=0, zorder=2)
    axes.step(x, y, where="post", color=STAIRS, linewidth=2, zorder=4, label="incumbent ± s.e.")
    _bars(axes, kept, KEPT, zorder=5)
    size = 50 if len(kept) <= 40 else 30
    axes.scatter(x[:-1], y[:-1], s=size, color=KEPT, edgecolors="white", linewidths=1.1, zorder=6, label="kept")


def _legend(figure: "Figure", axes: "Axes") -> None:
    handles, names = axes.get_legend_handles_labels()
    once = dict(zip(names, handles, strict=True))
    order = ("kept", "incumbent ± s.e.", "baseline ± s.e.", "discarded", BEYOND, *FAILED)
    names = [name for name in order if name in once]
    figure.legend(
        [once[name] for name in names],
        names,
        loc="lower left",
        bbox_to_anchor=(LEFT - 0.006, 0.837),
        ncols=len(names),
        frameon=False,
        fontsize=9,
        handlelength=1.6,
        handletextpad=0.4,
        columnspacing=1.4,
        labelcolor=INK,
    )


def main(arguments: Sequence[str]) -> int:
    """The program. Exit status 2: wrong usage or unreadable data."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m ralph.adapters.plot DATA.json OUT.png\n")
        return 2
    source, out = Path(arguments[0]), Path(arguments[1])
    try:
        with source.open(encoding="utf-8") as file:
            written_ns, data = os.fstat(file.fileno()).st_mtime_ns, json.load(file)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{source} cannot be drawn: {error}. `ralph report` writes it anew\n")
        return 2
    draw(data, out)
    os.utime(out, ns=(written_ns, written_ns))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
