//! Text, numbers and days at the ends of what the record holds, and files that are large or strange.

use chrono::Days;
use health_data_ai::domain::import::Counts;
use health_data_ai::domain::{Action, Facility, Phi};
use health_data_ai::domain::{Encounter, Gender, PersonName, facility};
use health_data_ai::schema::{Feature, Shape};
use health_data_ai::store::{Admitted, Discharged, Step};

use super::place::*;

/// Names as people have them, and as nobody has them.
fn names() -> Vec<String> {
    [
        "Zoë",
        "Zoe\u{308}",
        "李小龍",
        "Ἀθηνᾶ",
        "Ørsted-Łódź",
        "שָׁלוֹם",
        "عَبْدُ الله",
        "\u{202e}rtl",
        "e\u{301}\u{327}\u{323}",
        "ß ſ ﬁ İ ı",
        "👩‍⚕️",
        "\u{1f600}\u{1f600}",
        "O'Brien",
        "\"quoted\" [brackets] ]] {braces}",
        "'; DROP TABLE PatientData; --",
        "%_[a-z]",
        "@P1",
        "NULL",
        " leading",
        "trailing ",
        "  both  ",
        "a\u{a0}b",
        "tab\tinside",
        "\u{feff}mark",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["é".repeat(50), "\u{1f600}".repeat(25)])
    .collect()
}

fn named(id: i64, name: &str) -> Encounter {
    Encounter { name: PersonName::new(name, "", name), ..encounter(id) }
}

pub(super) async fn names_of_every_script_come_back_as_they_went_in(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let imported: Vec<_> = (1..).zip(names()).map(|(id, name)| named(id, &name)).collect();
    let admitted: Vec<_> =
        (1001..).zip(names()).map(|(id, name)| Encounter { discharged: Phi::new(None), ..named(id, &name) }).collect();
    let all = imported.len() as u64;
    assert_eq!(import(&*store, 1, imported.clone()).await, Step::Committed(counts(all, 0, 0)));
    for encounter in &admitted {
        assert_eq!(admit(&*store, encounter, None).await, Admitted::Now);
        assert!(matches!(admit(&*store, encounter, None).await, Admitted::Before(_)));
    }
    for encounter in imported.iter().chain(&admitted) {
        assert_same(&store.encounter(encounter.id).await.unwrap().unwrap().encounter, encounter);
    }
    assert_eq!(import(&*store, 2, imported).await, Step::Committed(counts(0, 0, all)));
}

fn counts(stored: u64, updated: u64, unchanged: u64) -> Counts {
    Counts { read: stored + updated + unchanged, stored, updated, unchanged, rejected: 0 }
}

/// Two spellings that some comparison of text holds for equal are two names.
pub(super) async fn a_name_that_changes_in_case_or_blanks_alone_is_an_update(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let spellings = ["macdonald", "MacDonald", "MacDonald ", " MacDonald", "MacDonáld", "MacDona\u{301}ld", "ＭacDonald"];
    import(&*store, 1, vec![named(1, "first")]).await;
    for (number, spelling) in (2..).zip(spellings) {
        let row = named(1, spelling);
        assert_eq!(import(&*store, number, vec![row.clone()]).await, Step::Committed(counts(0, 1, 0)), "{number}");
        assert_same(&store.encounter(eid(1)).await.unwrap().unwrap().encounter, &row);
        assert_eq!(import(&*store, 100 + number, vec![row]).await, Step::Committed(counts(0, 0, 1)), "{number}");
    }
    let mut facilities = facility::seed();
    facilities.truncate(2);
    for (number, spelling) in (1..).zip(spellings) {
        facilities[1].name = spelling.to_owned();
        assert_eq!(store.save_facilities(&facilities, &event(Action::Migrate, number)).await.unwrap(), 1, "{number}");
        let read: Vec<Facility> = store.facilities().await.unwrap();
        assert_eq!(read[1].name, spelling);
    }
    assert_eq!(store.save_facilities(&facilities, &event(Action::Migrate, 20)).await.unwrap(), 0);
}

pub(super) async fn days_at_both_ends_come_back(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let (first, last) = (day("0001-01-01"), day("9999-12-31"));
    let ends = [(1, first, Some(first)), (2, first, Some(last)), (3, last, Some(last)), (4, first, None), (5, last, None)];
    let stays: Vec<_> = ends
        .map(|(id, admitted, discharged)| Encounter {
            admitted: Phi::new(admitted),
            discharged: Phi::new(discharged),
            ..bare_encounter(id)
        })
        .into_iter()
        .collect();
    assert_eq!(import(&*store, 1, stays.clone()).await, Step::Committed(counts(5, 0, 0)));
    for stay in &stays {
        assert_same(&store.encounter(stay.id).await.unwrap().unwrap().encounter, stay);
        let again = Encounter { id: eid(i64::from(stay.id.get()) + 10), ..stay.clone() };
        assert_eq!(admit(&*store, &again, Some(&prediction(3650.0))).await, Admitted::Now);
        assert_same(&store.encounter(again.id).await.unwrap().unwrap().encounter, &again);
    }
    assert!(matches!(discharge(&*store, eid(15), last).await, Discharged::Now(_)));
    assert_eq!(discharge(&*store, eid(14), last).await, Discharged::TooLong);
    assert_eq!(discharge(&*store, eid(14), first.pred_opt().unwrap()).await, Discharged::BeforeAdmission);
    assert!(matches!(discharge(&*store, eid(14), first + Days::new(3650)).await, Discharged::Now(_)));
    for (on, until) in [(first, first), (last, last), (first, last)] {
        store.census(on, until).await.unwrap();
    }
    let history = store.stay_history(last, 10_000_000).await.unwrap();
    assert_eq!(history.admissions.iter().map(|week| week.1).sum::<u64>(), 10);
    assert_eq!(history.admissions[0].0, first);
    let longest = u64::try_from((last - first).num_days()).unwrap();
    assert_eq!(history.stays.iter().map(|week| week.days_squared).max(), Some(2 * longest * longest));
}

pub(super) async fn numbers_at_both_ends_come_back(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let reals =
        [f64::MAX, f64::MIN, f64::MIN_POSITIVE, -f64::MIN_POSITIVE, 0.0, 0.1 + 0.2, 1.0 / 3.0, 1e-300, 123_456_789.123_456_78];
    let wholes = [i32::MAX, i32::MIN, 0, -1, 1, i32::MAX - 1, 7, 8, 9].map(f64::from);
    let rows: Vec<_> = (1..)
        .zip(reals.into_iter().zip(wholes))
        .map(|(id, (real, whole))| {
            let mut row = bare_encounter(id);
            for feature in Feature::measurements() {
                let is_whole = matches!(feature.spec().shape, Shape::Measurement(m) if m.whole);
                row.clinical.set(feature, Some(if is_whole { whole } else { real }));
            }
            row
        })
        .collect();
    import(&*store, 1, rows.clone()).await;
    for row in &rows {
        assert_same(&store.encounter(row.id).await.unwrap().unwrap().encounter, row);
        let again = Encounter { id: eid(i64::from(row.id.get()) + 100), ..row.clone() };
        assert_eq!(admit(&*store, &again, Some(&prediction(1e15 / 3.0))).await, Admitted::Now);
        assert_same(&store.encounter(again.id).await.unwrap().unwrap().encounter, &again);
    }
    let read = rows.len() as u64;
    assert_eq!(import(&*store, 2, rows).await, Step::Committed(counts(0, 0, read)));
}

pub(super) async fn a_file_of_ten_thousand_rows_is_read_back_without_a_difference(new_place: NewPlace) {
    const ROWS: i64 = 10_000;
    const BATCH: usize = 4_000;
    let store = new_place().migrated().await;
    let file: Vec<_> = (1..=ROWS).map(encounter).collect();
    let mut entry = begin(&*store, 1).await;
    for rows in file.chunks(BATCH) {
        let step = store.import_batch(&batch(&entry, rows.to_vec())).await.unwrap();
        assert_eq!(step, Step::Committed(counts(rows.len() as u64, 0, 0)));
        entry.checkpoint += rows.len() as u64;
    }
    let (mut read, mut after) = (0, None);
    loop {
        let page = store.encounters(after, 3_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for (found, expected) in page.iter().zip(&file[read..]) {
            assert_same(found, expected);
        }
        read += page.len();
    }
    assert_eq!(read, file.len());
    // Half of the next file is new, a quarter of it changed.
    let mut next: Vec<_> = (ROWS / 2 + 1..=ROWS + ROWS / 2).map(encounter).collect();
    for row in next.iter_mut().take(2_500) {
        row.gender = if row.gender == Gender::Other { Gender::Female } else { Gender::Other };
    }
    let mut entry = begin(&*store, 2).await;
    for rows in next.chunks(BATCH) {
        store.import_batch(&batch(&entry, rows.to_vec())).await.unwrap();
        entry.checkpoint += rows.len() as u64;
    }
    assert_eq!(store.import(&entry.id).await.unwrap().unwrap().counts, counts(5_000, 2_500, 2_500));
}

/// Every row of the file has the same id: it is stored once and then updated, in the order of the file.
pub(super) async fn a_batch_of_one_id_ends_with_its_last_row(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let rows: Vec<_> = (1..=60).map(|number| Encounter { id: eid(7), ..encounter(number) }).collect();
    assert_eq!(import(&*store, 1, rows.clone()).await, Step::Committed(counts(1, 59, 0)));
    let last = rows.last().cloned().unwrap();
    assert_same(&store.encounter(eid(7)).await.unwrap().unwrap().encounter, &last);
    assert_eq!(import(&*store, 2, vec![last; 50]).await, Step::Committed(counts(0, 0, 50)));
}

/// Rows that cannot be stored, between rows of the same ids that can: they are refused one by one, in the order of the file.
pub(super) async fn refused_rows_keep_their_lines_and_their_order(new_place: NewPlace) {
    let store = new_place().migrated().await;
    for id in [1, 2, 3] {
        admit(&*store, &open_encounter(id), None).await;
    }
    let another = |id: i64| Encounter { gender: Gender::ALL[(id as usize + 1) % 4], ..open_encounter(id) };
    let entry = begin(&*store, 1).await;
    let mut rows = batch(&entry, vec![another(2), another(1), encounter(2), another(3), another(1), another(2), encounter(50)]);
    rows.lines = vec![20, 21, 22, 23, 24, 25, 26];
    rows.rejects = vec![reject(19, "must be a date")];
    rows.rejected_rows = 1;
    let expected = Counts { read: 8, stored: 1, updated: 2, unchanged: 0, rejected: 5 };
    assert_eq!(store.import_batch(&rows).await.unwrap(), Step::Committed(expected));
    let lines: Vec<_> = store.rejects(&entry.id, 0, 99).await.unwrap().into_iter().map(|reject| reject.line).collect();
    // The second file row of encounter 2 is the admission itself, discharged: from then on it is an imported row like any other.
    assert_eq!(lines, [19, 20, 21, 23, 24]);
    assert_same(&store.encounter(eid(1)).await.unwrap().unwrap().encounter, &open_encounter(1));
    let second = store.encounter(eid(2)).await.unwrap().unwrap().encounter;
    assert_same(&second, &Encounter { discharged: encounter(2).discharged, ..another(2) });
}

pub(super) async fn predictions_are_taken_once_by_whoever_has_none(new_place: NewPlace) {
    let store = new_place().migrated().await;
    import(&*store, 1, (1..=9).map(open_encounter).collect()).await;
    admit(&*store, &open_encounter(20), Some(&prediction(2.0))).await;
    let ids = |page: Vec<Encounter>| page.into_iter().map(|e| e.id.get()).collect::<Vec<_>>();
    assert_eq!(ids(store.unpredicted_encounters(None, 100).await.unwrap()), (1..=9).collect::<Vec<_>>());
    let said = |id: i64, days: f64| (eid(id), prediction(days));
    // One twice: the first counts. One has a prediction, and one is nobody's.
    let given = [said(1, 3.0), said(2, 4.0), said(1, 9.0), said(20, 9.0), said(777, 9.0)];
    assert_eq!(store.save_predictions(&given, &event(Action::Train, 5)).await.unwrap(), 2);
    assert_eq!(store.save_predictions(&given, &event(Action::Train, 6)).await.unwrap(), 0);
    assert_eq!(store.save_predictions(&[], &event(Action::Train, 7)).await.unwrap(), 0);
    for (id, days) in [(1, 3.0), (2, 4.0), (20, 2.0)] {
        assert_eq!(store.encounter(eid(id)).await.unwrap().unwrap().prediction, Some(prediction(days)));
    }
    assert_eq!(ids(store.unpredicted_encounters(Some(eid(2)), 3).await.unwrap()), [3, 4, 5]);
    assert_eq!(store.audit_events(99).await.unwrap().len(), 4);
    let broken = [said(3, 5.0), said(4, f64::INFINITY)];
    assert!(store.save_predictions(&broken, &event(Action::Train, 8)).await.is_err());
    assert_eq!(store.encounter(eid(3)).await.unwrap().unwrap().prediction, None);
}

/// Nothing is asked for, and nothing is answered.
pub(super) async fn a_page_of_no_rows_is_empty(new_place: NewPlace) {
    let store = new_place().migrated().await;
    import(&*store, 1, (1..=3).map(encounter).collect()).await;
    assert!(store.encounters(None, 0).await.unwrap().is_empty());
    assert!(store.discharged_encounters(None, 0).await.unwrap().is_empty());
    assert!(store.unpredicted_encounters(None, 0).await.unwrap().is_empty());
    assert!(store.imports(0).await.unwrap().is_empty());
    assert!(store.rejects(&import_id(1), 0, 0).await.unwrap().is_empty());
    assert!(store.models(0).await.unwrap().is_empty());
    assert!(store.audit_events(0).await.unwrap().is_empty());
    assert_eq!(store.encounters(None, u32::MAX).await.unwrap().len(), 3);
}
