"""Studies: several experiments and seeds under one plan, and what their numbers say together."""
