"""Makes a new HTTP source from `tap-oso-example`."""
