//! Which errors pass by themselves, and how long to wait for it.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use uuid::Uuid;

/// Most attempts at one piece of work.
pub(super) const ATTEMPTS_MAX: usize = 6;

/// No attempt begins later than this after the first; for an import, than the longest time of one of its statements, if that is more.
pub(super) const TRYING_MAX: Duration = Duration::from_secs(60);

/// How often a piece of work may find that another session stored its key first.
pub(super) const RACES_MAX: u32 = 3;

/// What the open server (Babelfish) says for most errors that it has no number for, among them a bulk load whose last bytes it
/// misread. It is worth another try only for a bulk load.
pub(super) const BABELFISH_OTHER: u32 = 33_557_097;

/// Where it is written that a number passes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// learn.microsoft.com, "Troubleshoot connectivity issues and other errors" of Azure SQL, its list of transient faults and of
    /// resource limits.
    Learn,
    /// `Microsoft.Data.SqlClient`, the documented list of `SqlConfigurableRetryFactory`.
    SqlClient,
    /// Entity Framework Core, `SqlServerTransientExceptionDetector`.
    EntityFramework,
}

/// The numbers that pass by themselves: number, meaning, source.
const TRANSIENT: [(u32, &str, Source); 33] = [
    // The database moves to another machine, or starts.
    (615, "it is moving to another machine", Source::Learn),
    (926, "it is moving to another machine", Source::Learn),
    (4060, "it cannot be opened: it is moving, or it does not exist, or this identity is no user of it", Source::Learn),
    (4221, "a readable replica is not ready", Source::Learn),
    (40143, "it is moving to another machine", Source::SqlClient),
    (40197, "the service met an error and is moving it", Source::Learn),
    (40540, "it is moving to another machine", Source::SqlClient),
    (40613, "it is starting or moving to another machine", Source::Learn),
    // Throttling and limits.
    (10928, "its limit of sessions or workers is reached", Source::Learn),
    (10929, "the server is too busy", Source::Learn),
    (10936, "the limit of its elastic pool is reached", Source::EntityFramework),
    (40501, "the service is busy", Source::Learn),
    (49918, "the service lacks resources", Source::Learn),
    (49919, "too many operations are under way in the subscription", Source::Learn),
    (49920, "too many operations are under way in the subscription", Source::Learn),
    (49977, "its elastic pool is busy with another operation", Source::EntityFramework),
    (49983, "an operation of the service did not complete", Source::EntityFramework),
    // Other sessions were in the way.
    (1204, "the server has no lock left", Source::SqlClient),
    (1205, "the work was chosen to end a deadlock", Source::SqlClient),
    (1222, "another session held a lock too long", Source::SqlClient),
    (41301, "another transaction that this one depended on did not commit", Source::EntityFramework),
    (41302, "another transaction changed the row", Source::EntityFramework),
    (41305, "another transaction changed a row that was read", Source::EntityFramework),
    (41325, "another transaction changed a range that was read", Source::EntityFramework),
    (41839, "too many transactions wait for each other's commit", Source::EntityFramework),
    // The connection broke. This driver reports that as an error of its own; a proxy or gateway can report these.
    (20, "the connection broke while it was opened", Source::EntityFramework),
    (64, "the connection broke at the login", Source::EntityFramework),
    (121, "the network did not answer", Source::EntityFramework),
    (233, "the connection broke while it was opened", Source::SqlClient),
    (997, "the connection broke at the login", Source::SqlClient),
    (10053, "the connection was aborted", Source::EntityFramework),
    (10054, "the connection was reset", Source::EntityFramework),
    (10060, "the connection timed out", Source::SqlClient),
];

/// What a number that passes by itself means; `None` for the others.
pub(super) fn transient(number: u32) -> Option<&'static str> {
    TRANSIENT.iter().find(|(known, _, _)| *known == number).map(|(_, meaning, _)| *meaning)
}

/// The waits between the attempts at one piece of work: from a quarter of a second to ten seconds, each lengthened by chance up to
/// double, so that instances that were cut off together do not come back together.
pub(super) fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_factor(3.0)
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(ATTEMPTS_MAX - 1)
        .with_jitter()
        .with_jitter_seed(Uuid::new_v4().as_u64_pair().1)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_meaning_and_a_source() {
        for (place, (number, meaning, source)) in TRANSIENT.iter().enumerate() {
            assert!(TRANSIENT.iter().skip(place + 1).all(|(other, _, _)| other != number), "{number} twice");
            assert!(!meaning.is_empty(), "{number} {source:?}");
        }
        for number in [40613, 40197, 40501, 10928, 10929, 49918, 49919, 49920, 4060, 1205, 233, 10053, 10054, 10060] {
            assert!(transient(number).is_some(), "{number}");
        }
    }

    #[test]
    fn what_another_try_does_not_cure_is_not_tried_again() {
        for number in [18456, 208, 229, 515, 547, 2601, 2627, 2628, 8152, BABELFISH_OTHER] {
            assert!(transient(number).is_none(), "{number}");
        }
    }

    #[test]
    fn the_waits_are_bounded_and_differ_from_call_to_call() {
        let (one, other): (Vec<_>, Vec<_>) = (waits().collect(), waits().collect());
        assert_eq!(one.len(), ATTEMPTS_MAX - 1);
        assert_ne!(one, other);
        assert!(one.iter().all(|wait| (Duration::from_millis(250)..=Duration::from_secs(20)).contains(wait)), "{one:?}");
        assert!(one.iter().sum::<Duration>() < TRYING_MAX, "{one:?}");
    }
}
