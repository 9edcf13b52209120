"""Headings, sentences, tables and plots as a self-contained HTML page and as Markdown. Does not know what it tells."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from candlecast.errors import CandlecastError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    kind: str = ""  # verdict, warning, note


@dataclass(frozen=True, slots=True)
class Table:
    header: list[str]  # empty texts where the rows are names and facts
    rows: list[list[str]]


@dataclass(frozen=True, slots=True)
class Plot:
    svg: str
    alt: str


Block = Heading | Text | Table | Plot

MODEL: Final = "#1f5fa8"
RAW: Final = "#c98a2b"
GREY: Final = "#8a8f98"
LOSS: Final = "#b3453b"
COLOURS: Final = (MODEL, RAW, "#3c8d5a", "#7b4fa3", "#2b9aa8", LOSS)
PLOT_STYLE: Final[dict[Any, Any]] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "legend.frameon": False,
    "svg.hashsalt": "candlecast",
}
STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2128; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 1rem 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .5rem 0; max-width: 75ch; } p.verdict { font-size: 1.1rem; font-weight: 600; max-width: none; }
p.warning { background: #fbe9e7; border-left: 4px solid #b3453b; padding: .5rem .8rem; max-width: none; }
p.note { color: #5b616b; font-size: .9rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { padding: .28rem .5rem; text-align: right; border-bottom: 1px solid #e3e6ea; white-space: nowrap; }
th { color: #5b616b; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td small { color: #5b616b; font-size: .75rem; }
.facts td { text-align: left; white-space: normal; } .facts td:first-child { color: #5b616b; }
.wide { overflow-x: auto; margin: .6rem 0; } img { width: 100%; height: auto; }
"""


def write(path: Path, title: str, blocks: Sequence[Block]) -> tuple[Path, Path]:
    """Write the page to `path` and the Markdown beside it, with the suffix .md; return both.

    The first block, a verdict or what makes it doubtful, stands above the title.

    Raises:
        CandlecastError: a file cannot be written.
    """
    beside = path.with_suffix(".md")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_html(title, blocks), encoding="utf-8")
        beside.write_text(_markdown(title, blocks, path.name), encoding="utf-8")
    except OSError as error:
        raise CandlecastError(f"{path}: cannot be written: {error}") from error
    return path, beside


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure in the common style."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(PLOT_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def svg(drawn: Figure) -> str:
    """Return a figure as SVG, the same bytes for the same figure."""
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _markdown(title: str, blocks: Sequence[Block], page: str) -> str:
    parts = []
    for block in blocks:
        match block:
            case Heading():
                parts.append(f"## {block.text}")
            case Text():
                parts.append(f"**{block.text}**" if block.kind in ("verdict", "warning") else block.text)
            case Table():
                lines = [block.header, ["---"] + ["---:"] * (len(block.header) - 1), *block.rows]
                parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
            case Plot():
                parts.append(f"Plot: {block.alt}, see {page}.")
    return "\n\n".join([parts[0], f"# {title}", *parts[1:]]) + "\n"


def _html(title: str, blocks: Sequence[Block]) -> str:
    parts = [_html_block(block) for block in blocks]
    body = "\n".join([parts[0], f"<h1>{html.escape(title)}</h1>", *parts[1:]])
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _html_block(block: Block) -> str:
    match block:
        case Heading():
            return f"<h2>{html.escape(block.text)}</h2>"
        case Text():
            return f'<p class="{block.kind}">{html.escape(block.text)}</p>'
        case Table():
            return _html_table(block)
        case Plot():
            data = base64.b64encode(block.svg.encode()).decode()
            return f'<img alt="{html.escape(block.alt)}" src="data:image/svg+xml;base64,{data}">'


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header) if any(table.header) else ""
    rows = "".join(f"<tr>{''.join(f'<td>{_html_cell(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    kind = "" if head else ' class="facts"'
    return f'<div class="wide"><table{kind}>{f"<tr>{head}</tr>" if head else ""}{rows}</table></div>'


def _html_cell(text: str) -> str:
    """Put the interval and what stands beside it below the number."""
    number, beside, rest = text.partition(" [")
    return f"{html.escape(number)}<br><small>[{html.escape(rest)}</small>" if beside else html.escape(text)
