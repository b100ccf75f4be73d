"""What is made of ranks and embeddings: tables, statistics, comparisons, concepts."""
