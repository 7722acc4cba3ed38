"""Training: the loops behind fit, evaluate and predict, their data, their checks, and callbacks."""
