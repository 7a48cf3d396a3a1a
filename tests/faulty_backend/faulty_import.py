"""A backend whose library is broken: it cannot be imported, unless `FAULTY=mended`."""

import os

from faulty import Faulty as Mended

BACKENDS = {"faulty-import": {"framework": "plain-numpy", "image": "plain-numpy", "options": {"fault": "none"}}}

if os.environ.get("FAULTY") != "mended":
    raise ImportError("libfaulty.so.1: cannot open shared object file: No such file or directory")

Faulty = Mended
