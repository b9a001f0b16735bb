"""Leaves out one matcher of the native routes at a time, and checks that the comparison notices it.

The mutations are enumerated from the compiled resources, whatever these contain. Each mutant is a
virtual host of its own with a name of its own, or a listener, so one Envoy serves many of them.
"""
