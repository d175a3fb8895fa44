"""Attacks servers with everything in `attacks`, and prints what others notice:  python -m tests.hostile [NAME…]

They are real ones, with the preview and with CosyVoice2 in a small size. Status 1 where an attack was not met, where a
server was restarted, where /livez took more than half a second at its 99th percentile, where a running stream waited
so much longer than beside one other stream, or where memory is still held afterwards.
"""

import sys
import tempfile
from pathlib import Path

from tests.hostile.run import LIMIT_SECONDS, Outcome, attacked


def main(names: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        outcomes = attacked(Path(folder), names, tell=lambda line: print(line, flush=True))
    return max(told(name, outcome) for name, outcome in outcomes.items())


def told(name: str, outcome: Outcome) -> int:
    """Prints what came of it; the status."""
    noticed = outcome.noticed
    print(f"\n{name}: /livez p99 {1000 * noticed.p99():.0f} ms, longest {1000 * noticed.longest:.0f} ms")
    pace = f"{1000 * outcome.pace:.0f} ms beside one other"
    print(f"a running stream waited {1000 * noticed.stream:.0f} ms at the longest, {pace}")
    print(f"memory: {outcome.before >> 20} MiB before, {noticed.memory >> 20} at its peak, {outcome.after >> 20} after")
    print(f"restarts: {outcome.restarts}")
    late = max(noticed.p99(), noticed.stream - outcome.pace) > LIMIT_SECONDS
    if late:
        print(f"more than {LIMIT_SECONDS:g} s: too long", file=sys.stderr)
    for problem in outcome.problems:
        print(problem, file=sys.stderr)
    return int(late or bool(outcome.problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
