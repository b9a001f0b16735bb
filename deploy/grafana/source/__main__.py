"""Writes the dashboards as JSON: `python -m deploy.grafana.source [FOLDER]`."""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardLinkPlacement

from deploy.grafana.source import canaries, control_plane, limits, models, overview, video, workers

FOLDER = Path(__file__).parents[1] / "dashboards"
BOARDS = (overview, models, canaries, limits, control_plane, workers, video)


def write(folder: Path) -> None:
    """Write a file for each dashboard, named by its uid."""
    for module in BOARDS:
        board: Dashboard = module.board()
        built = board.build()
        for number, panel in enumerate(built.panels or [], 1):
            panel.id_val = number
        # By default, the builders put links and annotations into a menu.
        data = json.loads(json.dumps(built, cls=JSONEncoder), object_hook=_outside_of_the_menu)
        text = json.dumps(data, indent=2, sort_keys=True)
        (folder / f"{built.uid}.json").write_text(f"{text}\n")


def _outside_of_the_menu(parsed: dict[str, object]) -> dict[str, object]:
    """A link or an annotation without the place that the builders give it."""
    if parsed.get("placement") == DashboardLinkPlacement.IN_CONTROLS_MENU:
        del parsed["placement"]
    return parsed


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
