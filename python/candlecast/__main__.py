"""`python -m candlecast`."""

import sys

from candlecast.cli import main

sys.exit(main())
