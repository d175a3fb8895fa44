"""Lists the benchmarks, or runs one:  python -m bench [NAME [OPTION…]]"""

import sys
from importlib import import_module

from bench.common.index import entries


def main() -> None:
    names = [entry.name for entry in entries()]
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("python -m bench NAME [OPTION…]; --help after a name lists its options\n")
        for entry in entries():
            needs = "" if entry.needs == "nothing" else f" (needs {entry.needs})"
            print(f"  {entry.name:14}  {entry.about}{needs}")
    elif sys.argv[1] in names:
        import_module(f"bench.{sys.argv[1]}").BENCHMARK.run(sys.argv[2:])
    else:
        sys.exit(f"bench: there is no {sys.argv[1]}; there are: {', '.join(names)}")


if __name__ == "__main__":
    main()
