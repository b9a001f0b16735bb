"""The dashboards of Grafana, as code: `make docs` writes deploy/grafana/dashboards from it."""
