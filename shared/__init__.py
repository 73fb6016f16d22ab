"""What every process of a uvmp machine must agree on.

No Ray, no clock and no dice live here, and nothing here opens a file: package
shared takes bytes, streams and a `Port`, and gives back values.
"""

from shared.form import FORM

__all__ = ["FORM"]
