"""The other sides of the measurements: what runs in the peers' own Python environment.

Nothing here imports the project, and nothing but these files imports a peer.
"""
