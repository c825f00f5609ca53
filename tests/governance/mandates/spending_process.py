"""A process that spends from a mandate until it has no room left, and says what it spent.

python spending_process.py DB KEY ISSUER_VKEY NAME CENTS
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from neural_trader_governance import mandates
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import WallClock


def main(database: str, key: str, vkey: str, name: str, cents: str) -> None:
    signer, issuer, amount = SigningKey.load(Path(key)), VerifyingKey.parse(vkey), int(cents)
    now = datetime(2013, 3, 1, 15, tzinfo=UTC)
    with Store.open(Path(database), origin=signer.name, signer=signer, clock=WallClock()) as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()  # all begin at once
        for number in range(100_000):
            with store.unit() as unit:
                standing = mandates.assess(
                    unit.connection,
                    issuer=issuer,
                    agent="research-bot",
                    account="paper",
                    symbol="AAPL",
                    side="buy",
                    notional_cents=amount,
                    now=now,
                )
                if standing.mandate_id is None:
                    break
                mandates.spend(
                    unit.connection,
                    standing.mandate_id,
                    issuer=issuer,
                    client_order_id=f"{name}-{number}",
                    cents=amount,
                    now=now,
                )
            sys.stdout.write(f"{amount}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
