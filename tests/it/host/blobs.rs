//! Blob triggers on a watched folder.

use health_data_ai::host::BlobPayload;

use super::queues::poison;
use super::*;

const IMPORT: &str = "/PatientDataBulkImport";

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_file_is_delivered_once_even_after_a_restart() {
    let fixture = Fixture::new();
    std::fs::write(fixture.blob("2026/a b.csv"), "x\n1\n").unwrap();
    std::fs::write(fixture.blob(".hidden.csv"), "x").unwrap();
    std::fs::write(fixture.blob("half.csv.partial"), "x").unwrap();
    let running = fixture.start().await;
    let call = envelope(&fixture.calls_reach(IMPORT, 1).await[0]);
    assert_eq!(call["Data"]["blob"]["Source"], "AzureStorageBlobs", "deferred by function.json");
    assert_eq!(call["Metadata"]["Uri"], "\"http://127.0.0.1:10000/devstoreaccount1/trainingdata/2026/a%20b.csv\"");
    assert_eq!(call["Metadata"]["name"], "\"2026/a b.csv\"");
    assert_eq!(call["Metadata"]["Properties"]["ContentLength"], 4);
    assert_eq!(call["Metadata"]["Properties"]["ContentType"], "text/csv");
    assert_eq!(call["Metadata"]["Properties"]["ETag"], json!({}));
    assert_eq!(call["Metadata"].get("BlobTrigger"), None);
    // A call that is cut off by the stop would rightly come again.
    while running.queues().depth(host::BLOB_QUEUE).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.stop().await;

    let running = fixture.start().await;
    std::fs::write(fixture.blob("new.csv"), "x").unwrap();
    let calls = fixture.calls_reach(IMPORT, 2).await;
    assert_eq!(envelope(&calls[1])["Metadata"]["name"], "\"new.csv\"", "the receipt of the first holds");
    std::fs::write(fixture.blob("2026/a b.csv"), "another version").unwrap();
    let calls = fixture.calls_reach(IMPORT, 3).await;
    assert_eq!(envelope(&calls[2])["Metadata"]["Properties"]["ContentLength"], 15);
    running.stop().await;
    assert_eq!(fixture.calls(IMPORT).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_still_growing_is_not_delivered() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let path = fixture.blob("growing.csv");
    for rows in 1..12 {
        std::fs::write(&path, "x\n".repeat(rows)).unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!(fixture.calls(IMPORT).is_empty());
    let calls = fixture.calls_reach(IMPORT, 1).await;
    assert_eq!(envelope(&calls[0])["Metadata"]["Properties"]["ContentLength"], 22);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inline_content_is_base64_and_an_output_starts_the_training() {
    let mut fixture = Fixture::new();
    fixture.options.blob_payload = Some(BlobPayload::Inline);
    fixture.control(json!({ "answers": { IMPORT: [{ "Outputs": { "trainingRequest": { "rows": 1 } } }] } }));
    std::fs::write(fixture.blob("a.csv"), "id,name\r\n1,Ann\r\n").unwrap();
    let running = fixture.start().await;
    let call = fixture.calls_reach(IMPORT, 1).await.remove(0);
    assert_eq!(envelope(&call)["Data"]["blob"], "aWQsbmFtZQ0KMSxBbm4NCg==");
    assert_eq!(header(&call, "transfer-encoding"), Some("chunked"));
    let training = fixture.calls_reach("/TrainLengthOfStay", 1).await.remove(0);
    assert_eq!(envelope(&training)["Metadata"]["rows"], "1");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_attempts_and_a_blob_is_poison() {
    let fixture = Fixture::new();
    fixture.control(json!({ "answers": { IMPORT: [{ "status": 503 }] } }));
    let path = fixture.blob("in/a.csv");
    std::fs::write(&path, "x").unwrap();
    let etag = health_data_ai::blob::local::etag_of(&std::fs::metadata(&path).unwrap());
    let running = fixture.start().await;
    let message: Value = serde_json::from_slice(&poison(&running, host::BLOB_POISON_QUEUE).await).unwrap();
    let expected = json!({
        "Type": "BlobTrigger", "FunctionId": "Host.Functions.PatientDataBulkImport", "BlobType": "BlockBlob",
        "ContainerName": "trainingdata", "BlobName": "in/a.csv", "ETag": format!("\"{etag}\""),
    });
    assert_eq!(message, expected);
    assert_eq!(fixture.calls(IMPORT).len(), 5);
    assert!(envelope(&fixture.calls(IMPORT)[0])["Metadata"].get("DequeueCount").is_none(), "a blob trigger does not say");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_blobs_at_once_than_host_json_allows() {
    let fixture = Fixture::new();
    fixture.control(json!({ "answers": { IMPORT: [{ "sleep": 0.5 }] } }));
    for name in ["a", "b", "c", "d"] {
        std::fs::write(fixture.blob(name), name).unwrap();
    }
    let running = fixture.start().await;
    let calls = fixture.calls_reach(IMPORT, 4).await;
    let at = |index: usize| calls[index]["at"].as_f64().unwrap();
    assert!(at(2) - at(0) >= 0.5 && at(3) - at(1) >= 0.5, "two at a time");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_deleted_meanwhile_is_dropped() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    running.ready().await.unwrap();
    let message = json!({
        "Type": "BlobTrigger", "FunctionId": "Host.Functions.PatientDataBulkImport", "BlobType": "BlockBlob",
        "ContainerName": "trainingdata", "BlobName": "gone.csv", "ETag": "\"0x1\"",
    });
    running.queues().put(host::BLOB_QUEUE, vec![message.to_string().into_bytes()]).await.unwrap();
    while running.queues().depth(host::BLOB_QUEUE).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(fixture.calls(IMPORT).is_empty());
    assert_eq!(running.queues().depth(host::BLOB_POISON_QUEUE).await.unwrap(), 0);
    running.stop().await;
}
