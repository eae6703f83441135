//! Dates as hospitals write them.

use chrono::NaiveDate;

/// Reads `M/D/YYYY`, `M/D/YY`, `YYYY-MM-DD`, and each of them with a time of day behind `T` or a blank, whose date part counts as written.
///
/// A two-digit year from 00 to 68 is 2000 to 2068, from 69 to 99 it is 1969 to 1999 (POSIX `strptime`, `%y`).
pub(super) fn parse(text: &[u8]) -> Option<NaiveDate> {
    let end = text.iter().position(|byte| matches!(byte, b'T' | b't' | b' ')).unwrap_or(text.len());
    let (date, rest) = text.split_at(end);
    if !rest.is_empty() && !is_time(&rest[1..]) {
        return None;
    }
    let iso = date.get(4) == Some(&b'-');
    let mut parts = date.split(|byte| *byte == if iso { b'-' } else { b'/' });
    let (a, b, c) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (year, month, day) =
        if iso { (digits(a, 4, 4)?, digits(b, 2, 2)?, digits(c, 2, 2)?) } else { (year(c)?, digits(a, 1, 2)?, digits(b, 1, 2)?) };
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
}

fn year(text: &[u8]) -> Option<u32> {
    match (text.len(), digits(text, 2, 4)?) {
        (2, year @ 0..=68) => Some(2000 + year),
        (2, year) => Some(1900 + year),
        (4, year) => Some(year),
        _ => None,
    }
}

/// A number of `min` to `max` digits.
fn digits(text: &[u8], min: usize, max: usize) -> Option<u32> {
    if !(min..=max).contains(&text.len()) {
        return None;
    }
    text.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')))
}

/// `H:MM`, `HH:MM:SS`, `HH:MM:SS.fff`, with `AM`, `PM`, `Z` or an offset behind.
fn is_time(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let end = text.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b':' | b'.')).unwrap_or(text.len());
    let (clock, zone) = text.split_at(end);
    let mut parts = clock.splitn(3, |byte| *byte == b':');
    let hour = parts.next().and_then(|part| digits(part, 1, 2)).is_some_and(|hour| hour <= 23);
    let minute = parts.next().and_then(|part| digits(part, 2, 2)).is_some_and(|minute| minute <= 59);
    hour && minute && parts.next().is_none_or(is_seconds) && is_zone(zone.trim_ascii_start())
}

/// `SS` or `SS.fff`; 60 is a leap second.
fn is_seconds(text: &[u8]) -> bool {
    let (seconds, fraction) = text.split_at(text.len().min(2));
    let fraction_ok = match fraction {
        [] => true,
        [b'.', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    fraction_ok && digits(seconds, 2, 2).is_some_and(|seconds| seconds <= 60)
}

fn is_zone(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b'+' | b'-', offset @ ..] => match offset {
            [hours @ .., b':', _, _] if hours.len() == 2 => offset.iter().filter(|byte| byte.is_ascii_digit()).count() == 4,
            _ => digits(offset, 2, 4).is_some() && offset.len() != 3,
        },
        _ => ["Z", "AM", "PM"].iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_of_a_day_reads_the_same() {
        let day = NaiveDate::from_ymd_opt(2012, 5, 3);
        for text in [
            "5/3/2012",
            "05/03/2012",
            "05/03/12",
            "2012-05-03",
            "2012-05-03T23:59:59Z",
            "2012-05-03T23:59:59.999+14:00",
            "2012-05-03 00:00:00 -0800",
            "2012-05-03T08:00+01",
            "5/3/2012 12:00:00 AM",
            "5/3/2012 0:00",
        ] {
            assert_eq!(parse(text.as_bytes()), day, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_day_is_refused() {
        for text in [
            "",
            "5",
            "5/3",
            "5/3/2012/1",
            "13/1/2012",
            "2/30/2012",
            "2/29/2013",
            "0/1/2012",
            "5/3/212",
            "5/3/02012",
            "2012-5-3",
            "2012-05-03T",
            "2012-05-03T24:00",
            "2012-05-03T10:60",
            "2012-05-03T10:00:61",
            "2012-05-03T10:00:00.",
            "2012-05-03T10:00 UTCX",
            "2012-05-03T10:00+1",
            "2012-05-03T10:00+aa:bb",
            "2012/05/03",
            "20120503",
            "5-3-2012",
            "+5/3/2012",
            "41054",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn two_digit_years_pivot_at_69() {
        assert_eq!(parse(b"1/1/00"), NaiveDate::from_ymd_opt(2000, 1, 1));
        assert_eq!(parse(b"12/31/68"), NaiveDate::from_ymd_opt(2068, 12, 31));
        assert_eq!(parse(b"1/1/69"), NaiveDate::from_ymd_opt(1969, 1, 1));
        assert_eq!(parse(b"1/1/99"), NaiveDate::from_ymd_opt(1999, 1, 1));
    }
}
