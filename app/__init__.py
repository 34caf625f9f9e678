"""From an HTTP request or a command line to an answer."""
