//! The table of roles and actions as documents: a page for people, and the app roles of the registration in Microsoft Entra ID.

use serde_json::{Value, json};

use super::routes::ROUTES;
use crate::domain::access::{Proof, may, may_elevated};
use crate::domain::{Action, Caller, Role, scopes};

/// The app roles, as an application's `appRoles` takes them (Microsoft Graph v1.0, `appRole`).
pub fn app_roles() -> Value {
    let role = |role: Role| {
        let members = if role.for_programs() { json!(["User", "Application"]) } else { json!(["User"]) };
        json!({
            "id": role.id(), "value": role.name(), "displayName": spaced(role.name()), "description": role.purpose(),
            "allowedMemberTypes": members, "isEnabled": true,
        })
    };
    Role::ALL.into_iter().map(role).collect()
}

/// `docs/roles.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Roles\n\nGenerated from the table in `src/domain/access.rs`, which also enforces it.\n\n\
         | role | what it is | programs too |\n|---|---|---|\n",
    );
    for role in Role::ALL {
        let programs = if role.for_programs() { "yes" } else { "" };
        page.push_str(&format!("| `{role}` | {} | {programs} |\n", role.purpose()));
    }
    page.push_str("\n## Who may do what\n\nThe platform is the Functions host, when it delivers an event.\n\n| action |");
    for role in Role::ALL {
        page.push_str(&format!(" {} |", spaced(role.name())));
    }
    page.push_str(" the platform |\n|---|");
    page.push_str(&"---|".repeat(Role::ALL.len() + 1));
    page.push('\n');
    let platform = Caller::of("", vec![], Proof::Platform, "");
    for action in Action::ALL {
        page.push_str(&format!("| {} |", action.purpose()));
        for role in Role::ALL {
            page.push_str(match (may(role, *action), may_elevated(role, *action)) {
                (true, _) => " yes |",
                (false, true) => " break-glass |",
                (false, false) => " |",
            });
        }
        page.push_str(if platform.may(*action) { " yes |" } else { " |" });
        page.push('\n');
    }
    page.push_str(
        "\nWhere it says break-glass, only while the person's own break-glass runs ([break-glass.md](break-glass.md)), which also lets a care \
         line manager reach patients of facilities that are not assigned. No program breaks the glass, and nobody whose token has SMART scopes.\n\
         \nThe command line may do everything: whoever runs it holds the data's files, or the rights in the database.\n\n\
         ## Routes\n\n| route | action | SMART scope that leaves it |\n|---|---|---|\n",
    );
    for route in ROUTES {
        let scopes = route.action.map(scopes::asked).unwrap_or_default();
        let scope = scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(" and ");
        let nothing = if route.is_open() { "open to anyone" } else { "any signed-in caller" };
        let action = route.action.map_or(nothing, Action::name);
        page.push_str(&format!("| `{} {}` | {action} | {scope} |\n", route.method, route.path));
    }
    page
}

/// `CareLineManager` as words.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter);
    }
    words
}
