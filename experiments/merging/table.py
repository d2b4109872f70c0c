"""`python -m experiments.merging.table`: every merging method on networks from different seeds, as
trained, matched and (ViTs) with elements of the whole group learned, and on networks fine-tuned
from one base.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import mcjax
from mcjax.figures import house_style, new_panels, save_figure
from mcjax.figures.bars import draw_bars
from mcjax.merge import PRESETS, Each, Fisher, Starlight, traits_of
from mcjax.study_merging import compare_merging

from ..common import done, write
from .networks import Data, Options, Setting, from_base, from_seeds, learned, setting, some

CASES = {
    "as trained": "different seeds, units as trained",
    "matched": "different seeds, units matched",
    "learned": "different seeds, whole group learned",
    "fine-tuned": "fine-tuned from one base",
}
# Methods of a smoke run: tests/merge has all of them.
SMOKE = ("soup", "slerp", "task-arithmetic", "star")
# Of every network's own data that methods look at, at most.
LOOKED_AT = 2000
# Examples of the Fisher information of the larger networks.
FISHER = 256


@dataclasses.dataclass
class Table(Options):
    """Merging methods beside each other."""

    star: bool = True
    """Train a star network too (not of ViTs)."""


def cases(of: Setting) -> dict[str, str]:
    """Those of a setting, and their titles."""
    return {c: title for c, title in CASES.items() if of.learning or c != "learned"}


def methods(options: Table, of: Setting, align: bool) -> dict[str, Any]:
    """The presets, and a star network, trained for half as many epochs as what is fine-tuned."""
    star = Starlight(dataclasses.replace(of.tuning, epochs=max(of.tuning.epochs // 2, 1)), align)
    fisher = {} if of.name == "digits" else {"fisher": Fisher(examples=FISHER)}
    stars = {"star": star} if options.star and of.name != "vit" else {}
    presets = {name: m for name, m in PRESETS.items() if not traits_of(m).trains}
    every = {**presets, **fisher, **stars}
    return {n: every[n] for n in (SMOKE if options.smoke else every)}


def compared(
    network: mcjax.Network, networks: list[Any], of: Setting, chosen: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Methods on one set of networks; those of two networks, and the soup, on the first two."""
    train = of.train[0][: of.seen], of.train[1][: of.seen]
    given: dict[str, Any] = {"train": train, "test": of.test, "key": jax.random.key(0), **more}
    two = {n: m for n, m in chosen.items() if n == "soup" or traits_of(m).pairs_only}
    every = {n: m for n, m in chosen.items() if not traits_of(m).pairs_only}
    record: dict[str, Any] = {"methods": {}}
    if every:
        record = compare_merging(network, networks, methods=every, **given).to_dict()
    if two:
        if own := given.pop("own", None):
            given["own"] = tuple(Each(v.values[:2]) for v in own)
        pair = compare_merging(network, networks[:2], methods=two, **given).to_dict()
        for name, values in pair["methods"].items():
            label = f"{values['label']} (two networks)"
            record["methods"][f"{name}, two networks"] = {**values, "label": label}
        record["two networks"] = {k: pair[k] for k in ("networks", "ensemble")}
    return record


def one_set(options: Table, of: Setting, number: int, work: Path) -> dict[str, Any]:
    """The cases of one set; what a run has done already is read again."""
    file = work / f"{of.name}-{number}.json"
    found: dict[str, Any] = {case: {"methods": {}} for case in cases(of)} | {"CPU seconds": 0.0}
    if file.exists():
        found |= json.loads(file.read_text())
    wanted = {
        case: {n: m for n, m in methods(options, of, case == "matched").items()
               if not {n, f"{n}, two networks"}.intersection(found[case]["methods"])}
        for case in cases(of)
    }  # fmt: skip
    if not any(wanted.values()):
        return found
    networks, (base, tuned) = from_seeds(of, number, work), from_base(of, number, work)
    network = mcjax.trace(of.model.apply, networks[0], of.train[0][:2])
    own = tuple(map(Each, zip(*(_first(some(of.train, s)) for s in of.splits), strict=True)))
    given: dict[str, dict[str, Any]] = {
        "as trained": {"align": False}, "matched": {}, "learned": {"align": False},
        "fine-tuned": {"base": base, "own": own},
    }  # fmt: skip
    for case in cases(of):
        if wanted[case]:
            start = time.process_time()
            of_case = network, tuned if case == "fine-tuned" else networks
            if case == "learned":
                of_case = learned(*of_case, of, number, work)
            new = compared(*of_case, of, wanted[case], **given[case])
            known = found[case]["methods"] | new["methods"]
            found[case] = {**new, **found[case], "methods": known}
            found["CPU seconds"] += time.process_time() - start
            write(file, found)
    return found


def _first(data: Data) -> Data:
    return data[0][:LOOKED_AT], data[1][:LOOKED_AT]


# -- the table ------------------------------------------------------------------------------------


def cell(sets: list[dict[str, Any]], case: str, method: str, metric: str) -> str:
    """Mean ± one standard deviation over sets, or what it needs."""
    rows = [s[case]["methods"][method] for s in sets]
    if any(r["error"] for r in rows):
        return f"needs {rows[0]['needs']}"
    return spread([float(r["values"]["test"][metric]) for r in rows], metric)


def shown(sets: list[dict[str, Any]]) -> dict[str, str]:
    """The cases that were run, and their titles."""
    return {case: title for case, title in CASES.items() if case in sets[0]}


def ordered(names: Mapping[str, Any]) -> list[str]:
    """Methods of all networks first."""
    return sorted(names, key=lambda name: name.endswith("two networks"))


def spread(values: Any, metric: str) -> str:
    """Of accuracies in percent, of losses as they are."""
    scale, digits = (100, 1) if metric == "accuracy" else (1, 3)
    values = scale * np.asarray(values, float)
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def references(sets: list[dict[str, Any]], metric: str) -> list[list[str]]:
    """Rows of what merged networks are compared with."""
    own, best, base, ensemble = (["network, mean"], ["network, best"], ["base"], ["ensemble"])
    for case in shown(sets):
        each = [np.asarray(s[case]["networks"]["test"][metric], float) for s in sets]
        own.append(spread([v.mean() for v in each], metric))
        most = np.max if metric == "accuracy" else np.min
        best.append(spread([most(v) for v in each], metric))
        bases = [s[case]["base"]["test"][metric] for s in sets if s[case]["base"]]
        base.append(spread(bases, metric) if bases else "–")
        ensemble.append(spread([s[case]["ensemble"]["test"][metric] for s in sets], metric))
    return [own, best, base, ensemble]


def on_one_line(model: str) -> str:
    """`repr` of a flax module, whose fields are a line each, as one would call it."""
    name, _, fields = model.partition("(")
    parts = re.findall(r"^ *(\w+) = (.*)$", fields, re.M)
    return f"{name}({', '.join(f'{field}={value}' for field, value in parts)})"


def as_markdown(record: dict[str, Any]) -> str:
    sets, described = record["sets"], record["setting"]
    first = sets[0]["as trained"]
    splits = ", ".join(f"{min(s)} to {max(s)}" for s in described["splits"])
    over = f"mean ± one standard deviation over {len(sets)} sets" if len(sets) > 1 else "one set"
    model = on_one_line(described["model"])
    lines = [
        f"# Merging: {record['name']}", "",
        f"`{model}`, {described['train']:,} training and {described['test']:,} test examples; "
        f"sets of {len(described['splits'])} networks, {over}. Test accuracy in percent, then test "
        "loss.", "",
        f"Fine-tuned: the base saw all classes (epochs: {described['protocols']['base']['epochs']})"
        f", then each network its own ({splits}; epochs: "
        f"{described['protocols']['tuning']['epochs']}); tested on all classes.",
    ]  # fmt: skip
    for metric in ("accuracy", "loss"):
        titles = shown(sets)
        lines += ["", f"| test {metric} | {' | '.join(titles.values())} |"]
        lines += ["|---|" + "---:|" * len(titles)]
        rows = [
            [first["methods"][m]["label"], *(cell(sets, case, m, metric) for case in titles)]
            for m in ordered(first["methods"])
        ]
        lines += ["| " + " | ".join(r) + " |" for r in [*rows, *references(sets, metric)]]
    found = dict.fromkeys(s["matched"]["alignment"] for s in sets)
    lines += ["", f"Units matched: {', '.join(found)}."]
    if "learned" in sets[0]:
        epochs = described["protocols"]["learning"]["epochs"]
        lines[-1] += (
            " Whole group learned: normalisations absorbed, each network brought to the mean of "
            f"those before it by activations and then {epochs} epochs of `learn_action`."
        )
    return "\n".join(lines) + "\n"


def draw(record: dict[str, Any], file: Path) -> None:
    """Test accuracies, a panel a case: bars of methods, with a standard deviation over sets, lines
    of the networks and the ensemble."""
    sets = record["sets"]
    with house_style():
        every = sets[0]["matched"]["methods"]
        names = {name: every[name] for name in ordered(every)}
        cases = shown(sets)
        panels, figure = new_panels(len(cases), 2, width=4.8, height=1.6 + 0.28 * len(names))
        for panel, (case, title) in zip(panels, cases.items(), strict=True):
            bars, wide = {}, {}
            for name, method in names.items():
                rows = [s[case]["methods"][name] for s in sets]
                values = [r["values"]["test"]["accuracy"] for r in rows if not r["error"]]
                bars[method["label"]] = 100 * float(np.mean(values)) if values else np.nan
                if len(values) > 1:
                    wide[method["label"]] = 100 * float(np.std(values, ddof=1))
            own, together = (np.mean([np.mean(s[case][k]["test"]["accuracy"]) for s in sets])
                             for k in ("networks", "ensemble"))  # fmt: skip
            lines = {"networks": 100 * float(own), "ensemble": 100 * float(together)}
            draw_bars(bars, "test accuracy (%)", lines=lines, spread=wide, ax=panel)
            panel.set_title(title, pad=22)
        save_figure(figure, file)


def main(options: Table) -> None:
    of = setting(options)
    work = options.working("merging", "table")
    sets = []
    for number in range(of.sets):
        sets.append(one_set(options, of, number, work))
        print(f"{of.name}: set {number + 1} of {of.sets}", flush=True)
    record = {"name": of.name, "setting": of.described, "sets": sets}
    folder, name = options.results(work, __file__), f"table-{of.name}"
    write(folder / f"{name}.json", record)
    write(folder / f"{name}.md", as_markdown(record))
    draw(record, folder / f"{name}.png")
    done(*(folder / f"{name}.{ending}" for ending in ("json", "md", "png")))


if __name__ == "__main__":
    main(tyro.cli(Table))
