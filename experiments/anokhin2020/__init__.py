"""Tables and figures of Anokhin & Yarotsky, "Low-loss connection of weight vectors" (2020)."""
