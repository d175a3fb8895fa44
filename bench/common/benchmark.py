"""A benchmark as the runner knows it: what it measures, what it needs, its options, and the function that measures."""

import argparse
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.common.results import Results

Measure = Callable[[argparse.Namespace, Results], None]


@dataclass(frozen=True)
class Benchmark:
    """`needs` is what a machine has to have beside the packages of the tests; bench/README.md shows it."""

    measure: Measure
    needs: str = "nothing"
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None

    @property
    def name(self) -> str:
        return Path(inspect.getfile(self._function)).stem  # also where it runs as `__main__`

    @property
    def _function(self) -> Measure:
        function: Measure = inspect.unwrap(self.measure)
        return function

    def run(self, argv: list[str] | None = None) -> None:
        about = self._function.__globals__["__doc__"]
        parser = argparse.ArgumentParser(
            prog=f"python -m bench {self.name}",
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.arguments(parser)
        parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go, as bench/README.md has it")
        options = parser.parse_args(argv)
        parameters = {name: value for name, value in vars(options).items() if name != "json"}
        self.measure(options, Results(self.name, parameters, options.json))
