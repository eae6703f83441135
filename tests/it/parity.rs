//! What is served is what was trained: the same encounter sent as FHIR, in the blueprint's parts and read from CSV gets the same prediction,
//! bit for bit, as the stored model gives offline. (The ancestor's service lost its accuracy between training and serving.)

use std::collections::HashMap;

use health_data_ai::codec::{csv, fhir};
use health_data_ai::domain::{Encounter, Phi, Prediction, facility};
use health_data_ai::predict::Model;
use health_data_ai::store::{Store, sqlite::Sqlite};
use health_data_ai::synthetic;
use serde_json::{Value, json};

use crate::support::{Host, generate};

const ENCOUNTERS: u64 = 1_000;

fn encounters() -> Vec<Encounter> {
    let options = synthetic::Options { rows: ENCOUNTERS, seed: 77, first_id: 700_001 };
    let mut encounters: Vec<Encounter> = synthetic::encounters(&options).unwrap().collect();
    // Every third lacks something that a message may lack.
    for (index, encounter) in encounters.iter_mut().enumerate().filter(|(index, _)| index % 3 == 0) {
        for feature in
            health_data_ai::schema::Feature::all().filter(|f| !matches!(f.spec().shape, health_data_ai::schema::Shape::Condition))
        {
            if (feature as usize + index).is_multiple_of(5) {
                encounter.clinical.set(feature, None);
            }
        }
    }
    encounters
}

fn champion(host: &Host) -> Model {
    let store = Sqlite::open(host.folder.join("hdai.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let record = runtime.block_on(store.champion()).unwrap().unwrap();
    Model::from_bytes(&record.bytes).unwrap()
}

/// A prediction as the answers show it.
fn shown(prediction: &Prediction) -> Value {
    json!({
        "days": prediction.days, "interval80": prediction.interval80, "interval90": prediction.interval90,
        "contributions": prediction.contributions, "missing": prediction.missing, "outOfRange": prediction.out_of_range,
        "modelVersion": prediction.model_version, "baselineDays": prediction.baseline_days,
    })
}

#[test]
fn served_predictions_are_the_offline_ones_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    host.drop_file(&generate(folder.path(), 2_000, 3), "train.csv");
    host.await_model();
    let model = champion(&host);

    let encounters = encounters();
    let mut writer = csv::Writer::new(Vec::new()).unwrap();
    encounters.iter().for_each(|encounter| writer.write(encounter).unwrap());
    let text = writer.finish().unwrap();
    let facilities: Vec<_> = facility::seed().iter().map(|facility| facility.id).collect();
    let rows = csv::Reader::new(&text[..], &facilities).unwrap().read_batch(ENCOUNTERS as usize).unwrap().unwrap();
    assert_eq!(rows.encounters.len() as u64, ENCOUNTERS);
    let from_csv: HashMap<i32, Value> = rows.encounters.iter().map(|e| (e.id.get(), shown(&model.predict(e)))).collect();

    for (index, encounter) in encounters.iter().enumerate() {
        let offline = shown(&model.predict(encounter));
        let id = encounter.id.get();
        assert_eq!(from_csv[&id], offline, "{id} from CSV");
        let open = Encounter { discharged: Phi::new(None), ..encounter.clone() };
        let message = if index % 2 == 0 { fhir::encode_bundle_admission(&open) } else { fhir::encode_blueprint_admission(&open) };
        let (status, answer) = host.call("POST", "/api/PatientAdmissionFunc", &message);
        assert_eq!(status, 201, "{answer}");
        for (member, expected) in offline.as_object().unwrap() {
            assert_eq!(&answer["prediction"][member], expected, "{id} {member}");
        }
    }
}
