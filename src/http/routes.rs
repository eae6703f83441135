//! Every API route, once: the dispatcher and the OpenAPI document are loops over this list.

use warp::http::Method;

use crate::domain::Action;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Is the service up, and what is its version?
    Health,
    /// This API as an OpenAPI 3.1 document.
    OpenApi,
    /// Admit a patient.
    Admit,
    /// Discharge a patient.
    Discharge,
    /// The newest imports.
    Imports,
    /// One import's receipt.
    Import,
    /// One import's rejects.
    Rejects,
    /// Beds and patients by facility.
    Census,
    /// How many encounters there are.
    Totals,
    /// Average stays that rise or decline.
    Anomalies,
    /// The newest models.
    Models,
    /// The champion's report.
    Champion,
    /// The newest audit events.
    Audit,
    /// Who the caller is.
    Me,
    /// Who answers for which facilities.
    Assignments,
    /// Assign facilities.
    Assign,
    /// Take an assignment away.
    Unassign,
    /// Break the glass.
    BreakGlass,
    /// End one's own break-glass.
    EndBreakGlass,
    /// The newest times that somebody broke the glass.
    Elevations,
    /// One of them, with its words.
    Elevation,
    /// The patients of the caller's facilities.
    Patients,
    /// One of them.
    Patient,
    /// Predictions, and how far they were off.
    Predictions,
    /// Encounters that name nobody.
    Rows,
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; `{id}` stands for one segment.
    pub path: &'static str,
    /// What it does.
    pub operation: Operation,
    /// What the caller must be allowed to do; `None` asks for nothing (see [`Route::is_open`]).
    pub action: Option<Action>,
    /// One line for the documents.
    pub summary: &'static str,
}

impl Route {
    /// May it be called by anyone, signed in or not?
    pub const fn is_open(&self) -> bool {
        matches!(self.operation, Operation::Health | Operation::OpenApi)
    }
}

const fn route(
    method: &'static str,
    path: &'static str,
    operation: Operation,
    action: Option<Action>,
    summary: &'static str,
) -> Route {
    Route { method, path, operation, action, summary }
}

/// The list.
pub const ROUTES: &[Route] = &[
    route("GET", "/api/health", Operation::Health, None, "Is the service up, and what is its version?"),
    route("GET", "/api/openapi.json", Operation::OpenApi, None, "This API as an OpenAPI 3.1 document."),
    route("POST", "/api/PatientAdmissionFunc", Operation::Admit, Some(Action::Admit), "Admit a patient and predict the stay."),
    route("PUT", "/api/PatientDischargeFunc", Operation::Discharge, Some(Action::Discharge), "Discharge a patient."),
    route("GET", "/api/imports", Operation::Imports, Some(Action::ReadImports), "The newest imports, newest first."),
    route("GET", "/api/imports/{id}", Operation::Import, Some(Action::ReadImports), "One import's receipt."),
    route(
        "GET",
        "/api/imports/{id}/rejects",
        Operation::Rejects,
        Some(Action::ReadImports),
        "One import's rejects, in line order.",
    ),
    route("GET", "/api/census", Operation::Census, Some(Action::ReadCensus), "Beds and patients by facility, today."),
    route("GET", "/api/totals", Operation::Totals, Some(Action::ReadCensus), "How many encounters there are."),
    route(
        "GET",
        "/api/anomalies",
        Operation::Anomalies,
        Some(Action::ReadAnomalies),
        "Average stays that rise or decline, by facility and condition, latest first.",
    ),
    route("GET", "/api/models", Operation::Models, Some(Action::ReadModel), "The newest models, newest first."),
    route(
        "GET",
        "/api/models/champion",
        Operation::Champion,
        Some(Action::ReadModel),
        "The report of the model that predicts now.",
    ),
    route("GET", "/api/audit", Operation::Audit, Some(Action::ReadAudit), "The newest audit events, newest first."),
    route("GET", "/api/me", Operation::Me, None, "Who the caller is, and what that allows."),
    route("GET", "/api/assignments", Operation::Assignments, Some(Action::AssignFacilities), "Who answers for which facilities."),
    route(
        "PUT",
        "/api/assignments/{id}",
        Operation::Assign,
        Some(Action::AssignFacilities),
        "Assign facilities to the caller of this object id.",
    ),
    route(
        "DELETE",
        "/api/assignments/{id}",
        Operation::Unassign,
        Some(Action::AssignFacilities),
        "Take an assignment of facilities away.",
    ),
    route(
        "POST",
        "/api/break-glass",
        Operation::BreakGlass,
        Some(Action::BreakGlass),
        "Reach patients beyond one's facilities or role for a short time.",
    ),
    route(
        "DELETE",
        "/api/break-glass/{id}",
        Operation::EndBreakGlass,
        Some(Action::BreakGlass),
        "End one's own break-glass early.",
    ),
    route(
        "GET",
        "/api/break-glass",
        Operation::Elevations,
        Some(Action::ReadAudit),
        "Who broke the glass, when and why, newest first.",
    ),
    route(
        "GET",
        "/api/break-glass/{id}",
        Operation::Elevation,
        Some(Action::ReadAudit),
        "One break-glass, with its text and what was done under it.",
    ),
    route(
        "GET",
        "/api/patients",
        Operation::Patients,
        Some(Action::ReadPatients),
        "The patients of one's facilities, newest encounter first.",
    ),
    route(
        "GET",
        "/api/patients/{id}",
        Operation::Patient,
        Some(Action::ReadPatients),
        "One encounter: values, prediction and reasons.",
    ),
    route(
        "GET",
        "/api/predictions",
        Operation::Predictions,
        Some(Action::ReadPredictions),
        "Predicted discharges, how far predictions were off, and the newest ones, without names.",
    ),
    route(
        "GET",
        "/api/encounters",
        Operation::Rows,
        Some(Action::ReadRows),
        "Encounters that name nobody (Safe Harbor), for analysis.",
    ),
];

/// What the list says about a call.
#[derive(Debug, Clone)]
pub(super) enum Found<'a> {
    /// A route, and the segment that stands for `{id}`.
    Route(&'static Route, Option<&'a str>),
    /// The path is known, the method is not; these are.
    Method(String),
    /// Nothing is at this path.
    Nothing,
}

/// Finds the route of a call. The blueprint's function names match whatever their case, as the Functions host matches routes.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let mut allowed = Vec::new();
    // Whichever way a call comes, its path is compared as it was written.
    for route in ROUTES.iter().filter(|_| path.starts_with("/api/")) {
        let Some(id) = matches(route.path, path) else { continue };
        if route.method == method.as_str() {
            return Found::Route(route, id);
        }
        allowed.push(route.method);
    }
    if allowed.is_empty() { Found::Nothing } else { Found::Method(allowed.join(", ")) }
}

fn matches<'a>(template: &str, path: &'a str) -> Option<Option<&'a str>> {
    let mut id = None;
    let mut segments = path.trim_end_matches('/').split('/');
    for expected in template.split('/') {
        let segment = segments.next()?;
        if expected == "{id}" && !segment.is_empty() {
            id = Some(segment);
        } else if !expected.eq_ignore_ascii_case(segment) {
            return None;
        }
    }
    segments.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_methods_and_ids_are_told_apart() {
        assert!(
            matches!(find(&Method::POST, "/api/patientadmissionfunc"), Found::Route(route, None) if route.operation == Operation::Admit)
        );
        assert!(
            matches!(find(&Method::GET, "/api/imports/abc"), Found::Route(route, Some("abc")) if route.operation == Operation::Import)
        );
        assert!(
            matches!(find(&Method::GET, "/api/models/champion/"), Found::Route(route, None) if route.operation == Operation::Champion)
        );
        assert!(matches!(find(&Method::GET, "/api/PatientAdmissionFunc"), Found::Method(allowed) if allowed == "POST"));
        assert!(matches!(find(&Method::PUT, "/api/break-glass/a"), Found::Method(allowed) if allowed == "DELETE, GET"));
        assert!(matches!(find(&Method::GET, "/api/imports/a/b"), Found::Nothing));
        for path in ["/api", "/API/audit", "//api/audit", "/api/health/../audit", ""] {
            assert!(matches!(find(&Method::GET, path), Found::Nothing), "{path}");
        }
    }
}
