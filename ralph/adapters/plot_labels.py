"""Words for the kept points of the picture, placed where they cover neither each other nor the staircase."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT_SIZE = 8.5
ATTEMPTS = 7  # a line further from the point each time
MOST_POINTS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle on the canvas, in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box") -> bool:
        """Whether the two share an area."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, other: "Box") -> bool:
        """Whether it lies inside `other` altogether."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


def place_labels(figure: "Figure", axes: "Axes", data: Mapping[str, Any], color: str) -> None:
    """Write `data["labels"]` on the good side of the staircase, the most important first.

    Each goes to the first free place near its point; without one it shrinks to its number, and without room for that
    it is left out.
    """
    good = -1.0 if data["direction"] == "min" else 1.0
    taken, frame = [*_stair_boxes(axes, data), *_point_boxes(axes, data)], _box(axes.get_window_extent())
    for label in data["labels"]:
        point = (label["id"], label["score"])
        for text in (label["text"], label["text"].split(" ", 1)[0]):
            place = _free_place(figure, axes, text, point, good, taken, frame)
            if place is not None:
                _write(axes, text, point, place, color)
                taken.append(place.box)
                break


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a label can go: its offset from its point (in points), its alignment, and the pixels it would cover."""

    dx: float
    dy: float
    align: str
    box: Box


def _stair_boxes(axes: "Axes", data: Mapping[str, Any]) -> list[Box]:
    """The staircase and its points as boxes: horizontal treads, vertical risers."""
    boxes = []
    to_pixels = axes.transData.transform
    ids, scores = data["kept"]["id"], data["kept"]["score"]
    for id_, score, until, following in zip(ids, scores, [*ids[1:], data["last"]], [*scores[1:], None], strict=True):
        left, y = to_pixels((id_, score))
        right, _ = to_pixels((until, score))
        boxes.append(Box(left=left - 7, bottom=y - 7, right=left + 7, top=y + 7))
        boxes.append(Box(left=left, bottom=y - 4, right=right, top=y + 4))
        if following is not None:
            _, beyond = to_pixels((until, following))
            boxes.append(Box(left=right - 3, bottom=min(y, beyond), right=right + 3, top=max(y, beyond)))
    return boxes


def _point_boxes(axes: "Axes", data: Mapping[str, Any]) -> list[Box]:
    """The discarded points; none where they are too many to keep clear of."""
    ids, scores = data["discarded"]["id"], data["discarded"]["score"]
    if len(ids) > MOST_POINTS:
        return []
    centres = [axes.transData.transform(point) for point in zip(ids, scores, strict=True)]
    return [Box(left=x - 5, bottom=y - 6, right=x + 5, top=y + 6) for x, y in centres]


def _free_place(
    figure: "Figure",
    axes: "Axes",
    text: str,
    point: tuple[float, float],
    good: float,
    taken: Sequence[Box],
    frame: Box,
) -> Place | None:
    width, height = _size(figure, text)
    x, y = axes.transData.transform(point)
    for dx, dy, align in _offsets(good):
        left = x + dx * figure.dpi / 72 - width * {"right": 1.0, "center": 0.5, "left": 0.0}[align]
        near = y + dy * figure.dpi / 72
        bottom = near - height if dy < 0 else near
        box = Box(left=left - 4, bottom=bottom - 2, right=left + width + 4, top=bottom + height + 2)
        if box.within(frame) and not any(box.overlaps(other) for other in taken):
            return Place(dx=dx, dy=dy, align=align, box=box)
    return None


def _size(figure: "Figure", text: str) -> tuple[float, float]:
    """Width and height of `text` in pixels."""
    probe = figure.text(0, 0, text, fontsize=FONT_SIZE)
    box = _box(probe.get_window_extent())
    probe.remove()
    return box.right - box.left, box.top - box.bottom


def _offsets(good: float) -> Iterator[tuple[float, float, str]]:
    """Offsets in points from the point, the best first: close by on the good side; close by on the other side, to the
    right, where a steep staircase leaves room; further away on the good side.
    """
    line = FONT_SIZE * 1.3
    for attempt in range(ATTEMPTS):
        dy = good * (9 + attempt * line)
        yield 3.0, dy, "right"
        yield 0.0, dy, "center"
        yield -3.0, dy, "left"
        if attempt == 1:
            yield from ((6.0, -good * (4 + other * line), "left") for other in range(3))


def _write(axes: "Axes", text: str, point: tuple[float, float], place: Place, color: str) -> None:
    from matplotlib.patheffects import withStroke

    axes.annotate(
        text,
        point,
        xytext=(place.dx, place.dy),
        textcoords="offset points",
        ha=place.align,
        va="top" if place.dy < 0 else "bottom",
        fontsize=FONT_SIZE,
        color=color,
        zorder=7,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        arrowprops={"arrowstyle": "-", "color": color, "lw": 0.7, "alpha": 0.5, "shrinkA": 1, "shrinkB": 5},
    )


def _box(extent: Any) -> Box:
    return Box(left=extent.x0, bottom=extent.y0, right=extent.x1, top=extent.y1)
