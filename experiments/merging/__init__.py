"""Several networks merged into one: every method of `mcjax.merge`, beside each other."""
