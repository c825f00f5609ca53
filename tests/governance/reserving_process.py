"""A process that calls until its budget is used up, or that dies in the middle of a call.

python reserving_process.py USAGE_DB hold|spend LIMIT_MICROS CALL_MICROS
"""

import signal
import sys
from pathlib import Path

from neural_trader_governance.errors import RiskError
from neural_trader_governance.usage import Attribution, Bound, Costs, UsageLedger

DAY = "2013-03-01"


def main(path: str, what: str, limit: str, call: str) -> None:
    ledger, who = UsageLedger(Path(path)), Attribution("alice", "agent-1")
    bounds = [Bound("the budget", None, DAY, DAY, int(limit))]
    while True:
        try:
            reservation = ledger.reserve(who, DAY, int(call), bounds)
        except RiskError:
            return
        if what == "hold":
            sys.stdout.write("reserved\n")
            sys.stdout.flush()
            signal.pause()
        ledger.settle(reservation, who, DAY, Costs(calls=1), int(call))
        sys.stdout.write("1\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
