//! The length-of-stay model: features, training, prediction, intervals and reasons. Pure and CPU-bound; it does not know files, the
//! store, HTTP, the clock or unseeded randomness.
