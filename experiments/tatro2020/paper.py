"""The numbers that tatro2020 reports."""

# Table 1: (model, data) → curve class → (average, minimum accuracy along the curve) as
# (mean, standard deviation) in percent, and the end points' average.
KINDS = ("unaligned", "pam-unaligned", "pam-aligned", "aligned")
TABLE1 = {
    ("tiny-ten", "cifar10"): {
        "endpoints": ((89.0, 0.1), None),
        "unaligned": ((87.4, 0.1), (82.8, 0.5)),
        "pam-unaligned": ((87.6, 0.1), (84.0, 0.3)),
        "pam-aligned": ((88.4, 0.1), (87.6, 0.2)),
        "aligned": ((88.5, 0.1), (87.8, 0.1)),
    },
    ("resnet32", "cifar10"): {
        "endpoints": ((92.9, 0.1), None),
        "unaligned": ((92.2, 0.1), (89.1, 0.2)),
        "pam-unaligned": ((92.4, 0.1), (89.9, 0.2)),
        "pam-aligned": ((92.7, 0.0), (92.1, 0.1)),
        "aligned": ((92.7, 0.1), (92.2, 0.0)),
    },
    ("googlenet", "cifar10"): {
        "endpoints": ((93.4, 0.0), None),
        "unaligned": ((93.3, 0.0), (92.1, 0.1)),
        "aligned": ((93.4, 0.0), (93.1, 0.0)),
    },
}

# Table 2: training loss, (model, data) → curve class → (mean, standard deviation).
TABLE2 = {
    ("tiny-ten", "cifar10"): {
        "unaligned": (0.428, 0.003),
        "pam-unaligned": (0.413, 0.001),
        "pam-aligned": (0.372, 0.002),
        "aligned": (0.371, 0.002),
    },
    ("resnet32", "cifar10"): {
        "unaligned": (0.179, 0.001),
        "pam-unaligned": (0.170, 0.001),
        "pam-aligned": (0.147, 0.002),
        "aligned": (0.147, 0.001),
    },
    ("googlenet", "cifar10"): {"unaligned": (0.540, 0.001), "aligned": (0.516, 0.001)},
}
