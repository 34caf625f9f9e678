"""The serving engine: many users' programs on one model, each pass computed together with others'.

A request's way through it is told in docs/serving.md.
"""
