//! Route templates of HTTP triggers: literals, `{name}`, `{name?}` and a trailing `{*name}`, the more literal route first.
//! It does not know methods, prefixes or what a route leads to.

use std::cmp::Ordering;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    text: String,
    segments: Vec<Segment>,
}

/// In the order of precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter { name: String, optional: bool },
    CatchAll(String),
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Template> {
        let fault = || Error::invalid("a route segment must be a literal, {name}, {name?} or, as the last, {*name}");
        let mut segments = Vec::new();
        for part in text.trim_matches('/').split('/') {
            if segments.last().is_some_and(|last| !matches!(last, Segment::Literal(_) | Segment::Parameter { optional: false, .. }))
            {
                return Err(fault());
            }
            segments.push(match part.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                None if part.contains(['{', '}']) || part.is_empty() => return Err(fault()),
                None => Segment::Literal(part.to_owned()),
                Some(inner) => {
                    let name = inner.trim_start_matches('*').trim_end_matches('?');
                    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                        return Err(fault());
                    }
                    match inner.starts_with('*') {
                        true => Segment::CatchAll(name.to_owned()),
                        false => Segment::Parameter { name: name.to_owned(), optional: inner.ends_with('?') },
                    }
                }
            });
        }
        Ok(Template { text: text.trim_matches('/').to_owned(), segments })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The parameters if `path` (percent-encoded, without the prefix and its slash) matches. Literals match without case, as in ASP.NET.
    pub(crate) fn matches(&self, path: &str) -> Option<Map<String, Value>> {
        let mut rest = path.trim_end_matches('/').split('/').filter(|part| !part.is_empty());
        let mut parameters = Map::new();
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => {
                    let part = decode(rest.next()?)?;
                    if !part.eq_ignore_ascii_case(literal) {
                        return None;
                    }
                }
                Segment::Parameter { name, optional } => match rest.next() {
                    Some(part) => {
                        parameters.insert(name.clone(), Value::String(decode(part)?));
                    }
                    None if *optional => {}
                    None => return None,
                },
                Segment::CatchAll(name) => {
                    let all: Vec<String> = rest.by_ref().map(decode).collect::<Option<_>>()?;
                    if !all.is_empty() {
                        parameters.insert(name.clone(), Value::String(all.join("/")));
                    }
                }
            }
        }
        rest.next().is_none().then_some(parameters)
    }

    /// The more specific template first.
    pub(crate) fn precedence(&self, other: &Template) -> Ordering {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::Parameter { .. } => 1,
            Segment::CatchAll(_) => 2,
        };
        self.segments.iter().map(rank).cmp(other.segments.iter().map(rank)).then_with(|| self.text.cmp(&other.text))
    }
}

fn decode(part: &str) -> Option<String> {
    percent_decode_str(part).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameters(template: &str, path: &str) -> Option<Value> {
        Template::parse(template).unwrap().matches(path).map(Value::Object)
    }

    #[test]
    fn templates_match_as_in_asp_net() {
        assert_eq!(parameters("admissions", "Admissions/"), Some(json!({})));
        assert_eq!(parameters("admissions/{id}/discharge", "admissions/4%202/discharge"), Some(json!({ "id": "4 2" })));
        assert_eq!(parameters("admissions/{id}", "admissions"), None);
        assert_eq!(parameters("admissions/{id?}", "admissions"), Some(json!({})));
        assert_eq!(parameters("{*path}", "a/b"), Some(json!({ "path": "a/b" })));
        assert_eq!(parameters("{*path}", ""), Some(json!({})));
        assert_eq!(parameters("a", "a/b"), None);
        assert_eq!(parameters("a/{x}", "a/%ff"), None);
    }

    #[test]
    fn the_more_literal_route_comes_first() {
        let mut templates: Vec<Template> =
            ["{*path}", "{id}", "a/{id}", "a/b", "a"].iter().map(|text| Template::parse(text).unwrap()).collect();
        templates.sort_by(Template::precedence);
        assert_eq!(templates.iter().map(Template::as_str).collect::<Vec<_>>(), ["a", "a/b", "a/{id}", "{id}", "{*path}"]);
    }

    #[test]
    fn what_is_not_played_is_refused() {
        for text in ["{id:int}", "a{id}", "{*path}/a", "{id?}/a", "a//b", "{}", ""] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
