"""What the Snakefile asks: paths, slices of settings, the order of runs, images of a rule, Slurm's queue, time budgets."""
