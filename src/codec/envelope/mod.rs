//! The wire format between the Functions host and a custom handler in its default mode: `{"Data":..,"Metadata":..}` one way,
//! `{"Outputs":..,"Logs":..,"ReturnValue":..}` the other.
//! It does not know HTTP, triggers' schedules or what an invocation means.
//!
//! [`Invocation`] and [`Reply`] are the handler's side; [`delivery`] is the host's. The rules come from the host's source
//! (`ScriptInvocationContextExtensions`, `DefaultHttpWorkerService`, `HttpScriptInvocationResultExtensions`).

pub mod delivery;
mod invocation;
mod reply;

pub use invocation::{BlobContent, Invocation};
pub use reply::{Answer, Judgement, Reply, judge};
