"""Whether a text is a picture in SVG, and whether that picture shows anything. Nothing is loaded, run or expanded.

After SVG 1.1 (w3.org/TR/SVG11, sections 7 to 9). Not covered: style sheets, text, markers, and shapes used elsewhere
(`use`, patterns, masks); a picture of these alone counts as one that shows nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree
from xml.parsers import expat

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_FORBIDDEN = {"script", "foreignObject", "image", "iframe", "audio", "video", "style"}
"""Elements that run, load or restyle something."""
_NOT_DRAWN = {"defs", "symbol", "clipPath", "mask", "pattern", "marker", "linearGradient", "radialGradient", "title"}
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBERS = re.compile(_NUMBER)
_PATH = re.compile(rf"([MmZzLlHhVvCcSsQqTtAa])|({_NUMBER})|[\s,]+")
_ARGUMENTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}
_MOST_BYTES = 1 << 20

Point = tuple[float, float]
Matrix = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x' = a x + c y + e, y' = b x + d y + f."""
_SAME: Matrix = (1, 0, 0, 1, 0, 0)


class _NoPictureError(Exception):
    """Why a text is no picture."""


def parses_as_svg(text: str) -> bool:
    """Whether the text is well-formed XML with <svg> as its root, that loads nothing and has no entities of its own."""
    try:
        _root(text)
    except _NoPictureError:
        return False
    return True


def draws_something(text: str) -> bool:
    """Whether the picture parses, and has a shape that is painted, has finite points and lies in what is shown."""
    try:
        root = _root(text)
        return any(_in_view(points, _view(root)) for points in _painted(root, _SAME, {}))
    except (_NoPictureError, ValueError, OverflowError):
        return False


def _root(text: str) -> ElementTree.Element:
    data = text.strip().encode("utf-8", "replace")
    if len(data) > _MOST_BYTES:
        raise _NoPictureError("too large")
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")

    def refuse(*_unused: object) -> None:
        raise _NoPictureError("a document type, which may define entities")

    def name(raw: str) -> str:
        return "{" + raw if "}" in raw else raw

    parser.StartDoctypeDeclHandler = refuse
    parser.ProcessingInstructionHandler = refuse

    def start(tag: str, attributes: dict[str, str]) -> None:
        builder.start(name(tag), {name(key): value for key, value in attributes.items()})

    def end(tag: str) -> None:
        builder.end(name(tag))

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise _NoPictureError(str(error)) from None
    root = builder.close()
    if _kind(root) != "svg":
        raise _NoPictureError("another root")
    for element in root.iter():
        if _kind(element) in _FORBIDDEN:
            raise _NoPictureError(f"<{_kind(element)}>")
        for key, value in element.attrib.items():
            plain = key.rpartition("}")[2]
            refers = plain in ("href", "src") or "url(" in value
            if plain.startswith("on") or (refers and not re.fullmatch(r"(url\(\s*)?['\"]?#[^()]*\)?", value.strip())):
                raise _NoPictureError(f"{plain}={value}")
    return root


def _kind(element: ElementTree.Element) -> str:
    return element.tag.removeprefix(_NAMESPACE)


def _view(root: ElementTree.Element) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of what is shown."""
    box = [float(number) for number in _NUMBERS.findall(root.get("viewBox", ""))]
    if len(box) == 4:
        left, top, width, height = box
    else:
        left, top, width, height = 0, 0, _length(root, "width", 300), _length(root, "height", 150)  # browsers' default
    return left, top, left + width, top + height


def _length(element: ElementTree.Element, key: str, default: float = 0) -> float:
    match = re.fullmatch(rf"\s*({_NUMBER})\s*(px|pt|pc|mm|cm|in)?\s*", element.get(key, ""))
    return float(match[1]) if match else default


def _painted(element: ElementTree.Element, matrix: Matrix, inherited: Mapping[str, str]) -> Iterator[list[Point]]:
    """The points of each painted shape, in the coordinates of the picture."""
    written = (part.partition(":") for part in element.get("style", "").split(";"))
    own: dict[str, str] = {**element.attrib, **{key.strip(): value.strip() for key, _, value in written}}
    style = {**inherited} | {key: own[key] for key in ("fill", "stroke") if key in own}
    hidden = own.get("display") == "none" or own.get("visibility") in ("hidden", "collapse")
    if hidden or _kind(element) in _NOT_DRAWN or own.get("opacity", "1") in ("0", "0.0", "0%"):
        return
    matrix = _times(matrix, _transform(element.get("transform", "")))
    points = _points(element)
    filled = style.get("fill", "black") not in ("none", "transparent") and _kind(element) != "line"
    if len(points) > 1 and (filled or style.get("stroke", "none") not in ("none", "transparent")):
        yield [_moved(matrix, point) for point in points]
    for child in element:
        yield from _painted(child, matrix, style)


def _points(element: ElementTree.Element) -> list[Point]:
    """Points between which a shape lies; none for what is no shape, or one of no size."""

    def at(key: str) -> float:
        return _length(element, key)

    kind = _kind(element)
    if kind == "rect" and at("width") > 0 and at("height") > 0:
        return _corners(at("x"), at("y"), at("x") + at("width"), at("y") + at("height"))
    if kind in ("circle", "ellipse"):
        across, down = (at("r"), at("r")) if kind == "circle" else (at("rx"), at("ry"))
        if across > 0 and down > 0:
            return _corners(at("cx") - across, at("cy") - down, at("cx") + across, at("cy") + down)
    if kind == "line":
        ends = [(at("x1"), at("y1")), (at("x2"), at("y2"))]
        return ends if ends[0] != ends[1] else []
    if kind in ("polyline", "polygon"):
        numbers = [float(number) for number in _NUMBERS.findall(element.get("points", ""))]
        return list(zip(numbers[::2], numbers[1::2], strict=False))
    return _path_points(element.get("d", "")) if kind == "path" else []


def _corners(left: float, top: float, right: float, bottom: float) -> list[Point]:
    return [(left, top), (right, top), (left, bottom), (right, bottom)]


def _path_points(data: str) -> list[Point]:
    """Where a path goes, and the control points of its curves. Raises `ValueError` for one that can't be read."""
    tokens: list[str] = []
    position = 0
    while position < len(data):
        match = _PATH.match(data, position)
        if match is None:
            raise ValueError(data[position:])
        if match[1] or match[2]:
            tokens.append(match[0])
        position = match.end()
    points: list[Point] = []
    x = y = 0.0
    start, command = (0.0, 0.0), ""
    while tokens:
        if tokens[0].isalpha():
            command = tokens.pop(0)
        elif command in ("", "Z", "z"):
            raise ValueError("a number without a command")
        upper = command.upper()
        if not points and upper != "M":
            raise ValueError("a path must begin with a move")
        count = _ARGUMENTS[upper]
        given = [float(token) for token in tokens[:count]]  # a letter among them is no float
        if len(given) < count:
            raise ValueError("numbers are missing")
        del tokens[:count]
        base = (x, y) if command.islower() else (0.0, 0.0)
        if upper == "Z":
            x, y = start
        elif upper == "H":
            x = base[0] + given[0]
        elif upper == "V":
            y = base[1] + given[0]
        else:
            pairs = given[-2:] if upper == "A" else given
            passed = [(base[0] + a, base[1] + b) for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
            points += passed[:-1]
            x, y = passed[-1]
        points.append((x, y))
        if upper == "M":
            start, command = (x, y), "l" if command == "m" else "L"
    return points if len(set(points)) > 1 else []


def _transform(text: str) -> Matrix:
    matrix = _SAME
    for name, inside in re.findall(r"(\w+)\s*\(([^)]*)\)", text):
        v = [float(number) for number in _NUMBERS.findall(inside)]
        if name == "matrix" and len(v) == 6:
            step: Matrix = (v[0], v[1], v[2], v[3], v[4], v[5])
        elif name == "translate" and v:
            step = (1, 0, 0, 1, v[0], v[1] if len(v) > 1 else 0)
        elif name == "scale" and v:
            step = (v[0], 0, 0, v[-1], 0, 0)
        elif name == "rotate" and v:
            c, s = math.cos(math.radians(v[0])), math.sin(math.radians(v[0]))
            step = (c, s, -s, c, 0, 0)
            if len(v) == 3:
                step = _times(_times((1, 0, 0, 1, v[1], v[2]), step), (1, 0, 0, 1, -v[1], -v[2]))
        elif name in ("skewX", "skewY") and v:
            t = math.tan(math.radians(v[0]))
            step = (1, 0, t, 1, 0, 0) if name == "skewX" else (1, t, 0, 1, 0, 0)
        else:
            raise ValueError(text)
        matrix = _times(matrix, step)
    return matrix


def _times(m: Matrix, n: Matrix) -> Matrix:
    return (
        m[0] * n[0] + m[2] * n[1],
        m[1] * n[0] + m[3] * n[1],
        m[0] * n[2] + m[2] * n[3],
        m[1] * n[2] + m[3] * n[3],
        m[0] * n[4] + m[2] * n[5] + m[4],
        m[1] * n[4] + m[3] * n[5] + m[5],
    )


def _moved(m: Matrix, point: Point) -> Point:
    x, y = point
    return m[0] * x + m[2] * y + m[4], m[1] * x + m[3] * y + m[5]


def _in_view(points: list[Point], view: tuple[float, float, float, float]) -> bool:
    """Whether the box around the points is finite and overlaps what is shown, in more than a line's width."""
    if not all(math.isfinite(number) for point in points for number in point):
        return False
    left, top, right, bottom = view
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs) < right and max(xs) > left and min(ys) < bottom and max(ys) > top
