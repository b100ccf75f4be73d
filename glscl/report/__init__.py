"""Pages, tables, clips and figures."""
