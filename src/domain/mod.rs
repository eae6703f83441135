//! What a hospital is, as pure values: patients, encounters, facilities, stays, who may do what, and the record of who did what.
//! It does not know bytes, SQL, HTTP or the clock.

pub mod access;
pub mod alert;
pub mod announcement;
pub mod anomaly;
pub mod audit;
pub mod elevation;
pub mod encounter;
pub mod facility;
pub mod import;
pub mod length_of_stay;
pub mod model;
pub mod patient;
pub mod rows;
pub mod scopes;

pub use access::{Action, Caller, Reach, Role};
pub use announcement::{Announcement, Fact};
pub use audit::{AuditEvent, AuditRow, Outcome};
pub use elevation::{Assignment, Elevated, Elevation, Reason, Standing};
pub use encounter::{Clinical, Encounter, EncounterId};
pub use facility::{Facility, FacilityId};
pub use length_of_stay::{Contribution, Interval, Prediction};
pub use patient::{Gender, PersonName, Phi};
