"""What to buy next, from the rows there are: laws, exchange rate, price book, recommendation."""

from equipoise.advice.advise import Advised, advise

__all__ = ["Advised", "advise"]
