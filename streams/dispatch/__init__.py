"""dispatch: the site's side. A pure controller, its actuators, and the service that joins them to the bus."""
