//! Nothing here: the tests are in `tests/azure_sql`.
