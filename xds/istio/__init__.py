"""The config of a gateway as resources of an Istio mesh, whose Envoys are not ours."""
