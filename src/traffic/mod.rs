//! Moves exposure; a file an actuator.
