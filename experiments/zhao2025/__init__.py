"""zhao2025: minima joined by symmetry, of small networks in closed form and of traced ones."""
