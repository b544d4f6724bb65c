"""``python -m cxml`` is the command line."""

from cxml.cli import main

main()
