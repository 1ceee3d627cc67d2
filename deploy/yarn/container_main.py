"""The program of an application master: `weir` with the arguments of the submission, in a container that has the settings' file."""

import runpy

if __name__ == "__main__":
    # As `python -m weir` does it: the command is run, never imported.
    runpy.run_module("weir", run_name="__main__", alter_sys=True)
