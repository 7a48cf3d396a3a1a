"""`python -m levelfield <verb>`: what the rules call."""

from levelfield.commands.cli import main

raise SystemExit(main())
