//! Whose patients a caller reaches: the settings of it.

use super::Development;
use crate::error::{Error, Result};

/// Whose patients a care line manager reaches to whom no facility is assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unassigned {
    /// Those of every facility.
    All,
    /// Nobody's.
    None,
}

/// Longest time of an elevation that may be set, in minutes.
const MINUTES_MOST: u64 = 1440;

pub(super) fn unassigned(text: &dyn Fn(&str) -> Result<String>, development: Development) -> Result<Unassigned> {
    match (text("HDAI_UNASSIGNED_CARE_LINE_MANAGERS")?.trim(), development) {
        ("all", _) | ("", Development::Allowed) => Ok(Unassigned::All),
        ("none", _) | ("", Development::Refused(_)) => Ok(Unassigned::None),
        _ => Err(Error::invalid("the setting HDAI_UNASSIGNED_CARE_LINE_MANAGERS must be all or none")),
    }
}

pub(super) fn minutes_max(number: &dyn Fn(&str) -> Result<u64>) -> Result<u32> {
    match number("HDAI_BREAK_GLASS_MINUTES_MAX")? {
        minutes @ 1..=MINUTES_MOST => Ok(minutes as u32),
        _ => Err(Error::invalid(format!("the setting HDAI_BREAK_GLASS_MINUTES_MAX must be from 1 to {MINUTES_MOST}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn who_has_no_facilities_reaches_all_on_one_machine_and_none_in_azure() {
        const ALL: (&str, &str) = ("HDAI_UNASSIGNED_CARE_LINE_MANAGERS", "all");
        const NONE: (&str, &str) = ("HDAI_UNASSIGNED_CARE_LINE_MANAGERS", "none");
        const SITE: (&str, &str) = ("WEBSITE_SITE_NAME", "app");
        const PLATFORM: (&str, &str) = ("WEBSITE_AUTH_ENABLED", "true");
        const TENANT: (&str, &str) = ("HDAI_ENTRA_TENANT_ID", "11111111-2222-3333-4444-555555555555");
        const AUDIENCE: (&str, &str) = ("HDAI_ENTRA_AUDIENCES", "api://hdai");
        let of = |vars: &[(&str, &str)]| {
            let lookup = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            Config::from_vars(lookup).unwrap().unassigned
        };
        assert_eq!(
            [of(&[]), of(&[SITE]), of(&[PLATFORM, TENANT, AUDIENCE])],
            [Unassigned::All, Unassigned::None, Unassigned::None]
        );
        assert_eq!([of(&[NONE]), of(&[SITE, ALL])], [Unassigned::None, Unassigned::All]);
    }
}
