//! Faults of the network and the server under the Azure SQL store: none is seen twice or half, and who waits for others has not failed.

use std::future::Future;
use std::time::Duration;

use health_data_ai::config::SqlSettings;
use health_data_ai::domain::Action;
use health_data_ai::store::azure_sql::AzureSql;
use health_data_ai::store::{Admitted, Step, Store};

use super::azure_sql_only::{WRITES, prepared, was_done_once, write};
use super::place::azure_sql::Watched;
use super::place::*;
use crate::tds::{self, COMMIT, Options};

/// Runs `check` for every method that writes, side by side: most of the time is spent waiting between attempts.
fn for_every_write<W: Future<Output = ()> + Send + 'static>(check: impl Fn(&'static str) -> W) {
    runtime().block_on(async {
        let running: Vec<_> = WRITES.iter().map(|which| tokio::spawn(check(which))).collect();
        for check in running {
            check.await.unwrap();
        }
    });
}

#[test]
fn a_commit_whose_answer_is_lost_counts_once_whatever_became_of_it() {
    for_every_write(|which| async move {
        for lost in [tds::Action::CloseBefore, tds::Action::CloseAfter] {
            let server = Watched::start(Options::default());
            let store = server.open().await;
            prepared(&store).await;
            server.faults().on(COMMIT, 1, lost);
            write(&store, which).await;
            was_done_once(&store, which).await;
        }
    });
}

/// A deadlock, a throttle, a killed session: at whatever statement it comes, the work is done once.
#[test]
fn any_statement_of_any_write_may_fail_once() {
    const FAULTS: [fn() -> tds::Action; 3] =
        [|| tds::Action::error(1205), || tds::Action::error(40501), || tds::Action::CloseBefore];
    for_every_write(|which| async move {
        for nth in 1.. {
            let server = Watched::start(Options::default());
            let store = server.open().await;
            prepared(&store).await;
            let before = server.faults().connections();
            server.faults().on("", nth, FAULTS[nth % FAULTS.len()]());
            write(&store, which).await;
            // A connection that saw an error is never used again; where none is new, the work had fewer statements.
            if server.faults().connections() == before {
                assert!(nth > 3, "{which}: no fault took place");
                break;
            }
            was_done_once(&store, which).await;
        }
    });
}

#[test]
fn a_session_that_is_killed_in_the_middle_leaves_nothing_and_the_work_is_done_again() {
    runtime().block_on(async {
        let server = Watched::start(Options::default());
        let store = server.open().await;
        prepared(&store).await;
        // The rows are in the table, the checkpoint is not moved yet.
        server.faults().on("SET [checkpoint] = [checkpoint] + @P9", 1, tds::Action::Delay(Duration::from_secs(2)));
        let killing = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let sessions = server.faults().sessions();
            assert!(!sessions.is_empty());
            for session in sessions {
                assert!(server.faults().kill(session));
            }
        };
        tokio::join!(killing, write(&store, "batch"));
        was_done_once(&store, "batch").await;
    });
}

#[test]
fn a_servers_message_never_leaves_the_store() {
    runtime().block_on(async {
        for number in [2627, 2601, 2628, 547, 50_000, 208] {
            let server = Watched::start(Options::default());
            let store = server.open().await;
            prepared(&store).await;
            let message = "The duplicate key value is (CANARY-VALUE).".to_owned();
            for nth in 1..=9 {
                let action = tds::Action::Error { number, class: 14, state: 1, message: message.clone() };
                server.faults().on("INSERT INTO dbo.PatientData (FirstName", nth, action);
            }
            let error = store.admit(&open_encounter(10), None, &event(Action::Admit, 1)).await.unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("CANARY") && said.contains(&number.to_string()), "{said}");
        }
    });
}

/// Whoever loses the race for a key is tried again, and answers what the winner stored.
#[test]
fn a_lost_race_for_an_id_is_answered_as_a_repeated_admission() {
    runtime().block_on(async {
        let server = Watched::start(Options::default());
        let (store, other) = (server.open().await, server.open().await);
        prepared(&store).await;
        // The delay begins after the look at the id and before the row is stored.
        server.faults().on("INSERT INTO dbo.PatientData (FirstName", 1, tds::Action::Delay(Duration::from_millis(600)));
        let (encounter, said) = (open_encounter(10), prediction(3.0));
        let late = admit(&store, &encounter, Some(&said));
        let early = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            admit(&other, &open_encounter(10), Some(&prediction(5.0))).await
        };
        let (late, early) = tokio::join!(late, early);
        let news = [&late, &early].into_iter().filter(|answer| **answer == Admitted::Now).count();
        let befores = [&late, &early].into_iter().filter(|answer| matches!(answer, Admitted::Before(_))).count();
        assert_eq!((news, befores), (1, 1));
        assert_eq!(store.totals().await.unwrap().encounters, 5);
    });
}

/// A batch holds the lock for longer than others wait for it: they come back later, and nothing of theirs is stored or lost.
#[test]
fn a_batch_whose_turn_does_not_come_is_told_as_busy_and_stored_when_it_comes_again() {
    runtime().block_on(async {
        let server = Watched::start(Options::default());
        let holder = server.open().await;
        prepared(&holder).await;
        let patience = Duration::from_secs(2);
        let settings = SqlSettings { import: patience, ..server.settings() };
        let waiting = AzureSql::open(&settings, &Default::default()).await.unwrap();
        let held = begin(&holder, 11).await;
        let (file, part) = (begin(&waiting, 12).await, take(&waiting, 3, 0).await);
        // The first batch to store its rows has the lock then.
        server.faults().on("INSERT INTO dbo.PatientData (", 1, tds::Action::Delay(patience * 4));
        let holding = batch(&held, vec![encounter(70)]);
        let holding = holder.import_batch(&holding);
        let others = async {
            tokio::time::sleep(patience / 4).await;
            for batch in [batch(&file, vec![encounter(71)]), part_batch(3, &part, vec![encounter(72)])] {
                assert_eq!(waiting.import_batch(&batch).await.unwrap(), Step::Busy);
            }
        };
        let (held, ()) = tokio::join!(holding, others);
        assert!(matches!(held.unwrap(), Step::Committed(counts) if counts.stored == 1));
        for id in [71, 72] {
            assert_eq!(waiting.encounter(eid(id)).await.unwrap(), None);
        }
        assert_eq!(waiting.import(&file.id).await.unwrap().unwrap().checkpoint, 0);
        for batch in [batch(&file, vec![encounter(71)]), part_batch(3, &part, vec![encounter(72)])] {
            assert!(matches!(waiting.import_batch(&batch).await.unwrap(), Step::Committed(counts) if counts.stored == 1));
        }
    });
}
