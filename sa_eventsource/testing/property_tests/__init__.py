"""What needs Hypothesis: strategies for what may happen, and the laws that hold whatever happens."""

from sa_eventsource.extras import needs_extra

with needs_extra("testing", part="sa_eventsource.testing with strategies and laws"):
    from sa_eventsource.testing.property_tests.aggregate_machine import aggregate_laws
    from sa_eventsource.testing.property_tests.command_calls import Called, called
    from sa_eventsource.testing.property_tests.drawn_values import instances_of, values_of
    from sa_eventsource.testing.property_tests.histories import events_of, histories_of
    from sa_eventsource.testing.property_tests.read_model_checks import read_model_laws

__all__ = ["Called", "aggregate_laws", "called", "events_of", "histories_of", "instances_of", "read_model_laws", "values_of"]
