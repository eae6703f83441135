//! Expressions of T-SQL in SQLite's words, each with its T-SQL type. What SQLite would do silently otherwise (compare text with numbers,
//! take a condition for a value, read a column that is not grouped by) is an error here, as it is on SQL Server.

use std::collections::HashMap;

use rusqlite::types::Value as Stored;
use sqlparser::ast::{BinaryOperator, CaseWhen, CastKind, Expr, UnaryOperator, Value};

use super::catalogue::{Catalogue, Collation, Column, quote};
use super::error::{Outcome, SqlError, strict};
use super::types::{Family, Type};

/// What a session knows of itself.
pub(super) struct Facts {
    pub(super) session: u64,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) transactions: i64,
    pub(super) row_count: i64,
    /// Does the server call itself Babelfish?
    pub(super) babelfish: bool,
}

pub(super) type Variables = HashMap<String, (Type, Stored)>;

/// How firmly an expression's collation is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Firmness {
    Explicit,
    Column,
    /// Text that takes the other side's.
    None,
}

/// An expression in SQLite's words.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) sql: String,
    pub(super) kind: Type,
    pub(super) nullable: bool,
    pub(super) collation: (Collation, Firmness),
    /// The table's column that it is, if it is no more than that.
    pub(super) column: Option<Column>,
}

impl Typed {
    pub(super) fn new(sql: impl Into<String>, kind: Type) -> Self {
        Self { sql: sql.into(), kind, nullable: true, collation: (Collation::Default, Firmness::None), column: None }
    }

    fn with(mut self, collation: (Collation, Firmness)) -> Self {
        self.collation = collation;
        self
    }

    /// Its SQL with its collation said, where SQLite will compare it.
    pub(super) fn collated(&self) -> String {
        match self.kind.family() {
            Family::Text => format!("({}) COLLATE {}", self.sql, self.collation.0.sqlite()),
            _ => self.sql.clone(),
        }
    }
}

/// A table of a FROM.
pub(super) struct Source {
    pub(super) alias: String,
    /// What stands before a column's name in SQLite.
    pub(super) qualifier: String,
    pub(super) columns: Vec<Column>,
}

impl Source {
    pub(super) fn new(alias: &str, columns: Vec<Column>) -> Self {
        Self { alias: alias.to_owned(), qualifier: format!("{}.", quote(alias)), columns }
    }

    /// The columns alone, for constraints and OUTPUT.
    pub(super) fn bare(alias: &str, columns: Vec<Column>) -> Self {
        Self { alias: alias.to_owned(), qualifier: String::new(), columns }
    }
}

/// One level of nested queries.
#[derive(Default)]
pub(super) struct Frame {
    pub(super) sources: Vec<Source>,
    /// In a query with GROUP BY or aggregates: what it groups by.
    pub(super) keys: Option<Vec<Expr>>,
    /// How deep we are inside an aggregate or inside one of the keys.
    pub(super) sheltered: u32,
}

pub(super) struct Translator<'e> {
    pub(super) catalogue: &'e Catalogue,
    pub(super) facts: Facts,
    pub(super) variables: &'e Variables,
    pub(super) frames: Vec<Frame>,
    pub(super) ctes: Vec<(String, Vec<Column>)>,
}

impl<'e> Translator<'e> {
    pub(super) fn new(catalogue: &'e Catalogue, facts: Facts, variables: &'e Variables) -> Self {
        Self { catalogue, facts, variables, frames: Vec::new(), ctes: Vec::new() }
    }

    /// The same, where the columns of `source` can be named.
    pub(super) fn over(mut self, source: Source) -> Self {
        self.frames.push(Frame { sources: vec![source], ..Frame::default() });
        self
    }

    /// A value.
    pub(super) fn scalar(&mut self, expression: &Expr) -> Outcome<Typed> {
        let is_key = self.frames.last().and_then(|frame| frame.keys.as_ref()).is_some_and(|keys| keys.contains(expression));
        if is_key {
            self.shelter(1);
        }
        let typed = self.value(expression);
        if is_key {
            self.shelter(-1);
        }
        typed
    }

    pub(super) fn shelter(&mut self, by: i32) {
        if let Some(frame) = self.frames.last_mut() {
            frame.sheltered = frame.sheltered.saturating_add_signed(by);
        }
    }

    fn value(&mut self, expression: &Expr) -> Outcome<Typed> {
        match expression {
            Expr::Identifier(name) if name.value.starts_with("@@") => self.global(&name.value),
            Expr::Identifier(name) if name.value.starts_with('@') => self.variable(&name.value),
            Expr::Identifier(name) => self.column(None, &name.value),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, name] => self.column(Some(&table.value), &name.value),
                _ => Err(strict(format!("the column {expression}"))),
            },
            Expr::Value(value) => literal(&value.value),
            Expr::Nested(inner) => {
                let inner = self.scalar(inner)?;
                Ok(Typed { sql: format!("({})", inner.sql), ..inner })
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
                let inner = self.scalar(expr)?;
                self.arithmetic("-", Typed { nullable: false, ..Typed::new("0", inner.kind) }, inner)
            }
            Expr::BinaryOp { left, op, right } => {
                let operator = match op {
                    BinaryOperator::Plus => "+",
                    BinaryOperator::Minus => "-",
                    BinaryOperator::Multiply => "*",
                    BinaryOperator::Divide => "/",
                    BinaryOperator::Modulo => "%",
                    _ => return Err(strict(format!("a condition, or an unknown operator, where a value is needed: {expression}"))),
                };
                let (left, right) = (self.scalar(left)?, self.scalar(right)?);
                self.arithmetic(operator, left, right)
            }
            Expr::Cast { kind: CastKind::Cast, expr, data_type, format: None } => self.cast(expr, &data_type.to_string()),
            Expr::Convert { is_try: false, expr, data_type: Some(to), charset: None, target_before_value: true, styles }
                if styles.is_empty() =>
            {
                self.cast(expr, &to.to_string())
            }
            Expr::Collate { expr, collation } => {
                let inner = self.scalar(expr)?;
                if inner.kind.family() != Family::Text {
                    return Err(SqlError::new(
                        447,
                        16,
                        format!("Expression type {} is invalid for COLLATE clause.", inner.kind.name()),
                    ));
                }
                Ok(inner.with((Collation::parse(&collation.to_string())?, Firmness::Explicit)))
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            Expr::Subquery(query) => {
                let query = self.query(query, true)?;
                match query.columns.as_slice() {
                    [one] => {
                        let collation = (one.column.collation, Firmness::Column);
                        Ok(Typed::new(format!("({})", query.sql), one.column.kind).with(collation))
                    }
                    _ => Err(SqlError::new(116, 16, "Only one expression can be specified in a subquery without EXISTS.")),
                }
            }
            Expr::Function(function) => self.call(function),
            Expr::Substring { expr, substring_from: Some(from), substring_for: Some(length), special: true, .. } => {
                self.substring(expr, from, length)
            }
            _ => Err(strict(format!("the expression is not understood: {expression}"))),
        }
    }

    fn variable(&self, name: &str) -> Outcome<Typed> {
        match self.variables.get(&name.to_ascii_lowercase()) {
            Some((kind, _)) => Ok(Typed::new(name.to_ascii_lowercase(), *kind)),
            None => Err(SqlError::new(137, 15, format!("Must declare the scalar variable \"{name}\"."))),
        }
    }

    fn column(&mut self, table: Option<&str>, name: &str) -> Outcome<Typed> {
        for frame in self.frames.iter().rev() {
            let named = |source: &&Source| table.is_none_or(|table| source.alias.eq_ignore_ascii_case(table));
            let mut found = frame.sources.iter().filter(named).flat_map(|source| {
                source.columns.iter().filter(|column| column.name.eq_ignore_ascii_case(name)).map(move |column| (source, column))
            });
            let Some((source, column)) = found.next() else { continue };
            if found.next().is_some() {
                return Err(SqlError::new(209, 16, format!("Ambiguous column name '{name}'.")));
            }
            if frame.keys.is_some() && frame.sheltered == 0 {
                let text = format!("Column '{name}' is invalid because it is not in an aggregate function or the GROUP BY clause.");
                return Err(SqlError::new(8120, 16, text));
            }
            return Ok(Typed {
                sql: format!("{}{}", source.qualifier, quote(&column.name)),
                kind: column.kind,
                nullable: column.nullable,
                collation: (column.collation, Firmness::Column),
                column: Some(column.clone()),
            });
        }
        match table {
            Some(table) => {
                Err(SqlError::new(4104, 16, format!("The multi-part identifier \"{table}.{name}\" could not be bound.")))
            }
            None => Err(SqlError::new(207, 16, format!("Invalid column name '{name}'."))),
        }
    }

    pub(super) fn arithmetic(&mut self, operator: &str, left: Typed, right: Typed) -> Outcome<Typed> {
        let sql = format!("tds_arithmetic('{operator}', {}, {}, ", left.sql, right.sql);
        if left.kind.family() == Family::Text && right.kind.family() == Family::Text && operator == "+" {
            let kind = joined(left.kind, right.kind);
            return Ok(Typed::new(format!("({} || {})", left.sql, right.sql), kind).with(common_collation(&left, &right)?));
        }
        let kind = unify(left.kind, right.kind)?;
        match kind {
            Type::Bit | Type::Null => Err(strict(format!("arithmetic on {}", kind.name()))),
            Type::Decimal if left.kind != Type::Decimal || right.kind != Type::Decimal || operator == "/" => {
                Err(strict("arithmetic with a decimal literal: CAST it to float"))
            }
            Type::Decimal => Ok(Typed::new(format!("{sql}'float')"), kind)),
            kind if kind.family() == Family::Number => Ok(Typed::new(format!("{sql}'{}')", kind.name()), kind)),
            kind => Err(strict(format!("the operator {operator} on {}", kind.name()))),
        }
    }

    fn cast(&mut self, expression: &Expr, to: &str) -> Outcome<Typed> {
        let (inner, to) = (self.scalar(expression)?, Type::parse(to)?);
        let sql = conversion(&inner, to, None)?;
        Ok(Typed { nullable: inner.nullable, ..Typed::new(sql, to).with(inner.collation) })
    }

    fn case(&mut self, operand: Option<&Expr>, conditions: &[CaseWhen], otherwise: Option<&Expr>) -> Outcome<Typed> {
        let mut whens = Vec::new();
        for when in conditions {
            let condition = match operand {
                Some(operand) => {
                    let (left, right) = (self.scalar(operand)?, self.scalar(&when.condition)?);
                    compare(&left, "=", &right)?
                }
                None => self.condition(&when.condition)?,
            };
            whens.push((condition, self.scalar(&when.result)?));
        }
        let otherwise =
            otherwise.map(|expression| self.scalar(expression)).transpose()?.unwrap_or_else(|| Typed::new("NULL", Type::Null));
        let arms: Vec<&Typed> = whens.iter().map(|(_, arm)| arm).chain([&otherwise]).collect();
        let (kind, collation) = common(&arms)?;
        let mut sql = "CASE".to_owned();
        for (condition, arm) in &whens {
            sql += &format!(" WHEN {condition} THEN {}", conversion(arm, kind, None)?);
        }
        sql += &format!(" ELSE {} END", conversion(&otherwise, kind, None)?);
        Ok(Typed::new(sql, kind).with(collation))
    }

    /// COALESCE, ISNULL.
    pub(super) fn coalesce(&mut self, name: &str, arguments: &[Typed]) -> Outcome<Typed> {
        let (kind, collation) = common(&arguments.iter().collect::<Vec<_>>())?;
        // ISNULL has the type of its first argument, and cuts the second to it.
        let kind = if name == "ISNULL" && arguments[0].kind != Type::Null { arguments[0].kind } else { kind };
        let parts: Outcome<Vec<_>> = arguments.iter().map(|argument| conversion(argument, kind, None)).collect();
        let nullable = arguments.iter().all(|argument| argument.nullable);
        Ok(Typed { nullable, ..Typed::new(format!("coalesce({})", parts?.join(", ")), kind).with(collation) })
    }
}

fn literal(value: &Value) -> Outcome<Typed> {
    let known = |sql: String, kind| Ok(Typed { nullable: false, ..Typed::new(sql, kind) });
    match value {
        Value::Null => Ok(Typed::new("NULL", Type::Null)),
        Value::Number(text, false) => match text.parse::<i64>() {
            Ok(number) if i32::try_from(number).is_ok() => known(text.clone(), Type::Int),
            Ok(_) => known(text.clone(), Type::Decimal),
            Err(_) if text.contains(['e', 'E']) => known(text.clone(), Type::Float),
            Err(_) if text.parse::<f64>().is_ok() && text.contains('.') => known(text.clone(), Type::Decimal),
            Err(_) => Err(strict(format!("the number {text}"))),
        },
        Value::NationalStringLiteral(text) | Value::SingleQuotedString(text) => {
            let units = text.encode_utf16().count().max(1);
            known(format!("'{}'", text.replace('\'', "''")), Type::Text(u16::try_from(units).ok().filter(|units| *units <= 4000)))
        }
        Value::HexStringLiteral(text) => known(format!("x'{text}'"), Type::Binary(u16::try_from(text.len() / 2).ok())),
        _ => Err(strict(format!("the literal {value}"))),
    }
}

/// The type that two values have in common.
pub(super) fn unify(a: Type, b: Type) -> Outcome<Type> {
    let rank = |kind| match kind {
        Type::Bit => Some(0),
        Type::TinyInt => Some(1),
        Type::SmallInt => Some(2),
        Type::Int => Some(3),
        Type::BigInt => Some(4),
        Type::Decimal => Some(5),
        Type::Float => Some(6),
        _ => None,
    };
    match (a, b) {
        (Type::Null, other) | (other, Type::Null) => Ok(other),
        (Type::Text(a), Type::Text(b)) => Ok(Type::Text(a.zip(b).map(|(a, b)| a.max(b)))),
        (Type::Binary(a), Type::Binary(b)) => Ok(Type::Binary(a.zip(b).map(|(a, b)| a.max(b)))),
        (a, b) if a == b => Ok(a),
        (a, b) => match (rank(a), rank(b)) {
            (Some(x), Some(y)) => Ok(if x < y { b } else { a }),
            _ => Err(strict(format!("{} and {} meet without a CAST", a.name(), b.name()))),
        },
    }
}

/// The type of two texts joined.
pub(super) fn joined(a: Type, b: Type) -> Type {
    match (a, b) {
        (Type::Text(Some(a)), Type::Text(Some(b))) => Type::Text(Some((a + b).min(4000))),
        _ => Type::Text(None),
    }
}

fn common(arms: &[&Typed]) -> Outcome<(Type, (Collation, Firmness))> {
    let kind = arms.iter().try_fold(Type::Null, |kind, arm| unify(kind, arm.kind))?;
    let mut collation = (Collation::Default, Firmness::None);
    for arm in arms.iter().filter(|arm| arm.kind.family() == Family::Text) {
        collation = common_collation(&Typed::new("", kind).with(collation), arm)?;
    }
    Ok((kind, collation))
}

/// The rules of collation precedence.
pub(super) fn common_collation(a: &Typed, b: &Typed) -> Outcome<(Collation, Firmness)> {
    let conflict = || SqlError::new(468, 16, "Cannot resolve the collation conflict.");
    match (a.collation, b.collation) {
        ((x, Firmness::Explicit), (y, Firmness::Explicit)) | ((x, Firmness::Column), (y, Firmness::Column)) if x != y => {
            Err(conflict())
        }
        (explicit @ (_, Firmness::Explicit), _) | (_, explicit @ (_, Firmness::Explicit)) => Ok(explicit),
        (column @ (_, Firmness::Column), _) | (_, column @ (_, Firmness::Column)) => Ok(column),
        (none, _) => Ok(none),
    }
}

/// A comparison.
pub(super) fn compare(left: &Typed, operator: &str, right: &Typed) -> Outcome<String> {
    let (a, b) = (left.kind.family(), right.kind.family());
    if a != b || matches!(a, Family::Null | Family::Variant) {
        return Err(strict(format!("a comparison of {} with {}: CAST one of them", left.kind.name(), right.kind.name())));
    }
    Ok(match a {
        Family::Text => {
            let (collation, _) = common_collation(left, right)?;
            format!("(({}) COLLATE {} {operator} ({}))", left.sql, collation.sqlite(), right.sql)
        }
        _ => format!("({} {operator} {})", left.sql, right.sql),
    })
}

/// `value` as `to`. With a column it is an assignment, which takes no text for another type; without one a CAST or a common type.
pub(super) fn conversion(value: &Typed, to: Type, column: Option<&str>) -> Outcome<String> {
    let from = value.kind;
    let rank = |kind: Type| kind.range().map(|(low, high)| i128::from(high) - i128::from(low));
    let fits = match (from, to) {
        (Type::Null, _) => true,
        (Type::Variant, Type::Text(_)) if column.is_none() => true,
        (Type::Text(_), Type::Text(None)) | (Type::Binary(_), Type::Binary(None)) => true,
        (Type::Text(Some(a)), Type::Text(Some(b))) | (Type::Binary(Some(a)), Type::Binary(Some(b))) => a <= b,
        (Type::DateTime2, Type::Instant) => true,
        (from, to) => from == to || to != Type::Bit && rank(from).zip(rank(to)).is_some_and(|(from, to)| from <= to),
    };
    if fits {
        return Ok(value.sql.clone());
    }
    if column.is_some() && from.family() != to.family() {
        return Err(strict(format!("a {} is assigned to a column of type {} without a CAST", from.name(), to.name())));
    }
    if to == Type::Float && from.family() == Family::Number {
        return Ok(format!("CAST({} AS REAL)", value.sql));
    }
    if to == Type::Decimal {
        return Ok(value.sql.clone());
    }
    let column = column.map_or("NULL".to_owned(), |column| format!("'{}'", column.replace('\'', "''")));
    Ok(format!("tds_convert({}, '{}', '{}', {column})", value.sql, from.name(), to.name()))
}
