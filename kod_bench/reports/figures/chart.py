"""What a figure shows, whoever draws it."""

from dataclasses import dataclass

#: Okabe and Ito's colours, told apart under all common kinds of colour blindness; without black
#: and yellow, which vanish on a dark and on a white page. Markers and dashes differ as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8c8c8c")


@dataclass(frozen=True)
class Line:
    """Points, joined or not.

    Attributes:
        label: for the legend.
        slot: of colour, marker and dash; lines of one model have one.
        x: of the points.
        y: likewise.
        low: ends of intervals, None where there is none; empty for no intervals at all.
        high: likewise.
        joined: whether a line connects the points.
        marked: whether the points are marked.
        dashed: whether the line is.
        names: what each point is, if that is more than the label.
        in_legend: False for a line whose label another one has.
        shade: place on the colour scale from best 0 to worst 1, in place of the slot's colour.
    """

    label: str
    slot: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    joined: bool = True
    marked: bool = True
    dashed: bool = False
    names: tuple[str, ...] = ()
    in_legend: bool = True
    shade: float | None = None


@dataclass(frozen=True)
class Chart:
    """Lines over two axes.

    Attributes:
        name: of its files, without suffix.
        tab: a word or three.
        title: above it.
        caption: below it: what it shows, and how to read it.
        x_label: of the axis, with its unit.
        y_label: likewise.
        lines: in the order of the legend.
        x_log: whether the axis is logarithmic.
        y_log: likewise.
        x_ticks: places and texts of ticks, where the axis is none of numbers.
        y_ticks: likewise.
        floor: level of a dotted horizontal line, and its text.
        front: the Pareto front, from the left; empty if there is none.
        bars: whether the points are the ends of horizontal bars.
    """

    name: str
    tab: str
    title: str
    caption: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_log: bool = False
    y_log: bool = False
    x_ticks: tuple[tuple[float, str], ...] = ()
    y_ticks: tuple[tuple[float, str], ...] = ()
    floor: tuple[float, str] | None = None
    front: tuple[tuple[float, float], ...] = ()
    bars: bool = False


@dataclass(frozen=True)
class HeatMap:
    """A value over two axes of a sweep.

    Attributes:
        name: as of a `Chart`.
        tab: likewise.
        title: likewise.
        caption: likewise.
        x_label: likewise.
        y_label: likewise.
        x: its values.
        y: its values.
        z: a line per y of a value per x; None where nothing was tried.
        z_label: of the colours.
    """

    name: str
    tab: str
    title: str
    caption: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    z: tuple[tuple[float | None, ...], ...]
    z_label: str


Figure = Chart | HeatMap
