"""`python -m ddpm_lab` is `ddpm-lab`."""

import sys

from ddpm_lab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
