"""The fields that our messages have, as Istio's API has them (istio.io/api 1.31): number and type.

Values of enums have no type.
"""

FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "ClientTLSSettings": {
        "mode": (1, "TLSmode"),
        "subject_alt_names": (5, "repeated string"),
        "sni": (6, "string"),
        "credential_name": (7, "string"),
        "insecure_skip_verify": (8, "google.protobuf.BoolValue"),
    },
    "ClientTLSSettings.TLSmode": {
        "DISABLE": (0, ""),
        "SIMPLE": (1, ""),
        "MUTUAL": (2, ""),
        "ISTIO_MUTUAL": (3, ""),
    },
    "ConnectionPoolSettings": {
        "tcp": (1, "TCPSettings"),
        "http": (2, "HTTPSettings"),
    },
    "ConnectionPoolSettings.HTTPSettings": {
        "http1_max_pending_requests": (1, "int32"),
        "http2_max_requests": (2, "int32"),
        "max_requests_per_connection": (3, "int32"),
        "max_retries": (4, "int32"),
        "idle_timeout": (5, "google.protobuf.Duration"),
        "h2_upgrade_policy": (6, "H2UpgradePolicy"),
    },
    "ConnectionPoolSettings.HTTPSettings.H2UpgradePolicy": {
        "DEFAULT": (0, ""),
        "DO_NOT_UPGRADE": (1, ""),
        "UPGRADE": (2, ""),
    },
    "ConnectionPoolSettings.TCPSettings": {
        "max_connections": (1, "int32"),
        "connect_timeout": (2, "google.protobuf.Duration"),
        "tcp_keepalive": (3, "TcpKeepalive"),
    },
    "ConnectionPoolSettings.TCPSettings.TcpKeepalive": {
        "probes": (1, "uint32"),
        "time": (2, "google.protobuf.Duration"),
        "interval": (3, "google.protobuf.Duration"),
    },
    "CorsPolicy": {
        "allow_methods": (2, "repeated string"),
        "allow_headers": (3, "repeated string"),
        "expose_headers": (4, "repeated string"),
        "max_age": (5, "google.protobuf.Duration"),
        "allow_credentials": (6, "google.protobuf.BoolValue"),
        "allow_origins": (7, "repeated StringMatch"),
    },
    "Destination": {
        "host": (1, "string"),
        "subset": (2, "string"),
        "port": (3, "PortSelector"),
    },
    "DestinationRule": {
        "host": (1, "string"),
        "traffic_policy": (2, "TrafficPolicy"),
        "subsets": (3, "repeated Subset"),
        "export_to": (4, "repeated string"),
    },
    "HTTPBody": {
        "string": (1, "string"),
    },
    "HTTPDirectResponse": {
        "status": (1, "uint32"),
        "body": (2, "HTTPBody"),
    },
    "HTTPMatchRequest": {
        "uri": (1, "StringMatch"),
        "method": (3, "StringMatch"),
        "headers": (5, "map<string, StringMatch>"),
        "gateways": (8, "repeated string"),
    },
    "HTTPRetry": {
        "attempts": (1, "int32"),
        "per_try_timeout": (2, "google.protobuf.Duration"),
        "retry_on": (3, "string"),
    },
    "HTTPRoute": {
        "match": (1, "repeated HTTPMatchRequest"),
        "route": (2, "repeated HTTPRouteDestination"),
        "timeout": (6, "google.protobuf.Duration"),
        "retries": (7, "HTTPRetry"),
        "cors_policy": (10, "CorsPolicy"),
        "headers": (16, "Headers"),
        "name": (17, "string"),
        "direct_response": (21, "HTTPDirectResponse"),
    },
    "HTTPRouteDestination": {
        "destination": (1, "Destination"),
        "weight": (2, "int32"),
        "headers": (7, "Headers"),
    },
    "Headers": {
        "request": (1, "HeaderOperations"),
        "response": (2, "HeaderOperations"),
    },
    "Headers.HeaderOperations": {
        "set": (1, "map<string, string>"),
        "add": (2, "map<string, string>"),
        "remove": (3, "repeated string"),
    },
    "LoadBalancerSettings": {
        "simple": (1, "SimpleLB"),
    },
    "LoadBalancerSettings.SimpleLB": {
        "UNSPECIFIED": (0, ""),
        "LEAST_REQUEST": (5, ""),
    },
    "Metadata": {
        "name": (1, "string"),
        "create_time": (2, "google.protobuf.Timestamp"),
        "version": (3, "string"),
        "labels": (4, "map<string, string>"),
        "annotations": (5, "map<string, string>"),
    },
    "PortSelector": {
        "number": (1, "uint32"),
    },
    "Resource": {
        "metadata": (1, "Metadata"),
        "body": (2, "google.protobuf.Any"),
    },
    "ServiceEntry": {
        "hosts": (1, "repeated string"),
        "ports": (3, "repeated ServicePort"),
        "location": (4, "Location"),
        "resolution": (5, "Resolution"),
        "endpoints": (6, "repeated WorkloadEntry"),
        "export_to": (7, "repeated string"),
    },
    "ServiceEntry.Location": {
        "MESH_EXTERNAL": (0, ""),
        "MESH_INTERNAL": (1, ""),
    },
    "ServiceEntry.Resolution": {
        "NONE": (0, ""),
        "STATIC": (1, ""),
        "DNS": (2, ""),
        "DNS_ROUND_ROBIN": (3, ""),
    },
    "ServicePort": {
        "number": (1, "uint32"),
        "protocol": (2, "string"),
        "name": (3, "string"),
    },
    "StringMatch": {
        "exact": (1, "string"),
        "prefix": (2, "string"),
        "regex": (3, "string"),
    },
    "Subset": {
        "name": (1, "string"),
        "traffic_policy": (3, "TrafficPolicy"),
    },
    "TrafficPolicy": {
        "load_balancer": (1, "LoadBalancerSettings"),
        "connection_pool": (2, "ConnectionPoolSettings"),
        "tls": (4, "ClientTLSSettings"),
    },
    "VirtualService": {
        "hosts": (1, "repeated string"),
        "gateways": (2, "repeated string"),
        "http": (3, "repeated HTTPRoute"),
        "export_to": (6, "repeated string"),
    },
    "WorkloadEntry": {
        "address": (1, "string"),
        "ports": (2, "map<string, uint32>"),
        "weight": (6, "uint32"),
    },
}
