"""Running the service: several processes, reloading, load, what is measured and deployed."""
