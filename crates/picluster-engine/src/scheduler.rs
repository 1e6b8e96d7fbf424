//! Which step may start: a pure state machine.
