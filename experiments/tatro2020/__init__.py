"""tatro2020: neuron alignment, trained curves, PAM, robust curves, planes."""
