"""The embedded default: a Kafka-speaking broker and PostgreSQL as child processes, without Docker or a JVM."""
