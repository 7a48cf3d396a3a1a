"""What is asked: the protocol, departures, configs and their schema, and what was published."""
