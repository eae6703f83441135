//! How long the audit trail is kept, and what in it is told of.

use crate::domain::alert::AlertRules;
use crate::error::{Error, Result};

/// The shortest retention of audit events, in years: what 45 CFR 164.316(b)(2)(i) asks for.
pub const AUDIT_YEARS_LEAST: u32 = 6;
/// The longest.
pub const AUDIT_YEARS_MOST: u32 = 30;

pub(super) fn years(number: &dyn Fn(&str) -> Result<u64>) -> Result<u32> {
    let years = u32::try_from(number("HDAI_AUDIT_RETENTION_YEARS")?).ok();
    years.filter(|years| (AUDIT_YEARS_LEAST..=AUDIT_YEARS_MOST).contains(years)).ok_or_else(|| {
        Error::invalid(format!(
            "the setting HDAI_AUDIT_RETENTION_YEARS must be a number of years from {AUDIT_YEARS_LEAST} to {AUDIT_YEARS_MOST}"
        ))
    })
}

pub(super) fn alerts(text: &dyn Fn(&str) -> Result<String>, number: &dyn Fn(&str) -> Result<u64>) -> Result<AlertRules> {
    let count = |name: &str| -> Result<u32> {
        u32::try_from(number(name)?).map_err(|_| Error::invalid(format!("the setting {name} must be at most {}", u32::MAX)))
    };
    let hours = text("HDAI_OFF_HOURS")?;
    let hour = |text: &str| text.trim().parse::<u32>().ok().filter(|hour| *hour < 24);
    let off_hours = match hours.trim() {
        "none" => None,
        span => Some(
            span.split_once('-')
                .and_then(|(from, to)| Some((hour(from)?, hour(to)?)))
                .ok_or_else(|| Error::invalid("the setting HDAI_OFF_HOURS must be two hours of the day, such as 20-6, or none"))?,
        ),
    };
    Ok(AlertRules {
        mass_access: count("HDAI_ALERT_MASS_ACCESS")?,
        refusals: count("HDAI_ALERT_REFUSALS")?,
        off_hours,
        trail_pages: count("HDAI_ALERT_TRAIL_PAGES")?,
        export_rows: count("HDAI_ALERT_EXPORT_ROWS")?,
    })
}
