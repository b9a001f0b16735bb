"""Tensors of the Open Inference Protocol (V2): datatypes, shapes, raw elements and labels.

The callout converts them to JSON, the video service to events. Both read what a model server says
leniently, and apply the same rules.
"""
