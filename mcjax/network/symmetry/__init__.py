"""What else than a permutation may be done to a group's units: found by rules, checked by runs."""
