"""A live load on running stages, paced and watched from outside: what latency and soak share."""
