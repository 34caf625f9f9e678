"""Side-by-side measurements against named peers; imports the packages, is imported by none."""
