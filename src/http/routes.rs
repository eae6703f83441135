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
    /// What the caller must be allowed to do; `None` is open to anyone.
    pub action: Option<Action>,
    /// One line for the documents.
    pub summary: &'static str,
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
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    /// A route, and the segment that stands for `{id}`.
    Route(&'static Route, Option<&'a str>),
    /// The path is known, the method is not; these are.
    Method(&'static str),
    /// Nothing is at this path.
    Nothing,
}

/// Finds the route of a call. The blueprint's function names match whatever their case, as the Functions host matches routes.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let mut allowed = None;
    for route in ROUTES {
        let Some(id) = matches(route.path, path) else { continue };
        if route.method == method.as_str() {
            return Found::Route(route, id);
        }
        allowed = Some(route.method);
    }
    allowed.map_or(Found::Nothing, Found::Method)
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
        assert!(matches!(find(&Method::GET, "/api/PatientAdmissionFunc"), Found::Method("POST")));
        assert!(matches!(find(&Method::GET, "/api/imports/a/b"), Found::Nothing));
        assert!(matches!(find(&Method::GET, "/api"), Found::Nothing));
    }
}
