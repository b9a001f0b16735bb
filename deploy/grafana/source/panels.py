"""The style of all dashboards: panels, variables, links and annotations.

Rates have `$__rate_interval`, which is never shorter than four scrapes.
"""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    FieldColor,
    QueryVariable,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as StatPanel
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimelinePanel
from grafana_foundation_sdk.builders.timeseries import Panel as TimeseriesPanel
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TimeZoneBrowser,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

TAG = "sluice"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

ALL = 'namespace=~"$namespace"'
"""Selects everything of the gateways that the variable chooses."""

INSTANCE = f'{ALL}, instance=~"$instance"'
"""Selects the processes that the variables choose."""

MODEL = f'{ALL}, model=~"$model"'
"""Selects the models that the variables choose."""

WORKER = "{{instance}} {{worker}}"
"""The legend of a series of each worker."""

GREEN, YELLOW, RED = "green", "yellow", "red"

Query = tuple[str, str]
"""A PromQL expression and the legend of its series."""

Steps = Sequence[tuple[float, str]]
"""Values from which a color applies. Below the first one, the color is green."""


def rate(counter: str, by: str, labels: str) -> str:
    """Events a second of a counter, summed by labels."""
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate({counter}{{{labels}}}[$__rate_interval]))"


def ratio(part: str, whole: str) -> str:
    """The share of `part` in `whole`, rates with the same labels. 0 if `part` has no series."""
    return f"(({part}) or 0 * ({whole})) / (({whole}) > 0)"


def quantile(share: float, histogram: str, by: str, labels: str) -> str:
    """The value that this share of the observations does not exceed."""
    buckets = rate(f"{histogram}_bucket", f"le, {by}" if by else "le", labels)
    return f"histogram_quantile({share}, {buckets})"


def quantiles(histogram: str, by: str, labels: str, legend: str) -> tuple[Query, Query, Query]:
    """The median, p90 and p99."""
    p50, p90, p99 = (
        (quantile(share, histogram, by, labels), f"{legend} p{share * 100:.0f}".strip())
        for share in (0.5, 0.9, 0.99)
    )
    return p50, p90, p99


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    stacked: bool = False,
    most: float | None = None,
    steps: Steps = (),
) -> TimeseriesPanel:
    """Series over time. `most` is the upper end of the axis."""
    panel = (
        TimeseriesPanel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .span(12)
        .height(8)
        .line_width(1)
        .fill_opacity(30 if stacked else 10)
        .show_points(VisibilityMode.NEVER)
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .calcs(["mean", "max", "lastNotNull"])
            .sort_by("Mean")
            .sort_desc(True)
            .show_legend(True)
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .thresholds(_thresholds(steps))
    )
    if stacked:
        panel.stacking(StackingConfig().mode(StackingMode.NORMAL))
    if most is not None:
        panel.max(most)
    for number, (expression, legend) in enumerate(queries):
        panel.with_target(_query(expression, legend, number))
    return panel


def cpu_of_workers(description: str, counter: str, labels: str) -> TimeseriesPanel:
    """The cores that each worker uses. `counter`: its CPU time in seconds."""
    query = rate(counter, "instance, worker", labels), WORKER
    return graph("CPU time of workers", description, "short", query)


def memory_of_workers(gauge: str, labels: str) -> TimeseriesPanel:
    """The resident memory of each worker."""
    query = f"{gauge}{{{labels}}}", WORKER
    return graph("Memory of workers", "Resident memory of each process.", "bytes", query)


def stat(
    title: str,
    description: str,
    unit: str,
    expression: str,
    legend: str = "",
    *,
    steps: Steps = (),
    words: Mapping[str, tuple[str, str]] | None = None,
    names: bool = False,
) -> StatPanel:
    """The latest value as a number, as a word (text and color by value), or its legend's name."""
    return (
        StatPanel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(4)
        .height(4)
        .thresholds(_thresholds(steps))
        .mappings(_words(words or {}))
        .graph_mode(BigValueGraphMode.NONE if words or names else BigValueGraphMode.AREA)
        .color_mode(BigValueColorMode.VALUE)
        .text_mode(BigValueTextMode.NAME if names else BigValueTextMode.AUTO)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(expression, legend, 0))
    )


def timeline(
    title: str, description: str, query: Query, words: Mapping[str, tuple[str, str]]
) -> StateTimelinePanel:
    """States over time, one line for each series. `words` has text and color by value."""
    return (
        StateTimelinePanel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .span(12)
        .height(8)
        .mappings(_words(words))
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .show_value(VisibilityMode.NEVER)
        .with_target(_query(*query, 0))
    )


def linked(panel: TimeseriesPanel, title: str, uid: str, *variables: str) -> TimeseriesPanel:
    """The panel, whose series link to a dashboard with the values of their labels."""
    chosen = "&".join(f"var-{name}=${{__field.labels.{name}}}" for name in variables)
    url = f"/d/sluice-{uid}?{chosen}&${{datasource:queryparam}}&${{__url_time_range}}"
    return panel.data_links([DashboardLink(title).type(DashboardLinkType.LINK).url(url)])


def dashboard(uid: str, title: str, description: str, *variables: QueryVariable) -> Dashboard:
    """An empty dashboard with the variables of all dashboards and its own.

    It has the classic format, which every Grafana from 10 on reads.
    """
    board = (
        Dashboard(f"Sluice / {title}")
        .uid(f"sluice-{uid}")
        .description(description)
        .tags([TAG])
        .editable()
        .timezone(TimeZoneBrowser)
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            DashboardLink("Sluice")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .annotation(_config_changes())
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(choice("namespace", "Namespace", 'up{job=~"envoy|sluice-.*"}', "namespace"))
    )
    for variable in variables:
        board.with_variable(variable)
    return board


def choice(name: str, label: str, series: str, value: str, *, many: bool = True) -> QueryVariable:
    """A variable with the values of a label. With `many`, all are chosen at first.

    "All" matches series without the label too: in Compose, nothing has a namespace.
    """
    variable = (
        QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(f"label_values({series}, {value})")
        .definition(f"label_values({series}, {value})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(many)
        .include_all(many)
    )
    if many:
        everything = VariableOption(selected=True, text=["All"], value=["$__all"])
        variable.all_value(".*").current(everything)
    return variable


def models(*, many: bool = True) -> QueryVariable:
    """A variable with the models that have had requests."""
    return choice("model", "Model", f"sluice_requests_total{{{ALL}}}", "model", many=many)


def instances(job: str) -> QueryVariable:
    """A variable with the processes of a job."""
    series = f'up{{job="{job}", {ALL}}}'
    return choice("instance", "Instance", series, "instance")


def _config_changes() -> AnnotationQuery:
    versions = f"sluice_xds_version_info{{{ALL}}}"
    now, before = (f"max by (version) ({each})" for each in (versions, f"{versions} offset 1m"))
    return (
        AnnotationQuery()
        .name("Config changes")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("blue")
        .expr(f"{now} unless {before}")
        .step("1m")
        .title_format("Config {{version}}")
        .text_format("A control plane put this version in force: sluice history")
        .tag_keys("version")
    )


def _query(expression: str, legend: str, number: int) -> Dataquery:
    query = Dataquery().expr(expression).range().ref_id(chr(ord("A") + number))
    return query.datasource(DATASOURCE).legend_format(legend or "__auto")


def _thresholds(steps: Steps) -> ThresholdsConfig:
    values = [Threshold(color=GREEN), *(Threshold(value, color) for value, color in steps)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(values)


def _words(words: Mapping[str, tuple[str, str]]) -> list[ValueMapping]:
    results = {
        value: ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(words.items())
    }
    return [ValueMap(options=results)] if results else []
