use super::super::stub::{Accident, Stub};
use super::*;
use crate::azure::identity::Identity;
use crate::error::Kind;

fn pool_of(settings: &SqlSettings) -> Pool {
    let crate::config::SqlConnection::Text(text) = &settings.connection else { panic!("a text") };
    Pool::new(Options::parse(text, &Identity::default()).unwrap(), settings).unwrap()
}

fn pool(stub: &Stub) -> Pool {
    pool_of(&stub.settings())
}

/// Does work that is nothing but a batch until it is settled; answers what it was settled with, and how often it was done.
async fn work(mut attempts: Attempts<'_>) -> (Result<&'static str>, u32) {
    let mut times = 0;
    loop {
        let mut session = match attempts.session().await {
            Ok(session) => session,
            Err(error) => return (Err(error), times),
        };
        times += 1;
        let outcome = session.batch("WORK").await.map(|()| "done");
        match attempts.settle(session, outcome).await {
            Ok(Some(answer)) => return (Ok(answer), times),
            Ok(None) => {}
            Err(error) => return (Err(error), times),
        }
    }
}

#[tokio::test]
async fn work_that_went_well_leaves_its_connection_for_the_next() {
    let stub = Stub::start([]).await;
    let pool = pool(&stub);
    for attempts in [pool.reading(), pool.writing(None), pool.importing(None), pool.reading()] {
        assert_eq!(work(attempts).await.0.unwrap(), "done");
    }
    let counts = ["login", "set-up", "begin", "work", "commit", "alive"].map(|what| stub.count(what));
    assert_eq!(counts, [1, 1, 2, 4, 2, 0]);
}

#[tokio::test]
async fn a_commit_that_was_lost_after_it_was_done_is_not_done_again() {
    let stub = Stub::start([("commit", Accident::CutAfter)]).await;
    let (answer, times) = work(pool(&stub).writing(Some("WITNESS @P1"))).await;
    assert_eq!((answer.unwrap(), times), ("done", 1));
    assert_eq!((stub.count("commit"), stub.count("statement"), stub.count("login")), (1, 1, 2));
}

#[tokio::test]
async fn a_commit_that_was_lost_before_it_was_done_is_done_again() {
    let stub = Stub::start([("commit", Accident::CutBefore)]).await;
    let (answer, times) = work(pool(&stub).writing(Some("WITNESS @P1"))).await;
    assert_eq!((answer.unwrap(), times), ("done", 2));
    assert_eq!((stub.count("commit"), stub.count("statement")), (2, 1));
}

#[tokio::test]
async fn a_witness_that_cannot_be_reached_is_asked_again() {
    let stub = Stub::start([("commit", Accident::CutAfter), ("statement", Accident::CutBefore)]).await;
    let (answer, times) = work(pool(&stub).writing(Some("WITNESS @P1"))).await;
    assert_eq!((answer.unwrap(), times), ("done", 1));
    assert_eq!((stub.count("commit"), stub.count("statement")), (1, 2));
}

#[tokio::test]
async fn without_a_witness_a_lost_commit_is_done_again() {
    let stub = Stub::start([("commit", Accident::CutAfter)]).await;
    let (answer, times) = work(pool(&stub).writing(None)).await;
    assert_eq!((answer.unwrap(), times, stub.count("commit")), ("done", 2, 2));
}

#[tokio::test]
async fn a_commit_that_the_server_refuses_for_good_is_an_error() {
    let stub = Stub::start([("commit", Accident::Refused(3902))]).await;
    let (answer, times) = work(pool(&stub).writing(Some("WITNESS @P1"))).await;
    assert_eq!((answer.unwrap_err().kind(), times), (Kind::Internal, 1));
}

#[tokio::test]
async fn a_lost_race_for_a_key_is_run_three_times_and_each_on_a_new_connection() {
    let stub = Stub::start([("work", Accident::Refused(2627)); 3]).await;
    let (answer, times) = work(pool(&stub).writing(None)).await;
    assert_eq!((answer.unwrap_err().kind(), times, stub.count("login")), (Kind::Unavailable, 3, 3));
    let stub = Stub::start([("work", Accident::Refused(2601))]).await;
    let (answer, times) = work(pool(&stub).writing(None)).await;
    assert_eq!((answer.unwrap(), times, stub.count("commit")), ("done", 2, 1));
}

#[tokio::test]
async fn a_server_that_is_busy_at_the_login_is_asked_again() {
    let stub = Stub::start([("login", Accident::Refused(40613)), ("login", Accident::CutBefore)]).await;
    let (answer, times) = work(pool(&stub).reading()).await;
    assert_eq!((answer.unwrap(), times, stub.count("login")), ("done", 1, 3));
    let stub = Stub::start([("login", Accident::Refused(18456))]).await;
    let (answer, times) = work(pool(&stub).reading()).await;
    let error = answer.unwrap_err();
    assert!(error.to_string().contains("contained user") && error.to_string().contains("18456"), "{error}");
    assert_eq!((times, stub.count("login")), (0, 1));
}

#[tokio::test]
async fn the_babelfish_number_is_worth_another_try_for_an_import_only() {
    let accident = ("work", Accident::Refused(retry::BABELFISH_OTHER));
    let stub = Stub::start([accident]).await;
    assert_eq!(work(pool(&stub).importing(None)).await.1, 2);
    let stub = Stub::start([accident]).await;
    let (answer, times) = work(pool(&stub).writing(None)).await;
    assert_eq!((answer.unwrap_err().kind(), times), (Kind::Internal, 1));
}

#[tokio::test]
async fn a_connection_that_saw_an_error_or_a_dropped_future_is_closed() {
    let stub = Stub::start([("work", Accident::Refused(547))]).await;
    let pool = pool(&stub);
    assert!(work(pool.reading()).await.0.is_err());
    assert_eq!(pool.slots.state().connections, 0);
    let abandoned = pool.open(Work::Writing, "0").await.unwrap();
    assert_eq!(pool.slots.state().connections, 1);
    drop(abandoned);
    assert_eq!(pool.slots.state().connections, 0);
    assert_eq!(work(pool.reading()).await.0.unwrap(), "done");
    assert_eq!((stub.count("login"), pool.slots.state().idle_connections), (3, 1));
}

#[tokio::test]
async fn when_every_connection_is_busy_the_call_is_refused() {
    let stub = Stub::start([]).await;
    let mut settings = stub.settings();
    (settings.pool_max, settings.wait) = (2, Duration::from_millis(200));
    let pool = pool_of(&settings);
    let held = (pool.open(Work::Reading, "0").await.unwrap(), pool.open(Work::Reading, "1").await.unwrap());
    let (answer, times) = work(pool.reading()).await;
    let error = answer.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("all 2 connections"), "{error}");
    assert_eq!((times, stub.count("login")), (0, 2));
    held.0.give_back();
    assert_eq!(work(pool.reading()).await.0.unwrap(), "done");
    drop(held.1);
}

#[tokio::test]
async fn when_one_connection_is_cut_off_the_idle_ones_are_not_tried_one_by_one() {
    let stub = Stub::start([]).await;
    let pool = pool(&stub);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(pool.open(Work::Reading, "0").await.unwrap());
    }
    held.into_iter().for_each(Session::give_back);
    stub.cut_all();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (answer, times) = work(pool.reading()).await;
    assert_eq!((answer.unwrap(), times, stub.count("login")), ("done", 2, 9));
    assert_eq!(pool.slots.state().connections, 1);
}

#[tokio::test]
async fn a_connection_past_its_life_is_replaced() {
    let stub = Stub::start([]).await;
    let mut settings = stub.settings();
    settings.lifetime = Duration::from_millis(300);
    let pool = pool_of(&settings);
    work(pool.reading()).await.0.unwrap();
    work(pool.reading()).await.0.unwrap();
    assert_eq!(stub.count("login"), 1);
    tokio::time::sleep(Duration::from_millis(350)).await;
    work(pool.reading()).await.0.unwrap();
    assert_eq!(stub.count("login"), 2);
}

#[tokio::test]
async fn a_batch_whose_answer_is_cut_off_is_no_success() {
    let stub = Stub::start([("work", Accident::CutAfter), ("work", Accident::CutBefore)]).await;
    let (answer, times) = work(pool(&stub).reading()).await;
    assert_eq!((answer.unwrap(), times), ("done", 3));
}

#[tokio::test]
async fn a_server_that_stays_away_is_given_up() {
    let stub = Stub::start([("login", Accident::Refused(40613)); 6]).await;
    let pool = pool(&stub);
    let begun = Instant::now();
    let (answer, times) = work(pool.reading().within(Duration::from_secs(2))).await;
    let error = answer.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("40613"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3) && times == 0 && stub.count("login") >= 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connection_that_lay_idle_for_long_is_asked_whether_it_lives() {
    let stub = Stub::start([]).await;
    let pool = pool(&stub);
    let idle = |session: Session| {
        let Session { mut connection, mut slot, .. } = session;
        connection.lay_idle(UNASKED_MAX + Duration::from_secs(1));
        slot.0 = Some(connection);
    };
    idle(pool.open(Work::Reading, "0").await.unwrap());
    assert_eq!(work(pool.reading()).await.1, 1);
    assert_eq!((stub.count("login"), stub.count("alive")), (1, 1));
    idle(pool.open(Work::Reading, "0").await.unwrap());
    stub.cut_all();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The work does not notice that the connection was dead.
    let (answer, times) = work(pool.reading()).await;
    assert_eq!((answer.unwrap(), times, stub.count("login")), ("done", 1, 2));
}
