//! Numbers as people write and read them.

use std::time::Duration;

/// Reads a time: `2`, `0.5`, `2s`, `500ms`, `1m`, `1h`.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a time such as 2s, 500ms or 1m");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    // "inf", "nan", "1e9" and "-1" are numbers to the parser, and no times.
    if !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wrong());
    }
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let seconds = number * unit;
    if seconds > 86_400.0 * 365.0 {
        return Err(format!("\"{text}\" is longer than a year"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Reads a time longer than nothing.
pub fn parse_some_time(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time < Duration::from_millis(1) {
        return Err("must be at least 1ms".to_owned());
    }
    Ok(time)
}

/// Reads `name=value`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("\"{text}\" is not COLUMN=VALUE")),
    }
}

/// A time in one or two units.
pub fn time(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    seconds(duration.as_secs())
}

/// Whole seconds in one or two units: `42s`, `3m5s`, `2h10m`, `4d3h`.
pub fn seconds(seconds: u64) -> String {
    let two = |big: u64, large: char, small: u64, little: char| match small {
        0 => format!("{big}{large}"),
        small => format!("{big}{large}{small}{little}"),
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(minutes, 'm', seconds % 60, 's'),
        3600..86_400 => two(hours, 'h', minutes % 60, 'm'),
        _ => two(days, 'd', hours % 24, 'h'),
    }
}

/// Octets in the largest unit that leaves at least one: `512 B`, `1.5 KiB`, `20 MiB`.
pub fn bytes(octets: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if octets < 1024 {
        return format!("{octets} B");
    }
    // In tenths, rounded; what would round to 1024 is one of the next unit.
    let mut shift = 10_u32;
    for unit in UNITS {
        let tenths = ((u128::from(octets) * 10) + (1_u128 << (shift - 1))) >> shift;
        if tenths < 10_240 || shift == 60 {
            return if tenths < 100 {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            } else {
                let whole = (u128::from(octets) + (1_u128 << (shift - 1))) >> shift;
                format!("{whole} {unit}")
            };
        }
        shift += 10;
    }
    format!("{octets} B")
}

/// The speed of a link: `100 Mb/s`, `2.5 Gb/s`.
pub fn megabits(number: u64) -> String {
    match (number / 1000, number % 1000 / 100) {
        (0, _) => format!("{number} Mb/s"),
        (giga, 0) => format!("{giga} Gb/s"),
        (giga, tenths) => format!("{giga}.{tenths} Gb/s"),
    }
}

/// A number with its thousands set apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 object`, `2 objects`.
pub fn plural(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_units() {
        for (text, millis) in [
            ("2", 2000),
            ("0", 0),
            ("0.5", 500),
            ("2s", 2000),
            ("250ms", 250),
            ("1m", 60_000),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(
                parse_time(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "-1",
            "inf",
            "nan",
            "1e3",
            "1.2.3",
            "2 s",
            "2d",
            "99999999h",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert!(parse_some_time("0").is_err());
    }

    #[test]
    fn durations_are_shown_in_at_most_two_units() {
        for (number, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (185, "3m5s"),
            (3600, "1h"),
            (7_800, "2h10m"),
            (86_400, "1d"),
            (356_400, "4d3h"),
        ] {
            assert_eq!(seconds(number), text);
        }
        assert_eq!(time(Duration::from_millis(250)), "250ms");
    }

    #[test]
    fn octets_are_shown_in_the_largest_unit_that_fits() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10_239, "10 KiB"),
            (1_048_575, "1.0 MiB"),
            (20 << 20, "20 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(number), text, "{number}");
        }
    }

    #[test]
    fn speeds_are_shown_as_on_the_box() {
        for (number, text) in [
            (0, "0 Mb/s"),
            (100, "100 Mb/s"),
            (2500, "2.5 Gb/s"),
            (100_000, "100 Gb/s"),
        ] {
            assert_eq!(megabits(number), text);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
    }
}
