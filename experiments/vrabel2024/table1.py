"""`python -m experiments.vrabel2024.table1`: adversarial inputs told from clean ones.

Five attacks; six things that a detector can look at, the loss curve with and without logits; one
detector for all attacks and one for each (vrabel2024, Table 1, App. B.3 and B.4). And, what the
paper has not, an attacker who knows the detector.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import mcjax
from mcjax.attacks import BIM, FGSM, PGD, Attacked, CarliniWagner, DeepFool
from mcjax.inputs import (
    AdaptivePGD,
    Detection,
    Feature,
    InputSpectrum,
    LayerSpectrum,
    LocalDimension,
    LossCurve,
    Mahalanobis,
    detect,
)

from ..common import done, write
from ..figures import AFTER, BEFORE, GREY, figure
from .endpoints import Endpoint, Trained, endpoint, folder_of

ATTACKS = ("FGSM", "BIM", "PGD", "DeepFool", "C&W")
# PGD that knows the detector by loss curves; the paper has none.
ADAPTIVE = "adaptive PGD"
# (accuracy, AUC) in percent, CIFAR-10 and VGG-16, in the order of ATTACKS.
PAPER = {
    "LID": ((86.4, 90.8), (85.6, 93.3), (80.4, 90.0), (78.9, 86.6), (78.1, 85.3)),
    "Mahalanobis": ((95.6, 98.8), (97.3, 99.3), (96.0, 98.6), (76.1, 84.6), (76.9, 84.6)),
    "InputMFS": ((98.1, 99.7), (93.5, 97.8), (93.6, 97.9), (58.0, 60.6), (54.7, 56.1)),
    "LayerMFS": ((99.6, 100), (99.2, 100), (98.3, 99.9), (72.0, 80.3), (69.9, 77.7)),
    "LayerPFS": ((97.0, 99.9), (98.0, 99.9), (96.9, 99.6), (86.1, 92.2), (86.8, 93.3)),
    "mode connectivity": ((69.8, 76.8), (95.2, 98.6), (91.8, 97.4), (91.4, 96.9), (93.7, 98.3)),
}
# One detector for all attacks, one for each, and the paper's, in the figure.
DETECTORS: Mapping[bool, tuple[str, dict[str, Any]]] = {
    True: ("one detector for all attacks", {"marker": "o", "color": AFTER, "ms": 6}),
    False: ("a detector for each", {"marker": "o", "color": AFTER, "ms": 7, "mfc": "none"}),
}
OF_PAPER: Mapping[str, Any] = {
    "label": "paper (CIFAR-10, VGG-16)", "marker": "x", "color": BEFORE, "ms": 6,
}  # fmt: skip


@dataclasses.dataclass
class Table1(Trained):
    """Detection of adversarial inputs."""

    images: int = 1000
    """Test images that are attacked."""
    weight: float = 10.0
    """Of the loss curve in the adaptive attack."""
    reference: int = 5000
    """Training images: templates, Gaussians and neighbours come from them."""


def attacks(options: Table1) -> dict[str, Any]:
    """The attacks by name. ε is 0.03 on CIFAR-10, as in the benchmark; on digits larger."""
    epsilon = 0.03 if options.data == "cifar10" and not options.small else 0.1
    steps, rounds = (20, 2) if options.smoke else (200, 5)
    search = CarliniWagner(steps, rounds, c=1.0 if options.smoke else 1e-2)
    return {
        "FGSM": FGSM(epsilon),
        "BIM": BIM(epsilon, epsilon / 5, 10),
        "PGD": PGD(epsilon, epsilon / 30, 10 if options.smoke else 40),
        "DeepFool": DeepFool(candidates=3) if options.smoke else DeepFool(),
        "C&W": search,
    }


def rows(options: Table1) -> dict[str, Feature]:
    """What detectors look at, by the table's names."""
    points = 10 if options.smoke else 50
    dimension = LocalDimension(5, 100) if options.smoke else LocalDimension()
    return {
        "LID": dimension,
        "Mahalanobis": Mahalanobis(),
        "InputMFS": InputSpectrum(),
        "LayerMFS": LayerSpectrum(),
        "LayerPFS": LayerSpectrum(phase=True),
        "mode connectivity": LossCurve(points),
        "mode connectivity, no logits": LossCurve(points, logits=False),
    }


def attacked(net: Endpoint, options: Table1, reference: tuple[Any, Any]) -> dict[str, Attacked]:
    """Test images attacked, by the attack's name; the adaptive attack last."""
    order = np.random.default_rng(options.seed).permutation(len(net.data.y_test))
    some = order[: options.images]
    x, y = np.asarray(net.data.x_test)[some], np.asarray(net.data.y_test)[some]
    every = attacks(options)
    pgd: PGD = every["PGD"]
    every[ADAPTIVE] = AdaptivePGD.against(
        net.apply, net.params, reference, epsilon=pgd.epsilon, step=pgd.step, steps=pgd.steps,
        weight=options.weight,
    )  # fmt: skip
    found = {}
    for name, attack in every.items():
        found[name] = kept(net, options, name, attack, x, y)
        print(f"{name}: {found[name].summary()}", flush=True)
    return found


def kept(
    net: Endpoint, options: Table1, name: str, attack: Any, x: np.ndarray, y: np.ndarray
) -> Attacked:
    """An attack of these images; what a run has done already is read again."""
    folder = options.working("vrabel2024", "table1") / "attacked"
    of = hashlib.sha256(repr(attack).encode())
    for part in (x, y, *jax.tree.leaves(net.params)):
        of.update(np.asarray(part).tobytes())
    file = folder / f"{name.replace('&', '')}-{options.seed}-{of.hexdigest()[:16]}.npz"
    if file.exists():
        with np.load(file) as there:
            return Attacked(clean=x, y=y, target=None, attack=attack, **there)
    key = jax.random.key(options.seed)
    made = attack(net.apply, net.params, x, y, key=key, chunk=net.chunk)
    buffer, fields = io.BytesIO(), ("x", "status", "before", "predicted")
    np.savez(buffer, **{k: getattr(made, k) for k in fields})
    write(file, buffer.getvalue())
    return made


def main(options: Table1) -> None:
    """Attack, detect, write."""
    net = endpoint(options)
    folder, name = folder_of(options, "table1"), f"table1-{net.name}"
    reference = net.data.first(options.reference)
    reference = np.asarray(reference.x_train), np.asarray(reference.y_train)
    found = attacked(net, options, reference)
    known = {k: v for k, v in found.items() if k != ADAPTIVE}
    network = mcjax.trace(net.apply, net.params, reference[0][:2])
    key, made = jax.random.key(options.seed), {}
    for row, feature in rows(options).items():
        given: Any = (feature, network, net.params, reference)
        unseen = {ADAPTIVE: found[ADAPTIVE]}
        made[row, True] = detect(*given, known, unseen=unseen, key=key, chunk=net.chunk)
        made[row, False] = detect(*given, found, jointly=False, key=key, chunk=net.chunk)
        print(f"{row}\n{made[row, True].summary()}", flush=True)
    record = as_record(net, options, found, made, len(reference[0]))
    write(folder / f"{name}.json", record)
    write(folder / f"{name}.md", as_markdown(record))
    draw(record, folder / f"{name}.png")
    done(*(folder / f"{name}.{ending}" for ending in ("json", "md", "png")))


def as_record(
    net: Endpoint, options: Table1, found: dict[str, Attacked],
    made: dict[tuple[str, bool], Detection], reference: int,
) -> dict[str, Any]:  # fmt: skip
    """All numbers."""
    return {
        "data": net.name, "network": type(net.model).__name__, "accuracy": net.accuracy,
        "images": len(next(iter(found.values())).x), "reference": reference,
        "seed": options.seed,
        "attacks": {
            k: {
                "attack": repr(v.attack), "rate": v.rate, "successes": int(v.success.sum()),
                "l2": float(np.median(v.l2[v.success])),
                "linf": float(np.median(v.linf[v.success])),
            }
            for k, v in found.items()
        },
        "detectors": [
            {
                "row": row, "feature": repr(d.feature), "jointly": jointly, "auc": d.auc,
                "accuracy": d.accuracy, "chosen": dict(d.chosen),
                "pairs": {k: list(v) for k, v in d.pairs.items()},
            }
            for (row, jointly), d in made.items()
        ],
    }  # fmt: skip


def as_markdown(record: dict[str, Any]) -> str:
    """The table, the paper's numbers below ours."""
    columns = (*ATTACKS, ADAPTIVE)
    head = "| looked at | detector | " + " | ".join(columns) + " |\n|---|---|" + "---|" * 6
    lines = [
        f"# Table 1: detection of adversarial inputs, {record['data']}",
        "",
        f"{record['network']}, {record['accuracy']:.2f} % accurate; {record['images']:,} test "
        f"images attacked; {record['reference']:,} training images for templates, Gaussians and "
        "neighbours. Accuracy / AUC in percent, on a test of pairs, half of them clean; attacks "
        "that failed and images misclassified before are left out. Of the images 20 % are for the "
        "test and 20 % of the others for validation, an image and all its twins in one part. "
        "The paper's are on CIFAR-10 with VGG-16; it fits its own row to all attacks at once, the "
        f"benchmark's rows to each. {ADAPTIVE}, of the same radius and steps as PGD, knows the "
        "detector by mode connectivity and lowers the loss curve, too; the detectors for all have "
        "been trained for the other five.",
        "",
        "| attack | success | median L2 | median L∞ | pairs (training, validation, test) |",
        "|---|---|---|---|---|",
    ]
    pairs = record["detectors"][1]["pairs"]
    for name, a in record["attacks"].items():
        counts = ", ".join(map(str, pairs[name]))
        lines.append(f"| {name} | {a['rate']:.1%} | {a['l2']:.3f} | {a['linf']:.3f} | {counts} |")
    lines += ["", head]
    for d in record["detectors"]:
        cells = [f"{100 * d['accuracy'][a]:.1f} / {100 * d['auc'][a]:.1f}" for a in columns]
        kind = "for all" if d["jointly"] else "for each"
        lines.append(f"| {d['row']} | {kind} | " + " | ".join(cells) + " |")
        if d["row"] in PAPER and d["jointly"] == (d["row"] == "mode connectivity"):
            cells = [f"{accuracy} / {auc}" for accuracy, auc in PAPER[d["row"]]]
            lines.append(f"| {d['row']} | *paper* | " + " | ".join(cells) + " | |")
    chosen = next(d for d in record["detectors"] if d["row"] == "mode connectivity")
    lines += [
        "",
        "Validation chose for mode connectivity, for all attacks: "
        f"{next(iter(chosen['chosen'].values()))}. Its template of a class is the training image "
        "of the lowest loss. The attacks, of pixels in [0, 1]: "
        + "; ".join(f"`{shorter(a['attack'])}`" for a in record["attacks"].values())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def shorter(attack: str) -> str:
    """An attack without what all of them share: what pixels are, and the templates."""
    shared = r"(bounds|mean|std)=\([^)]*\), |templates=Templates\([^)]*\), "
    return re.sub(r"\d\.\d{6,}", lambda n: f"{float(n[0]):.3g}", re.sub(shared, "", attack))


def draw(record: Mapping[str, Any], file: Path) -> None:
    """The AUC of every detector on each attack, beside the paper's."""
    names = list(dict.fromkeys(d["row"] for d in record["detectors"]))
    places = {name: len(names) - 1 - k for k, name in enumerate(names)}
    columns = (*ATTACKS, ADAPTIVE)
    least = 100 * min(d["auc"][attack] for d in record["detectors"] for attack in columns)
    with figure(file, 13, 3.8, legend=3) as drawn:
        panels = drawn.subplots(1, len(columns), sharex=True, sharey=True)
        for axes, attack in zip(panels, columns, strict=True):
            for jointly, (label, style) in DETECTORS.items():
                of = [d for d in record["detectors"] if d["jointly"] == jointly]
                x, y = [100 * d["auc"][attack] for d in of], [places[d["row"]] for d in of]
                axes.plot(x, y, label=label, ls="", **style)
            if attack in ATTACKS:
                x = [of[ATTACKS.index(attack)][1] for of in PAPER.values()]
                axes.plot(x, [places[row] for row in PAPER], ls="", **OF_PAPER)
            axes.axvline(50, color=GREY, ls=":", lw=1.2)
            axes.set(title=attack, xlabel="AUC (%)", xlim=(min(45, least - 2), 102))
        panels[0].set_yticks(list(places.values()), list(places))


if __name__ == "__main__":
    main(tyro.cli(Table1))
