//! Bulk load: the rows that follow INSERT BULK.

use rusqlite::types::Value;

use super::answer::Answer;
use super::catalogue::{Column, quote};
use super::engine::{Announced, Engine};
use super::error::{Outcome, SqlError, strict};
use super::functions::convert;
use super::request::Request;
use super::types::{Reader, Type, WireType};

impl Engine {
    /// Does what a request asks for; answers the message to send.
    pub(super) fn serve(&mut self, request: Request) -> Vec<u8> {
        let mut answer = Answer::new(matches!(request, Request::Procedure { .. }));
        let mut status = 0;
        let done = match request {
            Request::Batch(sql) => return self.batch(&sql),
            Request::Execute { sql, parameters } => return self.call(&sql, parameters),
            Request::Procedure { name, arguments } => self.application_lock(&name, &arguments).map(|result| status = result as i32),
            Request::Begin => self.begin(&mut answer),
            Request::Commit => self.commit(&mut answer),
            Request::RollBack => self.roll_back(&mut answer),
            Request::Bulk(bytes) => self.bulk(&bytes, &mut answer),
        };
        if let Err(error) = done {
            self.fail(error, "", &mut answer);
        }
        answer.finish(status)
    }

    fn bulk(&mut self, bytes: &[u8], answer: &mut Answer) -> Outcome<()> {
        let announced = self.announced.take().ok_or_else(|| strict("rows without INSERT BULK"))?;
        let count = self.atomically(|engine| engine.load(&announced, bytes))?;
        self.counted(count, answer);
        Ok(())
    }

    fn load(&self, announced: &Announced, bytes: &[u8]) -> Outcome<u64> {
        let all = self.catalogue.columns(&announced.table)?;
        let mut from = Reader::new(bytes);
        let wires = metadata(&mut from, announced)?;
        let mut targets: Vec<Column> = Vec::new();
        for (name, kind) in &announced.columns {
            let column = all.iter().find(|column| column.name.eq_ignore_ascii_case(name) && !column.identity);
            let column = column.ok_or_else(|| SqlError::new(207, 16, format!("Invalid column name '{name}'.")))?;
            if column.kind.family() != kind.family() {
                return Err(strict(format!("INSERT BULK names another type for {name} than the table has")));
            }
            targets.push(column.clone());
        }
        let names: Vec<_> = targets.iter().map(|column| quote(&column.name)).collect();
        let places = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({places})", announced.table.quoted(), names.join(", "));
        let failed = |error: &rusqlite::Error, values: &[Value]| self.catalogue.error(error, &format!("{values:?}"));
        let mut statement = self.catalogue.connection.prepare(&sql).map_err(|error| failed(&error, &[]))?;
        let mut count = 0;
        loop {
            match from.u8()? {
                0xd1 => {}
                0xfd if from.take(12).is_ok() && from.is_empty() => return Ok(count),
                token => return Err(strict(format!("the token {token:#04x} among the rows of a bulk load"))),
            }
            let mut values = Vec::with_capacity(targets.len());
            for (wire, column) in wires.iter().zip(&targets) {
                values.push(stored(wire, column, &mut from)?);
            }
            if let Err(error) = statement.execute(rusqlite::params_from_iter(&values)) {
                return Err(failed(&error, &values));
            }
            count += 1;
        }
    }
}

/// COLMETADATA of a bulk load: it must be what INSERT BULK announced.
fn metadata(from: &mut Reader<'_>, announced: &Announced) -> Outcome<Vec<WireType>> {
    if from.u8()? != 0x81 || from.number(2)? as usize != announced.columns.len() {
        return Err(strict("a bulk load of other columns than INSERT BULK announced"));
    }
    let mut wires = Vec::new();
    for (name, kind) in &announced.columns {
        from.take(6)?;
        let wire = WireType::read(from)?;
        let units = usize::from(from.u8()?);
        let own = from.text(units)?;
        if !own.eq_ignore_ascii_case(name) || wire.kind.family() != kind.family() {
            return Err(strict(format!("a bulk load whose column {own} is not the announced {name}")));
        }
        wires.push(wire);
    }
    Ok(wires)
}

fn stored(wire: &WireType, column: &Column, from: &mut Reader<'_>) -> Outcome<Value> {
    let value = wire.read_value(from)?;
    let same = wire.kind == column.kind && !matches!(column.kind, Type::Text(_) | Type::Binary(_));
    if same || value == Value::Null { Ok(value) } else { convert(&value, wire.kind, column.kind, Some(&column.name)) }
}
