"""From a text corpus to a checkpoint. Knows no HTTP."""
