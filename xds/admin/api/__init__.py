"""What all resources of the admin API share: operations, bodies, conditions and refusals."""
