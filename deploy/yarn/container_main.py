"""The program of an application master: `weir` with the arguments of the submission, in a container that has the settings' file."""

import sys

from weir import main

if __name__ == "__main__":
    sys.argv[0] = "weir"
    main()
