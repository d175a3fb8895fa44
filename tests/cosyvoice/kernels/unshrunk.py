"""A failing example is shown as it was found: the interpreter is too slow to look for a smaller one."""

from hypothesis import Phase

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
