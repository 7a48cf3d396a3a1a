"""How much of the long tables of tests is run: some of each in continuous integration, all by `make faults`."""

import os

ALL = os.environ.get("LEVELFIELD_FAULTS", "some") == "all"
