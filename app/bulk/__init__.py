"""Texts by the million: a line in, a line out, in order and in constant memory."""
