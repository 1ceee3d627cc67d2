"""Which figure? `python -m bench [--quick] [CASE]`: runs one case, or all, and prints what docs/benchmarks.md keeps."""

import argparse

from bench.freshness import freshness

CASES = {"freshness": freshness}


def main() -> None:
    """Run the named case, or every one."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("case", nargs="?", choices=[*CASES], help="case to run; all without")
    parser.add_argument("--quick", action="store_true", help="the same on less data")
    chosen = parser.parse_args()
    for name in [chosen.case] if chosen.case else CASES:
        CASES[name](quick=chosen.quick)


if __name__ == "__main__":
    main()
