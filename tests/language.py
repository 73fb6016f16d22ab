"""Phrases that no text for readers may have, and names that no variable may have (CONTRIBUTING.md, "Language")."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

#: syntax of German in English words, and phrases whose actor or noun is missing; each was in a text once
GERMAN = re.compile(
    r"\b(?:for ever|all the same|who(?:m?ever)|whatever|nobody|as to|of now|but for|in place of|dice"
    r"|(?:comes?|came) (?:of it|to the same|to nothing|to what)|sees? to (?:it|that)|passe?s? over"
    r"|(?<!there )(?:is|are|was|were) no (?!longer\b|more\b)[a-z]+|(?:goes|go|went) on (?!page\b|to\b)"
    r"|(?:the|another|that|this|every) one|one (?:that|which|whose)|ones|tells? of|told of)\b"
    r"|(?-i:(?:^|[.;:] )(?:Who|What) [a-z]+s? )",
    re.IGNORECASE | re.MULTILINE,
)
#: names of variables, parameters and attributes that say nothing: each stands for a noun that a reader has to look for
EMPTY = frozenset(("one", "ones", "found", "it", "thing", "things", "stuff"))


def empty_names(source: str) -> Iterator[tuple[int, str]]:
    """The lines of a module that bind such a name, with or without underscores around it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = node.id if isinstance(node, ast.Name) else node.attr
            bound = isinstance(node.ctx, ast.Store)
        elif isinstance(node, ast.arg):
            name, bound = node.arg, True
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)):
            name, bound = node.name or "", True
        else:
            continue
        if bound and name.strip("_") in EMPTY:
            yield node.lineno, name


#: the worst of them, which comments and docstrings may not have either
GERMAN_IN_CODE = re.compile(
    r"\b(?:for ever|but for|all the same|who(?:m?ever)|nobody|as to|of now|what (?:comes|came) of|(?:comes?|came) of it"
    r"|(?<!there )(?:is|are|was|were) no (?!longer\b|more\b)[a-z]+)\b",
    re.IGNORECASE,
)


def comments(source: str) -> Iterator[tuple[int, str]]:
    """The comments and docstrings of a module, with the lines on which they begin."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
            yield token.start[0], token.string
