"""Faults for servers under test."""

from pathlib import Path

PATH = Path(__file__).parent
