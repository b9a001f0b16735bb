"""Reads the load reports of Envoys (LRS, envoy.service.load_stats.v3).

An Envoy reports requests to the endpoints of each cluster, by native routes and by the callout. A
request that fails is one with an HTTP status of 500 or above, with the gRPC status of a failure, or
without a response. Envoy counts each attempt of a request that it repeats. It reports every cluster
in each interval, with counts only if there are some. The first interval of a new cluster is not
counted.
"""

from typing import Final

from google.protobuf import duration_pb2

from protos.base_pb2 import Node
from protos.load_stats_pb2 import LoadStatsRequest, LoadStatsResponse
from sluice.contract.paths import LOAD_METHOD, LOAD_SERVICE
from sluice.contract.traffic import REPORT_INTERVAL
from xds.envoys.reporters import MAX_REPORTED, Counts, Reporter, SourceName
from xds.envoys.reports import MAX_COUNT, InvalidReportError
from xds.protocol.reflection import Method
from xds.protocol.shared_names import OverLimitError

MAX_CLUSTERS: Final = MAX_REPORTED + 100
"""Clusters in one report: also those that serve no version."""

MAX_LOCALITIES: Final = 64
"""Localities of one cluster. The endpoints of a config have one."""


class LoadReportReader:
    """The Load Reporting Service."""

    source: SourceName = "envoy"
    service = LOAD_SERVICE
    method = LOAD_METHOD
    messages = Method(LoadStatsRequest, LoadStatsResponse)
    greeting: bytes | None = LoadStatsResponse(
        # Also those that come with a later config.
        send_all_clusters=True,
        load_reporting_interval=duration_pb2.Duration(seconds=int(REPORT_INTERVAL)),
    ).SerializeToString()

    def node(self, message: bytes) -> Node:
        """The Envoy that reports. It sends its node in every report."""
        request = LoadStatsRequest.FromString(message)
        if not request.HasField("node"):
            raise InvalidReportError("the first load report has no node")
        return request.node

    def read(self, reporter: Reporter, message: bytes, now: float) -> bytes | None:
        """Count a report. The first one of an Envoy is empty, unless Envoy was cut off."""
        counts, in_progress = dict[str, Counts](), dict[str, int]()
        clusters = LoadStatsRequest.FromString(message).cluster_stats
        if len(clusters) > MAX_CLUSTERS:
            raise OverLimitError(f"more than {MAX_CLUSTERS} clusters in one load report")
        for cluster in clusters:
            stats = cluster.upstream_locality_stats
            if len(stats) > MAX_LOCALITIES:
                raise OverLimitError(f"more than {MAX_LOCALITIES} localities in one cluster")
            succeeded = sum(each.total_successful_requests for each in stats)
            failed = sum(each.total_error_requests for each in stats)
            active = sum(each.total_requests_in_progress for each in stats)
            if max(succeeded, failed, active) > MAX_COUNT:
                raise InvalidReportError(f"more than {MAX_COUNT} requests in one load report")
            if succeeded or failed:
                seconds = cluster.load_report_interval.seconds
                counts[cluster.cluster_name] = Counts(succeeded + failed, failed, {}, seconds)
            if active:
                in_progress[cluster.cluster_name] = active
        reporter.report(now, counts, in_progress=in_progress)
        return None
