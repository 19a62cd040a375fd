"""What azft's objects look like in a notebook: HTML that stands by itself, in light and dark, on any page.

Nothing is fetched, nothing runs: no script, no font, no image from elsewhere. Every text, whoever wrote it, is escaped.
It imports nothing of azft; `_repr_html_` of a class calls its function here.
"""
