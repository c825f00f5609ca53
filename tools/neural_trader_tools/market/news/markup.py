"""Markup: the plain words of a piece of HTML, as feeds put into their descriptions.

Not a browser: tags and comments go, what scripts and styles hold goes, character references become letters.
What is not closed ends the text, and no input takes more time than its length asks for.
"""

import html
import re

_BLOCKS = "p|br|div|li|ul|ol|tr|table|h[1-6]|blockquote|hr"
_MARKUP = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(script|style|template|noscript)\b.*?(?:</\1\b[^<>]*>|\Z)"
    rf"|<(?P<block>/?(?:{_BLOCKS})\b)[^<>]*>"
    r"|<[!?/]?[a-z][^<>]*>",
    re.IGNORECASE | re.DOTALL,
)


def plain_text(markup: str) -> str:
    """Returns the words, with line ends where blocks begin and end."""
    words = _MARKUP.sub(lambda found: "\n" if found["block"] else "", markup)
    return html.unescape(words)
