//! Conditions: what stands after WHERE, ON, HAVING, WHEN, CHECK and IF.

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator};

use super::error::{Outcome, SqlError, strict};
use super::scalar::{Translator, Typed, common_collation, compare};
use super::types::Family;

impl Translator<'_> {
    /// A condition in SQLite's words.
    pub(super) fn condition(&mut self, expression: &Expr) -> Outcome<String> {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match expression {
            Expr::Nested(inner) => Ok(format!("({})", self.condition(inner)?)),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => Ok(format!("(NOT {})", self.condition(expr)?)),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                Ok(format!("({} AND {})", self.condition(left)?, self.condition(right)?))
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                Ok(format!("({} OR {})", self.condition(left)?, self.condition(right)?))
            }
            Expr::BinaryOp { left, op, right } => {
                let operator = match op {
                    BinaryOperator::Eq => "=",
                    BinaryOperator::NotEq => "<>",
                    BinaryOperator::Lt => "<",
                    BinaryOperator::LtEq => "<=",
                    BinaryOperator::Gt => ">",
                    BinaryOperator::GtEq => ">=",
                    _ => return Err(no_condition(expression)),
                };
                let (left, right) = (self.scalar(left)?, self.scalar(right)?);
                compare(&left, operator, &right)
            }
            Expr::IsNull(inner) => Ok(format!("({} IS NULL)", self.scalar(inner)?.sql)),
            Expr::IsNotNull(inner) => Ok(format!("({} IS NOT NULL)", self.scalar(inner)?.sql)),
            Expr::Between { expr, negated, low, high } => {
                let value = self.scalar(expr)?;
                let (low, high) = (self.scalar(low)?, self.scalar(high)?);
                Ok(format!("({}({} AND {}))", not(negated), compare(&value, ">=", &low)?, compare(&value, "<=", &high)?))
            }
            Expr::InList { expr, list, negated } => {
                let value = self.scalar(expr)?;
                let mut parts = Vec::new();
                for one in list {
                    let one = self.scalar(one)?;
                    parts.push(compare(&value, "=", &one)?);
                }
                Ok(format!("({}({}))", not(negated), parts.join(" OR ")))
            }
            Expr::InSubquery { expr, subquery, negated } => {
                let value = self.scalar(expr)?;
                let query = self.query(subquery, true)?;
                let [one] = query.columns.as_slice() else {
                    return Err(SqlError::new(116, 16, "Only one expression can be specified in a subquery without EXISTS."));
                };
                let other =
                    Typed { collation: (one.column.collation, super::scalar::Firmness::Column), ..Typed::new("", one.column.kind) };
                // Told to make sure that the two can be compared.
                compare(&value, "=", &other)?;
                let left = match value.kind.family() {
                    Family::Text => format!("({}) COLLATE {}", value.sql, common_collation(&value, &other)?.0.sqlite()),
                    _ => value.sql,
                };
                Ok(format!("({left} {}IN ({}))", not(negated), query.sql))
            }
            Expr::Exists { subquery, negated } => Ok(format!("({}EXISTS ({}))", not(negated), self.query(subquery, true)?.sql)),
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                let (value, pattern) = (self.scalar(expr)?, self.scalar(pattern)?);
                if value.kind.family() != Family::Text || pattern.kind.family() != Family::Text {
                    return Err(strict("LIKE on what is no text"));
                }
                let escape = match escape_char {
                    Some(escape) => self.scalar(escape)?.sql,
                    None => "NULL".into(),
                };
                let exact = common_collation(&value, &pattern)?.0 == super::catalogue::Collation::Binary;
                Ok(format!("({}tds_like({}, {}, {escape}, {}))", not(negated), value.sql, pattern.sql, u8::from(exact)))
            }
            _ => Err(no_condition(expression)),
        }
    }
}

fn no_condition(expression: &Expr) -> SqlError {
    SqlError::new(
        4145,
        15,
        format!("An expression of non-boolean type specified in a context where a condition is expected: {expression}"),
    )
}
