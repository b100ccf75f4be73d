"""What only the notebooks, the Makefile and the benchmarks use: stages, parameters, questions, claims."""
