//! One contract that every store keeps, and what each back end alone promises.
//!
//! The contract is written against `&dyn Store`: a back end is a module in `place` and one line here. `azure_sql` runs on the TDS server of
//! `tds`, `server` on the one that `HDAI_TEST_SQL` names; where that variable is not set, its tests say so and do nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod anomalies;
mod azure_sql_faults;
mod azure_sql_only;
mod azure_sql_text;
mod edges;
mod encounters;
mod ledger;
mod outbox;
mod parts;
mod place;
mod property;
mod reads;
mod records;
mod sqlite_only;
mod trail;

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
            contract!(@ $backend parts:
                a_plan_is_kept_once_and_says_what_is_left,
                what_is_begun_whole_is_not_planned,
                an_older_delivery_of_a_part_is_superseded_and_no_other_part,
                parts_count_every_row_once_and_the_last_closes_the_import,
                of_parts_that_end_at_once_one_closes_the_import,
                a_part_that_fails_ends_the_import_once_and_it_can_go_on,
                parts_of_a_replaced_file_stop,
                an_id_in_two_parts_ends_as_whoever_commits_last_says,
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
            contract!(@ $backend edges:
                names_of_every_script_come_back_as_they_went_in,
                a_name_that_changes_in_case_or_blanks_alone_is_an_update,
                days_at_both_ends_come_back,
                numbers_at_both_ends_come_back,
                a_file_of_ten_thousand_rows_is_read_back_without_a_difference,
                a_batch_of_one_id_ends_with_its_last_row,
                refused_rows_keep_their_lines_and_their_order,
                predictions_are_taken_once_by_whoever_has_none,
                a_page_of_no_rows_is_empty,
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
            contract!(@ $backend trail:
                every_fact_adds_to_an_unbroken_chain,
                eight_instances_at_once_leave_unbroken_chains,
                a_fact_that_fails_leaves_no_gap,
                the_trail_answers_who_what_and_when,
                a_checkpoint_is_remembered_once_and_a_record_may_get_another_id,
                a_chains_beginning_goes_when_its_time_is_over_and_leaves_an_anchor,
                a_young_event_and_a_wrong_anchor_stay,
            );
            contract!(@ $backend outbox:
                every_fact_is_announced_once_and_in_order,
                a_fact_that_does_not_commit_is_not_announced,
                one_lease_runs_at_a_time_and_runs_out,
                a_pause_binds_everybody_and_old_announcements_go,
                of_many_relays_at_once_one_has_the_lease,
            );
            contract!(@ $backend access:
                an_assignment_takes_the_place_of_the_one_before,
                of_many_first_assignments_at_once_one_stays,
                a_discharge_beyond_reach_changes_nothing_and_is_refused_in_the_trail,
                an_elevation_runs_until_it_ends_or_is_ended,
                of_many_who_break_the_glass_at_once_one_does,
                a_caller_has_so_many_elevations_a_day,
                what_needed_an_elevation_says_so_and_is_counted,
            );
            contract!(@ $backend reads:
                patients_are_filtered_and_paged_as_a_plain_model_says,
                pages_neither_lose_nor_repeat_while_patients_come,
                predictions_are_summed_as_a_plain_model_says,
                the_newest_predictions_come_without_names,
                all_encounters_are_counted_by_class_and_found_by_range,
                events_of_a_page_stand_in_the_chain_together,
            );
            contract!(@ $backend property: any_sequence_of_facts_leaves_what_a_simple_model_says);
        }
    };
    (@ $backend:ident $suite:ident: $($test:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                let Some(new_place) = super::place::$backend::new() else {
                    println!("not run: HDAI_TEST_SQL is not set");
                    return;
                };
                super::place::runtime().block_on(super::$suite::$test(new_place));
            }
        )*
    };
}

contract!(sqlite);
contract!(sealed);
contract!(azure_sql);
contract!(server);
