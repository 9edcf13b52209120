"""The page around sections: headings, sentences, facts, tables and plots as one HTML file. Knows not what it tells."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

STYLE = """
:root { color-scheme: light dark; --ink: #1d2128; --soft: #5b616b; --line: #e3e6ea; --page: #fff; --card: #f6f7f9;
  --c0: #1f5fa8; --c1: #b3453b; --c2: #8a8f98; --c3: #2f7d4f; --c4: #7b4fa3; --c5: #9a6a10; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a2a9b4; --line: #333a44; --page: #15181d;
  --card: #1d2127; --c0: #6aa9f0; --c1: #f08a7f; --c2: #9aa1ac; --c3: #6fc693; --c4: #c09be6; --c5: #e0b050; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 960px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; }
p { margin: .4rem 0; max-width: 75ch; } p.note, p.none { color: var(--soft); font-size: .9rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .6rem; margin: 1rem 0; }
.facts div { background: var(--card); border-radius: 6px; padding: .6rem .8rem; }
.facts b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.facts span { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { padding: .28rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; margin-top: .4rem; } svg text { font-size: 11px; fill: var(--soft); }
.grid { stroke: var(--line); } .zero { stroke: var(--soft); } .line { fill: none; stroke-width: 1.6; }
.even { fill: none; stroke: var(--soft); stroke-dasharray: 4 4; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); } .c4 { --c: var(--c4); }
.c5 { --c: var(--c5); } .line { stroke: var(--c); } .bar, .spot { fill: var(--c); }
.legend { font-size: .85rem; color: var(--soft); } .legend span { margin-right: 1.2em; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; background: var(--c); }
.legend i { margin-right: .4em; }
@media print { body { margin: 0; } h2 { break-after: avoid; } svg, table { break-inside: avoid; } }
"""


@dataclass(frozen=True, slots=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what belongs to it; `none` is said in place of what is not there."""

    title: str
    text: str = ""
    plots: Sequence[str] = ()  # SVG
    tables: Sequence[Table] = ()
    none: str = "Nothing in this time."


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    text: str
    facts: Sequence[tuple[str, str]]  # value and name
    sections: Sequence[Section] = field(default_factory=list)

    def html(self) -> str:
        """Return the whole file; it loads nothing and runs nothing."""
        facts = "".join(f"<div><b>{html.escape(v)}</b><span>{html.escape(n)}</span></div>" for v, n in self.facts)
        body = "\n".join(_section(section) for section in self.sections)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style></head><body>\n"
            f'<h1>{html.escape(self.title)}</h1><p class="note">{html.escape(self.text)}</p>\n'
            f'<div class="facts">{facts}</div>\n{body}\n</body></html>\n'
        )


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    shown = [plot for plot in section.plots if plot] + [_table(table) for table in section.tables if table.rows]
    parts += shown or [f'<p class="none">{html.escape(section.none)}</p>']
    return f"<section>{''.join(parts)}</section>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'
