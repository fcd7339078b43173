"""Bars and curves as SVG."""

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
# The same figures make the same file.
mpl.rcParams["svg.hashsalt"] = "c42_proxy"
# Text stays text, which can be searched, copied and read aloud.
mpl.rcParams["svg.fonttype"] = "none"

from matplotlib import pyplot as plt  # noqa: E402  # after the choice of what it draws with
from matplotlib.axes import Axes  # noqa: E402  # the same
from matplotlib.ticker import NullFormatter, StrMethodFormatter  # noqa: E402  # the same

from .results import Bars, Curves  # noqa: E402  # the same

OURS, OTHERS = "#2a9d3a", "#8899aa"


def draw(picture: Bars | Curves, folder: Path) -> Path:
    """Write `picture` into `folder`; the file is named after it."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    if isinstance(picture, Bars):
        _bars(axes, picture)
    else:
        _curves(axes, picture)
    axes.set_title(picture.title)
    file = folder / f"{picture.name}.svg"
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file


def _bars(axes: Axes, picture: Bars) -> None:
    single = len(picture.groups) == 1
    height = 0.8 / len(picture.groups)
    for number, (group, values) in enumerate(picture.groups.items()):
        places = [place + number * height for place in range(len(picture.labels))]
        colors = [OURS if "c42_proxy" in label else OTHERS for label in picture.labels] if single else None
        bars = axes.barh(places, values, height, label=group, color=colors)
        if single:
            axes.bar_label(bars, fmt="{:,.0f}", padding=3)
            axes.margins(x=0.12)  # room for the label of the longest bar
    middle = 0.4 - height / 2
    axes.set_yticks([place + middle for place in range(len(picture.labels))], picture.labels)
    axes.invert_yaxis()
    axes.set_xlabel(picture.unit)
    if picture.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if not single:
        axes.legend()


def _curves(axes: Axes, picture: Curves) -> None:
    for name, values in picture.curves.items():
        axes.plot(picture.x, values, marker="o", label=name, color=OURS if "c42_proxy" in name else None)
    axes.set_xscale("log")
    if picture.logarithmic:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(picture.x_label)
    axes.set_ylabel(picture.unit)
    axes.grid(alpha=0.3)
    axes.legend()
