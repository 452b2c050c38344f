"""Measures, interleaved, and prints tables of ratios with medians and spread."""

import argparse
import os

from bench import measurements, picture, profile, report
from bench.run import Options, Run
from bench.servers import ROOT


def main() -> None:
    """Run it and print the tables."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (5)")
    parser.add_argument("--seconds", type=float, default=5, help="length of each load (5)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="attempts of the largest table (1_000_000)")
    parser.add_argument("--only", choices=measurements.ALL | measurements.WITHIN, help="measure a part")
    parser.add_argument("--profile", action="store_true", help="tell where the time of one POST /useradd goes instead")
    parser.add_argument("--write", action="store_true", help="put what was found into docs/performance.md, too")
    chosen = parser.parse_args()
    if chosen.only and chosen.write:
        parser.error("a part of the figures is not written")
    os.chdir(ROOT)
    if chosen.profile:
        profile.main(chosen.seconds, write=chosen.write)
        return
    run = Run(Options(rounds=chosen.rounds, seconds=chosen.seconds, rows=chosen.rows))
    try:
        for measure in (
            [(measurements.ALL | measurements.WITHIN)[chosen.only]] if chosen.only else measurements.ALL.values()
        ):
            measure(run)
    finally:
        run.databases.close()
    print(report.text(run.notes))
    if chosen.write:
        report.write(run.notes)
        picture.write(run.notes)


if __name__ == "__main__":
    main()
