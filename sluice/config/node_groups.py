"""Groups of Envoys that differ from the others: which Envoys, and in what.

A group changes only what its Envoys get. The policy of the callout has all models.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Self, TypeVar

from pydantic import BaseModel, Field, StringConstraints, model_validator

from sluice.config.invalid import invalid
from sluice.config.listener_tls import ListenerTls
from sluice.config.pattern import Pattern
from sluice.config.values import IpPort, Name, Placement, RuntimeKey, RuntimeValue, Strict

ListenerT = TypeVar("ListenerT", bound=BaseModel)

MAX_GROUPS: Final = 64
"""Groups of a config. The control plane keeps the resources of each group that has an Envoy."""

MAX_PATTERNS: Final = 1000

NodePattern = Annotated[
    str,
    StringConstraints(max_length=256),
    Pattern(
        r"[!-)+-~]+\*?|\*",
        "write a name without spaces, such as edge-1, or its beginning and an asterisk, such as "
        "edge-*",
    ),
]
"""A name that an Envoy says of itself, or its beginning."""


class NodeMatch(Strict):
    """Which Envoys are in a group: those that match one item of each list that is given."""

    ids: tuple[NodePattern, ...] = Field(
        (),
        max_length=MAX_PATTERNS,
        description="Node IDs. An asterisk at the end stands for any text.",
        examples=[["edge-*"]],
    )
    clusters: tuple[NodePattern, ...] = Field(
        (), max_length=MAX_PATTERNS, description="Clusters of nodes (`node.cluster`), likewise."
    )
    localities: tuple[NodePattern, ...] = Field(
        (),
        max_length=MAX_PATTERNS,
        description="Localities of nodes: `REGION`, `REGION/ZONE` or `REGION/ZONE/SUB_ZONE`. A "
        "region contains its zones.",
        examples=[["eu-west", "us-east/a"]],
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.ids or self.clusters or self.localities):
            raise invalid("write ids, clusters or localities: a group needs one of them", ())
        return self

    def includes(self, node_id: str, cluster: str, locality: str) -> bool:
        """Whether an Envoy that says this of itself is in the group."""
        return (
            _one_matches(self.ids, node_id)
            and _one_matches(self.clusters, cluster)
            and (
                _one_matches(self.localities, locality)
                or any(locality.startswith(f"{each}/") for each in self.localities)
            )
        )


def _one_matches(patterns: Iterable[str], text: str) -> bool:
    """Whether one of the patterns matches. No pattern matches everything."""
    return not patterns or any(
        text.startswith(each[:-1]) if each.endswith("*") else text == each for each in patterns
    )


class GroupListener(Strict):
    """The listener of the Envoys of a group. What it does not set is as in `listener`."""

    address: IpPort | None = None
    tls: ListenerTls | None = None


class NodeGroup(Strict):
    """What differs for the Envoys of a group. What it does not set is as for the others."""

    match: NodeMatch
    listener: GroupListener = GroupListener()
    models: tuple[Name, ...] | None = Field(
        None,
        max_length=10_000,
        description="The models that these Envoys serve. They answer requests for the others with "
        "404 (`unknown_model`), and get neither their endpoints nor their secrets. Default: all.",
    )
    runtime: dict[RuntimeKey, RuntimeValue] = Field(
        {},
        max_length=1000,
        description="Keys of Envoy's runtime, in addition to `envoy.runtime`, or in place of those "
        "with the same name.",
    )
    placement: Placement = Field(
        "auto",
        description="`callout`: the callout decides all requests of these Envoys. `auto`: as the "
        "rest of the config says.",
    )

    def listener_of(self, common: ListenerT) -> ListenerT:
        """The listener of these Envoys; `common`: that of the others."""
        own = {n: v for n, v in dict(self.listener).items() if v is not None}
        return common.model_copy(update=own) if own else common


NodeGroups = dict[Name, NodeGroup]


def group_of(
    groups: Mapping[str, NodeGroup], node_id: str, cluster: str, locality: str
) -> str | None:
    """The group of an Envoy: the first one that includes it; None if none does."""
    return next(
        (n for n, each in groups.items() if each.match.includes(node_id, cluster, locality)), None
    )
