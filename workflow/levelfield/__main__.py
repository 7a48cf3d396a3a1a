"""`python -m levelfield <verb>`: what the rules call."""

import faulthandler

from levelfield.commands.cli import main

faulthandler.enable()  # a crash in compiled code names its place in the log
raise SystemExit(main())
