"""Checks dashboards against Grafana's schema: `check.py DASHBOARD.json ...`.

Grafana shows what it can of a wrong dashboard and ignores the rest. Here each dashboard is read into the types of
the Grafana Foundation SDK, which are generated from Grafana's schema. typeguard finds values of a wrong type, and
unknown fields are missing when the dashboard is written again. Finally, mistakes made on purpose must be found.
"""

import copy
import enum
import inspect
import json
import pathlib
import sys

import typeguard


def schema_checker(origin, args, extras):
    """How typeguard checks what the SDK leaves as plain JSON: values of an enumeration, and objects in some
    lists."""
    if not inspect.isclass(origin):
        return None
    if issubclass(origin, enum.Enum):
        words = [word.value for word in origin]

        def check(value, origin, args, memo):
            if value not in words:
                raise typeguard.TypeCheckError(f"is not one of {words}")

        return check
    if hasattr(origin, "from_json") and inspect.getmodule(origin).__name__.startswith(SDK):

        def check(value, origin, args, memo):
            if isinstance(value, dict):
                origin.from_json(value)
            elif not isinstance(value, origin):
                raise typeguard.TypeCheckError(f"is not an instance of {origin.__name__}")

        return check
    return None


SDK = "grafana_foundation_sdk"
typeguard.checker_lookup_functions.insert(0, schema_checker)
typeguard.install_import_hook(f"{SDK}.models")

from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: E402: types are checked from here on
from grafana_foundation_sdk.cog.plugins import register_default_plugins  # noqa: E402
from grafana_foundation_sdk.cog.runtime import Runtime  # noqa: E402
from grafana_foundation_sdk.models import units  # noqa: E402
from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: E402

register_default_plugins()
PANELS = {"row", *Runtime().panelcfg_variants}
UNITS = {value for name, value in vars(units).items() if name[0].isupper()}


def lost(before, after, where=""):
    """What is missing or different after the round trip."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            if name in after:
                yield from lost(value, after[name], f"{where}/{name}")
            else:
                yield f"{where}/{name} is unknown to the schema"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{where}/{index}")
    elif before != after:
        yield f"{where} is {before!r}, and read as {after!r}"


def unknown_values(part, where=""):
    """Panel types and units that Grafana does not have."""
    if isinstance(part, dict):
        for panel in part.get("panels", []):
            if panel["type"] not in PANELS:
                yield f"{where}: there is no panel of type {panel['type']!r}"
        if isinstance(part.get("unit"), str) and part["unit"] not in UNITS:
            yield f"{where}: there is no unit {part['unit']!r}"
        if part.get("id") == "unit" and part.get("value") not in UNITS:
            yield f"{where}: there is no unit {part.get('value')!r}"
    children = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for name, child in children:
        yield from unknown_values(child, f"{where}/{name}")


def mistakes(dashboard):
    try:
        read = Dashboard.from_json(copy.deepcopy(dashboard))
    except (typeguard.TypeCheckError, TypeError, KeyError) as error:
        return [str(error)]
    written = json.loads(json.dumps(read, cls=JSONEncoder))
    return [*lost(dashboard, written), *unknown_values(dashboard)]


def first(dashboard, kind):
    return next(panel for panel in dashboard["panels"] if panel["type"] == kind)


def misspelt(dashboard):
    custom = first(dashboard, "timeseries")["fieldConfig"]["defaults"]["custom"]
    custom["lineWith"] = custom.pop("lineWidth")


def wrong_type(dashboard):
    first(dashboard, "timeseries")["gridPos"]["w"] = "6"


def unknown_option(dashboard):
    first(dashboard, "stat")["options"]["colorMode"] = "backgrund"


def unknown_unit(dashboard):
    first(dashboard, "stat")["fieldConfig"]["defaults"]["unit"] = "secs"


def unknown_panel(dashboard):
    first(dashboard, "stat")["type"] = "statistic"


def main():
    for name in sys.argv[1:]:
        path = pathlib.Path(name)
        dashboard = json.loads(path.read_text())
        if found := mistakes(dashboard):
            sys.exit("\n".join(f"{path.name}: {mistake}" for mistake in found))
        for make in (misspelt, wrong_type, unknown_option, unknown_unit, unknown_panel):
            wrong = copy.deepcopy(dashboard)
            make(wrong)
            if not mistakes(wrong):
                sys.exit(f"{path.name}: this mistake is not found: {make.__name__}")
    print(f"{len(sys.argv) - 1} dashboards match Grafana's schema")


main()
