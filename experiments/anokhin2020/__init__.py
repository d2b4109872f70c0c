"""The tables and figures of Anokhin and Yarotsky, "Low-loss connection of weight vectors" (2020)."""
