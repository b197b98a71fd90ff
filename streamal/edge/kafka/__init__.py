"""Kafka: what both clients share, and one package for each client."""
