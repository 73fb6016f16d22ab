"""Phrases that no text for readers may have: CONTRIBUTING.md, section "Language"."""

from __future__ import annotations

import re

#: syntax of German in English words, and phrases whose actor or noun is missing; each was in a text once
GERMAN = re.compile(
    r"\b(?:for ever|all the same|who(?:m?ever)|whatever|nobody|as to|of now|but for|in place of|dice"
    r"|(?:comes?|came) (?:of it|to the same|to nothing|to what)|sees? to (?:it|that)|passe?s? over"
    r"|(?<!there )(?:is|are|was|were) no (?!longer\b|more\b)[a-z]+|(?:goes|go|went) on (?!page\b|to\b)"
    r"|(?:the|another|that|this|every) one|one (?:that|which|whose)|ones|tells? of|told of)\b"
    r"|(?-i:(?:^|[.;:] )(?:Who|What) [a-z]+s? )",
    re.IGNORECASE | re.MULTILINE,
)
