"""Generator of the bundled inputs; run it with `python -m glscl.bundled`."""
