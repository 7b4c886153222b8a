"""Prompts x models x guidances x seeds, scored: `rfgs bench` and the table it prints. Figures come from runs alone."""
