"""The HTTP contract: what each request may hold and what each answer does hold."""
