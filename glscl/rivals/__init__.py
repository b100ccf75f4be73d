"""The rivals of GLSCL, one head each; `glscl.methods` lists them all."""
