"""A hook of mkdocs, for the page of reference: docstrings are Markdown there, and have roles before some names."""

import re

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=<code>)")


def on_page_content(html: str, **page: object) -> str:
    """Leave out the roles: ``:class:`` before a name in code."""
    return _ROLE.sub("", html)
