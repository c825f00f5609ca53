"""The command line; `main` stands here because installed scripts name `neural_trader_server.cli:main`."""

from neural_trader_server.cli.root import main

__all__ = ["main"]
