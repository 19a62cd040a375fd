"""What counts as a picture in SVG, and as one that shows something."""

from __future__ import annotations

import pytest

from azft.training.svg_pictures import draws_something, parses_as_svg

OPEN = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">'


def svg(inside: str) -> str:
    return f"{OPEN}{inside}</svg>"


SHOWN = [
    '<circle cx="50" cy="50" r="9" fill="red"/>',
    '<rect x="-5" y="1" width="10" height="3"/>',
    '<g fill="none"><line x1="1" y1="1" x2="99" y2="1.5" stroke="blue"/></g>',
    '<polygon points="10,10 20,10 15,20"/>',
    '<path d="M10 10h5v5l-3-2z"/>',
    '<path d="m 90,90 c 0,-5 5,-5 5,0 S 99,91 80 80 A5 5 0 0 1 70 70 q1 1 2 2 t 1 1"/>',
    '<g transform="translate(200 0)"><rect width="5" height="5" transform="translate(-150, 10) rotate(45)"/></g>',
    '<defs><linearGradient id="g"/></defs><ellipse cx="5" cy="5" rx="2" ry="3" fill="url(#g)"/>',
    '<rect width="5" height="5" style="fill: green; stroke: none"/>',
]
NOT_SHOWN = [
    "",
    '<circle cx="50" cy="50" r="0"/>',
    '<circle cx="500" cy="50" r="9"/>',
    '<circle cx="50" cy="50" r="9" fill="none"/>',
    '<g display="none"><rect width="5" height="5"/></g>',
    '<defs><rect width="5" height="5"/></defs>',
    '<path d="M 1 1 L"/>',
    '<path d="L 5 5 9 9"/>',
    '<path d="M 1 1 Q 5 5 z"/>',
    '<rect width="1e400" height="5"/>',
    '<rect width="5" height="5" transform="translate(900)"/>',
    '<line x1="1" y1="1" x2="50" y2="60"/>',
    '<rect width="5" height="5" style="fill:none"/>',
    '<rect width="5" height="5" opacity="0"/>',
]
NO_PICTURE = [
    "",
    "a red circle",
    "<svg>",
    "<div/>",
    svg('<circle r="5">'),
    svg("<script>alert(1)</script>"),
    svg('<image href="picture.png"/>'),
    svg('<use href="http://example.org/a.svg#b"/>'),
    svg('<rect width="5" height="5" fill="url(http://example.org/#a)"/>'),
    svg('<rect width="5" height="5" onclick="go()"/>'),
    svg("<style>@import url(http://example.org/a.css);</style>"),
    '<!DOCTYPE svg [<!ENTITY a "b"><!ENTITY c "&a;&a;">]>' + svg("&c;"),
    '<!DOCTYPE svg SYSTEM "http://example.org/svg.dtd">' + svg(""),
    '<?xml-stylesheet href="a.css"?>' + svg(""),
    "Here it is: " + svg('<circle r="5"/>'),
]


@pytest.mark.parametrize("inside", SHOWN)
def test_a_picture_with_a_painted_shape_draws(inside: str) -> None:
    assert parses_as_svg(svg(inside))
    assert draws_something(svg(inside))


@pytest.mark.parametrize("inside", NOT_SHOWN)
def test_a_picture_may_parse_and_show_nothing(inside: str) -> None:
    assert parses_as_svg(svg(inside))
    assert not draws_something(svg(inside))


@pytest.mark.parametrize("text", NO_PICTURE)
def test_what_is_no_picture_or_would_load_something_is_none(text: str) -> None:
    assert not parses_as_svg(text)
    assert not draws_something(text)


def test_without_a_view_box_width_and_height_say_what_is_shown() -> None:
    far = '<circle cx="250" cy="10" r="5"/>'
    assert draws_something(f"<svg>{far}</svg>")  # 300 by 150
    assert not draws_something(f'<svg width="200px" height="200">{far}</svg>')


def test_an_xml_declaration_is_allowed_and_a_giant_is_not() -> None:
    picture = svg('<circle r="5"/>')
    assert draws_something('<?xml version="1.0" encoding="UTF-8"?>\n' + picture)
    assert not parses_as_svg(picture.replace("<circle", " " * (1 << 20) + "<circle"))
