//! Synthetic encounters, admissions and discharges from a documented model. Pure: the same seed gives the same values.
