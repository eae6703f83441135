#!/usr/bin/env python3
"""The Python peers of the length-of-stay model: at their defaults on the file's own columns, and XGBoost on the features that `hdai` learned.

    peers.py folds FOLDER     fits every peer on FOLDER/0 .. FOLDER/4 (train.csv, test.csv, train-features.csv, test-features.csv);
                              prints JSON: {peer: [a result a fold]}
    peers.py fit PEER FILE    fits one peer on all of FILE; prints JSON: {"fit_seconds"}

Seconds are process CPU seconds of `fit`. `run` sets one thread for every library.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

SEED = 1
TARGET = "lengthofstay"
TEXT = ["rcount", "gender", "facid"]
# Never blanked: `hdai evaluate --blank-cells` leaves them too.
ADMINISTRATIVE_FEATURES = ["gender", "facid"]
# Names, identity and dates are no features; the day of discharge is the answer itself.
DROPPED = ["First", "Middle", "Last", "eid", "vdate", "discharged", TARGET]


def linear():
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def random_forest():
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(random_state=SEED, n_jobs=1)


def hist_gradient_boosting():
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(random_state=SEED)


def lightgbm():
    from lightgbm import LGBMRegressor

    return LGBMRegressor(random_state=SEED, n_jobs=1, verbose=-1)


def xgboost():
    from xgboost import XGBRegressor

    return XGBRegressor(random_state=SEED, n_jobs=1)


def xgboost_shallow():
    """Many small steps: the shape that suits features which already hold the steps and crossings."""
    from xgboost import XGBRegressor

    return XGBRegressor(random_state=SEED, n_jobs=1, max_depth=3, n_estimators=500, learning_rate=0.05)


def catboost():
    from catboost import CatBoostRegressor

    return CatBoostRegressor(random_seed=SEED, thread_count=1, verbose=False, allow_writing_files=False)


PEERS = {
    "LinearRegression": linear,
    "RandomForest": random_forest,
    "HistGradientBoosting": hist_gradient_boosting,
    "LightGBM": lightgbm,
    "XGBoost": xgboost,
    "CatBoost": catboost,
}
ON_OUR_FEATURES = {
    "XGBoost on our features": xgboost,
    "XGBoost on our features, depth 3, 500 trees, rate 0.05": xgboost_shallow,
}


def read(path):
    frame = pd.read_csv(path, encoding="utf-8-sig", dtype=dict.fromkeys(TEXT, str))
    return frame.drop(columns=[name for name in DROPPED if name in frame]), frame[TARGET].to_numpy(float)


def ordinal(frame):
    """Every column a number: readmissions as a count (`5+` is 5), gender and facility as codes."""
    frame = frame.copy()
    frame["rcount"] = frame["rcount"].str.rstrip("+").astype(float)
    for name in ADMINISTRATIVE_FEATURES:
        frame[name] = frame[name].map({value: code for code, value in enumerate(sorted(frame[name].unique()))})
    return frame.astype(float)


def one_hot(frame):
    """For the linear peer, which a code would mislead."""
    return pd.get_dummies(frame, columns=TEXT, drop_first=True).astype(float)


def together(encode, train, test):
    """Encodes both files alike, whatever values only one of them holds."""
    both = encode(pd.concat([train, test], ignore_index=True))
    return both[: len(train)], both[len(train) :]


def learned(folder, part):
    """What `hdai predict --learned-features` wrote (encounter id, then the columns; no header), in the order of the encounters in the file."""
    features = pd.read_csv(folder / f"{part}-features.csv", header=None, index_col=0)
    return features.loc[pd.read_csv(folder / f"{part}.csv", encoding="utf-8-sig", usecols=["eid"])["eid"]].astype(float)


def blank_cells(frame, share, *seed):
    """Makes each clinical cell missing with probability `share`, as `hdai evaluate --blank-cells` does."""
    clinical = frame.columns.difference(ADMINISTRATIVE_FEATURES, sort=False)
    drawn = np.random.default_rng([SEED, *seed]).random((len(frame), len(clinical))) < share
    frame = frame.copy()
    frame[clinical] = frame[clinical].mask(drawn)
    return frame


def fit(make, inputs, stays):
    model = make()
    started = time.process_time()
    model.fit(inputs, stays)
    return model, time.process_time() - started


def one_row_microseconds(model, inputs, calls=100):
    """The fastest of `calls` predictions of one row: what the machine does besides only adds to it."""
    best = float("inf")
    for i in range(calls):
        row = inputs[i % len(inputs)].reshape(1, -1)
        started = time.perf_counter()
        model.predict(row)
        best = min(best, time.perf_counter() - started)
    return best * 1e6


def whole_days(predicted):
    """Rounded as `hdai evaluate` rounds: half away from zero (NumPy's own is half to even)."""
    return np.trunc(predicted + np.copysign(0.5, predicted))


def score(make, train, train_stays, test, stays):
    train, test = train.to_numpy(), test.to_numpy()
    model, fit_seconds = fit(make, train, train_stays)
    started = time.process_time()
    predicted = np.asarray(model.predict(test))
    batch_seconds = time.process_time() - started
    error = predicted - stays
    return {
        "r2": 1 - float(np.sum(error**2) / np.sum((stays - stays.mean()) ** 2)),
        "mae": float(np.mean(np.abs(error))),
        "within_one_day": float(np.mean(np.abs(whole_days(predicted) - stays) <= 1)),
        "fit_seconds": fit_seconds,
        "batch_row_us": batch_seconds / len(test) * 1e6,
        "one_row_us": one_row_microseconds(model, test),
    }


def fold_results(folder, fold):
    """Every (name, function that scores) of one fold."""
    folder = folder / str(fold)
    (train, train_stays), (test, stays) = read(folder / "train.csv"), read(folder / "test.csv")
    coded = together(ordinal, train, test)
    for name, make in PEERS.items():
        inputs = together(one_hot, train, test) if make is linear else coded
        yield name, lambda make=make, inputs=inputs: score(make, inputs[0], train_stays, inputs[1], stays)
    for name, make in ON_OUR_FEATURES.items():
        yield name, lambda make=make: score(make, learned(folder, "train"), train_stays, learned(folder, "test"), stays)
    without = [part.drop(columns="rcount") for part in coded]
    yield "LightGBM, trained without rcount", lambda: score(lightgbm, without[0], train_stays, without[1], stays)
    for percent in (10, 30):
        blanked = [blank_cells(part, percent / 100, percent, fold, i) for i, part in enumerate(coded)]
        yield (
            f"LightGBM, {percent} % blank in training and serving",
            lambda blanked=blanked: score(lightgbm, blanked[0], train_stays, blanked[1], stays),
        )


def folds(folder):
    results, failed = {}, set()
    for fold in sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()):
        for name, run in fold_results(folder, fold):
            if name in failed:
                continue
            try:
                results.setdefault(name, []).append(run())
            except Exception as error:  # one peer that is missing or fails must not cost the others
                failed.add(name)
                results.pop(name, None)
                print(f"peers: {name} left out: {type(error).__name__}: {error}", file=sys.stderr)
    return results


def same_job_seconds(make, inputs, stays):
    """What `hdai train` does, done with this library: five folds of at most 10,000 rows to choose and again to calibrate intervals,
    one fit of the earlier 85 % that is measured on the latest 15 %, and one of everything that serves."""
    started = time.process_time()
    few = np.random.default_rng(SEED).permutation(len(stays))[:10_000]
    for _ in range(2):
        for fold in range(5):
            held = few[fold::5]
            rest = np.setdiff1d(few, held)
            make().fit(inputs[rest], stays[rest]).predict(inputs[held])
    cut = len(stays) * 85 // 100
    make().fit(inputs[:cut], stays[:cut]).predict(inputs[cut:])
    make().fit(inputs, stays)
    return time.process_time() - started


def fit_file(name, path):
    frame, stays = read(path)
    inputs = ordinal(frame).to_numpy()
    return {"fit_seconds": fit(PEERS[name], inputs, stays)[1]}


def same_job_file(name, path):
    frame, stays = read(path)
    return {"job_seconds": same_job_seconds(PEERS[name], ordinal(frame).to_numpy(), np.asarray(stays))}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["folds", folder]:
            print(json.dumps(folds(Path(folder))))
        case ["fit", name, path]:
            print(json.dumps(fit_file(name, path)))
        case ["job", name, path]:
            print(json.dumps(same_job_file(name, path)))
        case _:
            sys.exit(__doc__)
