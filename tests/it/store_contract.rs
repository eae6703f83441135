//! One contract that every store keeps, and what SQLite alone promises.
//!
//! The contract is written against `&dyn Store`: a new back end is a function in `place` and one line here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod anomalies;
mod encounters;
mod ledger;
mod place;
mod property;
mod records;
mod sqlite_only;

macro_rules! contract {
    ($backend:ident) => {
        mod $backend {
            contract!(@ $backend ledger:
                an_import_begins_once_and_is_taken_over,
                a_batch_is_counted_exactly,
                a_row_twice_in_one_file_is_stored_and_then_updated,
                a_file_without_names_or_discharges_erases_none,
                the_same_batch_twice_changes_nothing,
                an_older_attempt_is_superseded,
                an_import_resumes_from_its_checkpoint_in_another_process,
                sixteen_deliveries_at_once_end_in_one_table,
                a_finished_import_is_over,
                a_failed_import_says_why,
                an_entry_of_a_replaced_file_is_closed,
                a_row_with_the_id_of_another_admission_is_a_reject,
                rejects_are_read_in_line_order_and_capped,
                a_batch_with_an_impossible_value_leaves_nothing,
                an_import_nobody_began_is_not_found,
                an_import_keeps_the_prediction_of_an_admission,
                imports_are_listed_newest_first,
            );
            contract!(@ $backend encounters:
                an_admission_is_stored_once_and_answered_again,
                an_admission_that_differs_in_anything_is_a_conflict,
                an_admission_of_an_imported_encounter_is_a_conflict_unless_equal,
                a_repeated_admission_after_the_discharge_is_the_same_admission,
                of_many_equal_admissions_at_once_one_is_new,
                of_many_discharges_at_once_one_wins,
                a_discharge_meets_every_case,
                every_value_comes_back_as_it_went_in,
                a_prediction_that_is_not_finite_is_refused_whole,
                encounters_are_paged_with_names,
                discharged_encounters_are_paged_without_names,
                the_census_counts_by_facility,
            );
            contract!(@ $backend anomalies:
                the_stay_history_is_what_the_encounters_say,
                the_newest_weeks_are_kept,
                a_survey_takes_the_place_of_the_one_before,
                a_survey_that_is_not_finite_leaves_the_one_before,
            );
            contract!(@ $backend records:
                two_processes_migrate_at_once,
                a_new_record_has_the_blueprints_facilities,
                the_newest_promoted_model_is_the_champion,
                a_models_version_is_kept_once,
                every_audit_event_comes_back_newest_first,
            );
            contract!(@ $backend property: any_sequence_of_facts_leaves_what_a_simple_model_says);
        }
    };
    (@ $backend:ident $suite:ident: $($test:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                super::place::runtime().block_on(super::$suite::$test(super::place::$backend));
            }
        )*
    };
}

contract!(sqlite);
