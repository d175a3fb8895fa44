"""Triton's interpreter runs the kernels of these tests: it is asked for when they are imported."""

import os

os.environ["TRITON_INTERPRET"] = "1"
