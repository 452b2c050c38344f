"""Run interleaved measurements and print tables with medians and spread."""

import argparse
import os

from bench import chart, measurements, profile, report
from bench.run import FEW_ROWS, Options, Run
from bench.servers import ROOT


def main() -> None:
    """Run the measurements and print the tables."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (5)")
    parser.add_argument("--seconds", type=float, default=5, help="length of each load (5)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="attempts of the largest table (1_000_000)")
    parser.add_argument("--only", choices=measurements.ALL | measurements.WITHIN, help="measure a part")
    parser.add_argument("--profile", action="store_true", help="instead print where the time of one POST /useradd goes")
    parser.add_argument(
        "--write", action="store_true", help="also write the results to docs/performance.md and its chart"
    )
    options = parser.parse_args()
    if options.only and options.write:
        parser.error("--only cannot be combined with --write")
    if options.rows < FEW_ROWS:
        parser.error(f"--rows must be at least {FEW_ROWS}")
    os.chdir(ROOT)
    if options.profile:
        profile.main(options.seconds, write=options.write)
        return
    run = Run(Options(rounds=options.rounds, seconds=options.seconds, rows=options.rows))
    try:
        for measure in (
            [(measurements.ALL | measurements.WITHIN)[options.only]] if options.only else measurements.ALL.values()
        ):
            measure(run)
    finally:
        run.databases.close()
    print(report.format_tables(run.results))
    if options.write:
        report.write(run.results)
        chart.write(run.results)


if __name__ == "__main__":
    main()
