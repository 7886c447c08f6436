#!/usr/bin/env python3
"""The reference tables of ../shared/oracle/accounting through `dpsgctl privacy`, as its README says.

    oracle_cli.py DPSGCTL [DIR] [--every N]

Beside oracle_accounting, which asks the library: this one goes the way of a user, every number as
text. TAP on standard output, one line for each table and accountant; without the tables all lines are
skipped. --every N takes each Nth row.
"""
import argparse
import csv
import json
import math
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

CHECKS = ["epsilon.csv rdp", "epsilon.csv gdp", "epsilon.csv prv", "heterogeneous.csv rdp",
          "heterogeneous.csv gdp", "heterogeneous.csv prv", "calibration.csv rdp",
          "calibration.csv prv", "delta.csv gdp", "delta.csv prv"]


class Table:
    """A table's rows and what is wrong with our answers to them."""

    def __init__(self, arguments, name):
        path = arguments.dir / name
        self.rows = list(csv.DictReader(path.open()))[:: arguments.every]
        self.dpsgctl = arguments.dpsgctl

    def ask(self, what, accountant, options):
        """The JSON answer, or None where dpsgctl refuses."""
        command = [self.dpsgctl, "privacy", what, "--json", "--accountant", accountant] + options
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def check(self, judge):
        """(rows that were judged, complaints) of judge(row) -> None: no row for it, "" or text."""
        with ThreadPoolExecutor(2) as pool:
            verdicts = list(pool.map(judge, self.rows))
        return (sum(v is not None for v in verdicts),
                [f"row {i}: {v}" for i, v in enumerate(verdicts) if v])


def value(answer, member):
    if answer is None:
        return math.nan
    return math.inf if answer[member] is None else answer[member]


def near(got, want, relative):
    if math.isinf(want) or math.isinf(got):
        return "" if got == want else f"{got}, want {want}"
    return "" if abs(got - want) <= relative * abs(want) + 1e-12 else f"{got}, want {want}"


def encloses(answer, ref, error):
    """Bounds on both sides of the reference, the upper one within 1e-2, the estimate 1e-3."""
    upper, room = value(answer, "epsilon"), error + 1e-9 * ref
    if not ref - upper <= room:
        return f"upper bound {upper} below {ref}"
    if not value(answer, "lower") - ref <= room:
        return f"lower bound {value(answer, 'lower')} above {ref}"
    if not upper - ref <= 1e-2 + error:
        return f"upper bound {upper} far above {ref}"
    estimate = value(answer, "estimate")
    return "" if abs(estimate - ref) <= 1e-3 * ref + error else f"estimate {estimate}, want {ref}"


def epsilon_judge(table, accountant, events_of):
    columns = {"rdp": "eps_rdp_opacus", "gdp": "eps_gdp_poisson"}

    def judge(row):
        options = ["--delta", row["delta"]]
        for event in events_of(row):
            options += ["--event", ",".join(event)]
        if accountant in columns:
            if not row[columns[accountant]]:
                return None
            got = value(table.ask("epsilon", accountant, options), "epsilon")
            return near(got, float(row[columns[accountant]]), 1e-6)
        if row.get("eps_ref"):
            ref, error = float(row["eps_ref"]), float(row["eps_ref_error"])
        elif row["eps_pld_upper"] and row["eps_prv_estimate"]:
            ref = float(row["eps_pld_upper"])
            error = abs(ref - float(row["eps_prv_estimate"])) + 1e-4 * ref
        else:
            return None
        return encloses(table.ask("epsilon", accountant, options), ref, error)

    return judge


def calibration_judge(table, accountant):
    def judge(row):
        answer = table.ask("noise-multiplier", accountant,
                           ["--target-epsilon", row["target_eps"], "--delta", row["delta"],
                            "--sample-rate", row["q"], "--steps", row["steps"]])
        column = "sigma_rdp_opacus" if accountant == "rdp" else "sigma_pld"
        if not row[column]:
            return "" if answer is None else "reached what cannot be reached"
        if value(answer, "epsilon") > float(row["target_eps"]):
            return "exceeds the target"
        return near(value(answer, "noise_multiplier"), float(row[column]),
                    1e-6 if accountant == "rdp" else 1e-3)

    return judge


def delta_judge(table, accountant):
    def judge(row):
        column = "delta_gdp_poisson" if accountant == "gdp" else "delta_pld_upper"
        if not row[column]:
            return None
        answer = table.ask("delta", accountant,
                           ["--epsilon", row["eps"], "--event",
                            f"{row['q']},{row['sigma']},{row['steps']}"])
        got, want = value(answer, "delta"), float(row[column])
        if accountant == "gdp":
            return near(got, want, 1e-5)
        return "" if got - want <= 2e-3 * want + 1e-13 else f"{got} above {want}"

    return judge


def judges(arguments):
    """[(rows, complaints)] in the order of CHECKS."""
    plain = Table(arguments, "epsilon.csv")
    mixed = Table(arguments, "heterogeneous.csv")
    noise = Table(arguments, "calibration.csv")
    deltas = Table(arguments, "delta.csv")

    def one(row):
        return [(row["q"], row["sigma"], row["steps"])]

    def several(row):
        return [segment.split(":") for segment in row["segments"].split(";")]

    for table, events_of in ((plain, one), (mixed, several)):
        for accountant in ("rdp", "gdp", "prv"):
            yield table.check(epsilon_judge(table, accountant, events_of))
    for accountant in ("rdp", "prv"):
        yield noise.check(calibration_judge(noise, accountant))
    for accountant in ("gdp", "prv"):
        yield deltas.check(delta_judge(deltas, accountant))


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    shared = pathlib.Path(os.environ.get("DPSGD_SHARED", root.parent / "shared"))
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dpsgctl")
    p.add_argument("dir", type=pathlib.Path, nargs="?", default=shared / "oracle/accounting")
    p.add_argument("--every", type=int, default=1)
    a = p.parse_args()
    print(f"1..{len(CHECKS)}")
    if not (a.dir / "epsilon.csv").exists():
        for i, name in enumerate(CHECKS):
            print(f"ok {i + 1} - {name} # SKIP no reference tables")
        return 0
    failed = 0
    for i, (rows, complaints) in enumerate(judges(a)):
        failed += bool(complaints)
        print(f"{'not ok' if complaints else 'ok'} {i + 1} - {CHECKS[i]}, {rows} rows", flush=True)
        for text in complaints[:10]:
            print(f"# {text}")
    print(f"# {len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
