"""Code that all processes of a uvmp machine must agree on.

Package shared uses no Ray, no clock and no random numbers, and opens no file: it
takes bytes, streams and a `Port`, and returns values.
"""

from shared.form import FORM

__all__ = ["FORM"]
