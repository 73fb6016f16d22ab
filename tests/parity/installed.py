"""An actor whose uvmp is installed elsewhere, if its process has $UVMP_TEST_ROOT: it imports nothing of ours before."""

from __future__ import annotations

import os
import sys

if os.environ.get("UVMP_TEST_ROOT"):
    sys.path.insert(0, os.environ["UVMP_TEST_ROOT"])

from nodes.host.ray import NodeActor


class Installed(NodeActor):
    """As it is there."""
