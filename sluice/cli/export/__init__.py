"""`sluice export`: the config of a gateway, in the formats of other programs."""

from sluice.cli.export.command import register as register
