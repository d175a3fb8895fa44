"""One style for all pictures: SVG on white; blue for what is, orange for what was or is wanted, grey for the rest."""

from collections.abc import Iterable, Sequence

BLUE, ORANGE, GREEN, PURPLE, GREY = "#06c", "#d62", "#393", "#939", "#888"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
WIDTH = 720
DASHES = "5 4"

Points = Iterable[tuple[float, float]]  # pixels


def svg(height: int, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
    background = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    return "\n".join((f'{head}font-size="12" fill="#444">', background, *parts, "</svg>\n"))


def line(points: Points, colour: str, *, width: float = 2, dashed: bool = False) -> str:
    dashes = f' stroke-dasharray="{DASHES}"' if dashed else ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="{width:g}"{dashes} points="{path}"/>'


def dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'


def rule(x1: float, y1: float, x2: float, y2: float, *, dashed: bool = False) -> str:
    """A line that helps to read the others."""
    dashes = f' stroke-dasharray="{DASHES}"' if dashed else ""
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" stroke="#ddd"{dashes}/>'


def text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = "", bold: bool = False) -> str:
    style = f' fill="{colour}"' if colour else ""
    style += ' font-weight="bold"' if bold else ""
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{where}{style}>{words}</text>'


def legend(names: Sequence[tuple[str, str]], left: float, top: float = 16, step: float = 160) -> list[str]:
    """Names in their colours, side by side."""
    return [text(left + step * n, top, name, colour=colour) for n, (name, colour) in enumerate(names)]
