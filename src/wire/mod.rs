//! Kafka's bytes: frames, the length guard, the API table of field kinds, record batches.
