"""`python -m levelfield <verb>`: what the rules call."""

from levelfield.cli import main

raise SystemExit(main())
