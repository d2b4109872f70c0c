"""Arrays drawn as figures; matplotlib is loaded on use."""
