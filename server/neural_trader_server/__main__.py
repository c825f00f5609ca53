"""`python -m neural_trader_server` is the `neural-trader` command."""

from neural_trader_server.cli import main

if __name__ == "__main__":
    main()
