"""`python -m app` is `pos-sync`."""

from app.cli import main

main()
